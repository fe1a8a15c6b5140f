"""All of them."""

from __future__ import annotations

from .control import AnswerSurface, ControlSurface
from .files import InstanceSurface, SystemdSurface, UnitSurface
from .handover import HandoverSurface, WelcomeSurface
from .surface import Surface
from .workers import LinkSurface, NotifySurface

SURFACES: tuple[type[Surface], ...] = (
    ControlSurface,
    AnswerSurface,
    NotifySurface,
    LinkSurface,
    HandoverSurface,
    WelcomeSurface,
    InstanceSurface,
    UnitSurface,
    SystemdSurface,
)
