"""Checks a unit that runs sdsupervise. Each rule describes a failure that was observed on a real systemd.

A finding is an error if something does not work at all, or reports something false. It is a warning if it works until
something else fails.
"""

import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..errors import CannotWrap
from ..settings.settings import Settings
from . import words
from .finding import ERROR, Finding
from .rules import RULES
from .subject import Host, Subject, option, reloads, reloads_by_us, runs_us, settings_in
from .text import UnitText
from .wrap import wrap

_UNKNOWN = Host()
_NONE: Mapping[str, str] = MappingProxyType({})


def lint(
    unit: UnitText,
    settings: Settings | None = None,
    host: Host = _UNKNOWN,
    *,
    user: str | None = None,
    given: Sequence[str] = (),
    variables: Mapping[str, str] | None = _NONE,
) -> list[Finding]:
    """The problems of a unit, errors first; [] if there is none.

    Pass the settings of its service, and the user it becomes, if they are known; without them, the options in
    ExecStart= are used. `given` and `variables` are those of wrap().
    """
    starts = [command for value in unit.values("ExecStart") for command in words.commands(value)]
    if not any(map(runs_us, starts)) and not any(map(reloads_by_us, reloads(unit))):
        return [Finding("ExecStart", "it does not run sdsupervise", _how_to_wrap(unit, host, given, variables))]
    if len(starts) != 1:
        return [
            Finding(
                "ExecStart", f"it has {len(starts)} commands, but a supervisor runs only one", "leave one ExecStart="
            )
        ]
    users = [user] if user else option(starts[0], "--user")
    subject = Subject(unit, starts[0], settings or settings_in(starts[0]), host, (users or [""])[-1])
    found = [finding for rule in RULES for finding in rule(subject)]
    return sorted(found, key=lambda finding: finding.severity != ERROR)


def _how_to_wrap(unit: UnitText, host: Host, given: Sequence[str], variables: Mapping[str, str] | None) -> str:
    """The command that puts a unit under sdsupervise, or why that is refused; a clause."""
    command = f"sdsupervise unit wrap {shlex.quote(unit.name)}"
    try:
        wrap(unit, given=given, variables=variables, own=host.own)
    except CannotWrap as error:
        return f"{command} refuses it: {str(error).removesuffix('.')}"
    return f"try {command}"
