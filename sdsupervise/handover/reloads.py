"""The reloads of one supervisor: the running one, the waiting one, and the last one."""

import logging
from collections.abc import Callable

from ..core.takeover import State
from ..systemd.catalog import CatalogEntry, entry_fields
from .counters import Counters
from .reload import Reload, remark

_log = logging.getLogger("sdsupervise")


class Reloads:
    """Keeps the reloads, counts them, and logs the phases of the running one."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._last: Reload | None = None
        self._of_predecessor: dict[str, object] | None = None  # the facts of the last reload, if a predecessor ran it
        self.running: Reload | None = None
        self.waiting: Reload | None = None  # begins when the peer has left

    @property
    def remark(self) -> str:
        """One sentence about the last reload; "" if there is nothing to mention."""
        return remark(self.facts())

    @property
    def knows_predecessors(self) -> bool:
        """Whether the predecessor has sent the result of its reload."""
        return self._of_predecessor is not None

    def facts(self) -> dict[str, object] | None:
        """What status shows of the last reload."""
        return self._last.facts() if self._last is not None else self._of_predecessor

    def note_predecessors(self, facts: dict[str, object] | None) -> None:
        """Keep the result of the predecessor's reload."""
        self._of_predecessor = facts

    def wait(self, reload: Reload, generation: int, *, at_most: float) -> None:
        """Let a reload wait until this generation has left, `at_most` so many seconds."""
        self.waiting = reload
        reload.enter("waiting", f"waiting for generation {generation} to leave", at_most=at_most)

    def begin_waiting(self) -> None:
        """Make the waiting reload the running one."""
        self.running, self.waiting = self.waiting, None

    def enter(self, state: State, sentence: str, *, at_most: float) -> None:
        """Send the caller, and log, which phase begins and how many seconds it may take.

        A phase that is over at once has no sentence.
        """
        if self.running is None:
            return
        if state is State.YIELDING:
            self.running.stopped_workers = True
        self.running.enter(state.name.lower(), sentence, at_most=at_most)
        if state is State.STARTING_SUCCESSOR and self.running.not_applied:
            self.note(f"no change of the unit is applied: {self.running.not_applied}")
        if sentence and state is State.STARTING_SUCCESSOR:
            extra = entry_fields(CatalogEntry.RELOAD_STARTED, reason=f"asked by {self.running.asked_by}")
            _log.info("%s", sentence, extra=extra)
        elif sentence:
            _log.info("%s", sentence, extra=entry_fields(CatalogEntry.RELOAD_PHASE, phase=state.name.lower()))

    def note(self, sentence: str) -> None:
        """Send the caller of the running reload a sentence within a phase."""
        if self.running is not None:
            self.running.note(sentence)

    def bound(self, sentence: str, *, at_most: float) -> None:
        """The phase of the running reload may take `at_most` so many seconds from now."""
        if self.running is not None:
            self.running.bound(sentence, at_most=at_most)

    def refuse(self, reload: Reload, why: str, *, stops: bool) -> None:
        """Refuse a reload that has not begun; `stops` says that the service stops."""
        extra = entry_fields(CatalogEntry.RELOAD_REFUSED, verdict="refused", reason=why)
        _log.warning("Reload asked by %s refused: %s", reload.asked_by, why, extra=extra)
        reload.refuse(why, stops=stops)
        self._counters.count_reload(reload.facts())

    def end(self, *, tell_counters: Callable[[], None]) -> None:
        """The running reload has its verdict: count it, and send the counts to the successor while it is our peer."""
        assert self.running is not None
        self._counters.count_reload(self.running.facts())
        tell_counters()
        self._last, self.running = self.running, None

    def close_in_child(self) -> None:
        """Close a forked worker's copies of the descriptors."""
        if self.running is not None:
            self.running.close_in_child()
