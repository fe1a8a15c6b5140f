"""The reloads of one supervisor: the one that runs, the one that waits for its turn, and the last one."""

import logging
from collections.abc import Callable

from ..core.takeover import State
from ..systemd.catalog import CatalogEntry, entry_fields
from .counters import Counters
from .reload import Reload, remark

_log = logging.getLogger("sdsupervise")


class Reloads:
    """Keeps them, counts them, and logs how far the running one is."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._last: Reload | None = None
        self._of_predecessor: dict[str, object] | None = None  # the facts of the last one, if that was a predecessor's
        self.running: Reload | None = None
        self.waiting: Reload | None = None  # begins when the generation before has left

    @property
    def remark(self) -> str:
        """One sentence about the last reload if there is anything to remember of it, else empty."""
        return remark(self.facts())

    @property
    def knows_predecessors(self) -> bool:
        """The predecessor has said how its reload went."""
        return self._of_predecessor is not None

    def facts(self) -> dict[str, object] | None:
        """What status shows of the last reload."""
        return self._last.facts() if self._last is not None else self._of_predecessor

    def note_predecessors(self, facts: dict[str, object] | None) -> None:
        """The predecessor says how its reload went."""
        self._of_predecessor = facts

    def wait(self, reload: Reload, generation: int, *, at_most: float) -> None:
        """Let it wait until this generation has left, so many seconds at most."""
        self.waiting = reload
        reload.enter("waiting", f"waiting for generation {generation} to leave", at_most=at_most)

    def begin_waiting(self) -> None:
        """The turn of the one that waits has come."""
        self.running, self.waiting = self.waiting, None

    def enter(self, state: State, sentence: str, *, at_most: float) -> None:
        """Tell the caller of the reload, and the log, which phase begins, and how many seconds it may take.

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
        """Tell the caller of the running one something within a phase."""
        if self.running is not None:
            self.running.note(sentence)

    def bound(self, sentence: str, *, at_most: float) -> None:
        """The phase of the running one may take so many seconds from now."""
        if self.running is not None:
            self.running.bound(sentence, at_most=at_most)

    def refuse(self, reload: Reload, why: str, *, stops: bool) -> None:
        """It never begins; `stops` says that the service is to end."""
        extra = entry_fields(CatalogEntry.RELOAD_REFUSED, verdict="refused", reason=why)
        _log.warning("Reload asked by %s refused: %s", reload.asked_by, why, extra=extra)
        reload.refuse(why, stops=stops)
        self._counters.count_reload(reload.facts())

    def end(self, tell_counters: Callable[[], None]) -> None:
        """The running one has its verdict. The successor hears what is counted while it is still the running one."""
        assert self.running is not None
        self._counters.count_reload(self.running.facts())
        tell_counters()
        self._last, self.running = self.running, None

    def close_in_child(self) -> None:
        """In a forked worker, its copies."""
        if self.running is not None:
            self.running.close_in_child()
