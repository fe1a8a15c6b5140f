"""The supervisor, as its own parts see it."""

from typing import Protocol

from ..core.takeover import Event, State
from ..errors import ExitStatus
from ..handover.handover import Handover
from ..handover.started import Started
from ..settings.settings import Settings
from ..systemd.reporter import Reporter
from ..workers.pool import Pool
from .generation_log import GenerationLog
from .status import Status


class Shell(Protocol):
    """What each part of a supervisor may use of the others."""

    generation: int
    state: State
    is_main: bool
    exit_status: int
    settings: Settings
    started: Started
    reporter: Reporter
    pool: Pool
    handover: Handover
    generation_log: GenerationLog
    status: Status

    def happen(self, event: Event) -> None:
        """Take an event; what its effects cause comes after it, in order."""

    def look_and_happen(self, event: Event) -> None:
        """The same, unless a signal or the peer's death changes the state first."""

    def reconsider(self) -> None:
        """A lasting condition may have become true."""

    @property
    def checks(self) -> bool:
        """before_commit runs."""

    @property
    def longest_wait(self) -> float:
        """Seconds until this state ends at the latest."""

    def note_serving(self, *, by_verdict: bool = False) -> None:
        """If this is the generation that serves, it is said so, from its first worker on that does."""

    def worker_serves(self) -> None:
        """One more does, later than it was released."""

    def count(self, what: str, *which: str, amount: float = 1) -> None:
        """Count something, for monitoring."""

    def give_up(self, status: ExitStatus, why: str) -> None:
        """The supervisor leaves with this status, whatever comes; the reason is the last STATUS=."""

    def put_off_deadline(self, seconds: float) -> None:
        """The deadline of this state comes in so many seconds at the earliest."""

    def tell_status(self, *, ready: bool = False) -> None:
        """Tell systemd how we stand, if we are the main supervisor; with `ready` also READY=1."""

    def tell_status_soon(self) -> None:
        """Something that STATUS= shows has changed."""
