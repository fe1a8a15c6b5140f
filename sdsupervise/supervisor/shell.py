"""The supervisor from the side of its parts."""

from collections.abc import Mapping
from typing import Protocol

from ..core.takeover import Event, State
from ..errors import ExitStatus
from ..handover.handover import Handover
from ..handover.peer import NotifySetting
from ..handover.started import Started
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry
from ..systemd.reporter import Reporter
from ..workers.pool import Pool
from .generation_log import GenerationLog
from .status import Status


class Shell(Protocol):
    """What each part of a supervisor may use of the supervisor and its other parts."""

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
        """Handle an event. The events that its effects cause are handled after it, in order."""

    def look_and_happen(self, event: Event) -> None:
        """Handle an event, unless a waiting signal or the peer's death changes the state first."""

    def reconsider(self) -> None:
        """Check the lasting conditions: one may have become true."""

    @property
    def checks(self) -> bool:
        """Whether before_commit runs."""

    @property
    def longest_wait(self) -> float:
        """Seconds until this state ends at the latest."""

    def note_serving(self, *, by_verdict: bool = False) -> None:
        """Report that this generation serves, if it does and has a worker that serves (or the verdict says so)."""

    def worker_serves(self) -> None:
        """One more worker serves, some time after its release."""

    def count(self, what: str, *which: str, amount: float = 1) -> None:
        """Add to a counter; see Counters.count."""

    def give_up(self, status: ExitStatus, why: str) -> None:
        """Exit with this status in any case; the reason becomes the last STATUS=."""

    def end(self, status: int, why: str) -> None:
        """Exit with this status, because the command has ended; the reason becomes the last STATUS=."""

    def reload_ended(
        self, entry: CatalogEntry, facts: Mapping[str, object], notify_setting: NotifySetting | None
    ) -> None:
        """A reload has its verdict."""

    def put_off_deadline(self, seconds: float) -> None:
        """Let the deadline of this state end no earlier than in this many seconds."""

    def tell_status(self, *, ready: bool = False) -> None:
        """Send systemd the present STATUS=, if this is the main supervisor; with `ready` also READY=1."""

    def tell_status_soon(self) -> None:
        """Call tell_status in the next turn of the event loop: something in STATUS= has changed."""
