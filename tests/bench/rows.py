"""What is measured, in the order of the table."""

from collections.abc import Callable, Iterable

from . import alone, booted, crowds, starting, traffic
from .effort import Effort
from .measure import Row

ALL: tuple[Callable[[Effort], Iterable[Row]], ...] = (
    traffic.traffic,
    starting.first_request,
    starting.respawn_beside_gunicorn,
    crowds.crowd,
    crowds.crowd_of_commands,
    alone.respawn,
    alone.ping,
    alone.memory,
    alone.idle,
    alone.reload,
    booted.reload_by_systemd,
)
