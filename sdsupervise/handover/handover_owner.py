"""What a handover asks of its supervisor."""

from collections.abc import Mapping
from typing import Protocol

from ..core.takeover import Event
from ..systemd.catalog import CatalogEntry
from .peer import NotifySetting


class HandoverOwner(Protocol):
    """What a handover asks of its supervisor."""

    def happen(self, event: Event) -> None:
        """Something of the takeover table's has."""

    def reconsider(self) -> None:
        """A lasting condition may have become true: a generation that drained is gone, words were found."""

    def lock_may_be_free(self) -> None:
        """A process that may have held it is dead, or says so."""

    def be_unwanted(self) -> None:
        """The predecessor lives, and wants no successor any more."""

    def be_named(self) -> None:
        """The predecessor tells systemd that we are the main pid."""

    def put_off_deadline(self, seconds: float) -> None:
        """The peer has so many seconds more for what we wait for."""

    def bind_deadline(self, seconds: float) -> None:
        """What we wait for has so many seconds from now, more or fewer than before."""

    def let_successor_leave(self, seconds: float) -> None:
        """The successor has said why it fails, and is gone in so many seconds."""

    def lane_is_needed(self) -> None:
        """The generation after the next one needs the lane that our workers may still be in."""

    def reload_ended(
        self, entry: CatalogEntry, facts: Mapping[str, object], notify_setting: NotifySetting | None
    ) -> None:
        """A reload has its verdict, and no other supervisor runs notify_command for it: the new code's, if the old code
        has none."""
