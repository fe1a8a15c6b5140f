"""Searches the journal for the output of a successor's worker that died and sent no failure reason."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..input.printable import MOST_OF_REASON, fit, fit_failure, printable, reason_in
from ..linux.event_loop import EventLoop
from .peer import Peer
from .reload import Reload

if TYPE_CHECKING:
    from ..hooks.stderr_tail import LastWords


class WordsSearch:
    """One search at a time, for the running reload."""

    def __init__(self, loop: EventLoop, *, executes: bool, on_end: Callable[[], None]) -> None:
        """With `executes` the workers are executed, and write to the journal. A class's worker sends its traceback."""
        self._loop, self._executes, self._on_end = loop, executes, on_end
        self._last_words: LastWords | None = None
        self.silent: int | None = None  # the pid of a worker whose output was not found
        if executes:
            from ..hooks import stderr_tail  # noqa: F401  # now, not during a later upgrade of this package

    @property
    def looks(self) -> bool:
        """Whether a search runs."""
        return self._last_words is not None

    def look(self, peer: Peer, reload: Reload, silent: object) -> None:
        """Search for the output of this worker of the peer; `silent` is its pid."""
        if self._last_words is not None or not isinstance(silent, int) or not peer.knows_worker(silent):
            return
        if not self._executes:  # a class's supervisor has not imported the search
            self._end(peer, silent, "", looked=False)
            return
        from ..hooks.stderr_tail import LastWords

        self._last_words = LastWords(self._loop, silent, reload.asked_at, on_end=partial(self._end, peer, silent))

    def forget(self) -> None:
        """Cancel the search: the reload has its verdict."""
        if self._last_words is not None:
            self._last_words.cancel()
        self._last_words = self.silent = None

    def _end(self, peer: Peer, pid: int, words: str, looked: bool) -> None:
        self._last_words = None
        if words:
            peer.reason = fit(f"{peer.reason.rstrip('.')}: {reason_in(words)}", MOST_OF_REASON)
            peer.traceback = fit_failure(words)
        elif not looked:
            self.silent = pid
            peer.reason = f"{peer.reason.rstrip('.')}; its output: journalctl _PID={pid}"
        self._on_end()


def why_failed(reload: Reload, peer: Peer) -> tuple[str, str]:
    """The reason and the traceback of a failed reload; the traceback is "" if there is none.

    Both are a service's own text: made printable, because they reach the terminals of other users, including root.
    """
    said = fit_failure(printable(reload.last_words()))
    if peer.reason:
        return printable(peer.reason), printable(peer.traceback) or said
    return reason_in(said) or "The successor died without a message.", said
