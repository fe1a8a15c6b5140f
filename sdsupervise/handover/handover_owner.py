"""What a handover reports to its supervisor, and asks of it."""

from collections.abc import Mapping
from typing import Protocol

from ..core.takeover import Event
from ..systemd.catalog import CatalogEntry
from .peer import NotifySetting


class HandoverOwner(Protocol):
    """What a handover reports to its supervisor, and asks of it."""

    def happen(self, event: Event) -> None:
        """An event of the takeover table has happened."""

    def reconsider(self) -> None:
        """A lasting condition may have become true: a draining generation is gone, or the journal search has ended."""

    def lock_may_be_free(self) -> None:
        """A process that may have held the lock is dead, or has released the lock."""

    def peer_wants_no_successor(self) -> None:
        """The predecessor lives, and has closed the channel: it wants no successor any more."""

    def main_pid_is_named(self) -> None:
        """The predecessor tells systemd that this process is the main pid."""

    def put_off_deadline(self, seconds: float) -> None:
        """The peer has this many seconds more for what this supervisor waits for."""

    def bind_deadline(self, seconds: float) -> None:
        """Set the deadline for the peer to this many seconds from now, earlier or later than before."""

    def let_successor_leave(self, seconds: float) -> None:
        """The successor has given its failure reason, and exits within this many seconds."""

    def lane_is_needed(self) -> None:
        """The generation after the next one needs the lane that our workers may still use."""

    def reload_ended(
        self, entry: CatalogEntry, facts: Mapping[str, object], notify_setting: NotifySetting | None
    ) -> None:
        """A reload has its verdict, and no other supervisor runs notify_command for it.

        `notify_setting` is the new code's; it counts if the old code has none.
        """
