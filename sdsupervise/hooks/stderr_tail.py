"""Finds what a command wrote to standard error before it died, for the caller of the reload that failed because of it.

A command writes straight to the journal. No process of ours stands between, which could delay the command or die before
it. So the search is in the journal, by the command's pid. If there is no journal, or this user may not read it, the
reason names the place where the output is instead.

Rejected: a pipe that the supervisor reads and passes on. It must exist as long as the command. The journal would show
the supervisor as the author, much output would have to wait for the supervisor, and the command would get SIGPIPE when
the supervisor is killed.
"""

import os
from collections.abc import Callable

from ..linux.event_loop import EventLoop, Timer
from ..systemd.journal import command_for_words_of, oldest_first
from ..systemd.own_programs import search_path
from .hook import Hook

_TIMEOUT_SECONDS = 2.0  # for one search; a journal may have gigabytes
_PAUSES_SECONDS = (0.1, 0.4)  # before further searches: the last lines may not have arrived yet


class LastWords:
    """Searches for the output of one process, by pid, since a time (seconds of the epoch).

    Calls `on_end` once with the output, and with whether the search was possible; never after `cancel`.
    """

    def __init__(self, loop: EventLoop, pid: int, since: float, *, on_end: Callable[[str, bool], None]) -> None:
        self._loop, self._on_end = loop, on_end
        self._command = command_for_words_of(pid, since)
        self._pauses = list(_PAUSES_SECONDS)
        self._hook: Hook | None = None
        self._timer: Timer | None = loop.call_later(0, self._look)

    def cancel(self) -> None:
        """Stop the search. `on_end` is not called any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._hook is not None:
            self._hook.cancel()

    def _look(self) -> None:
        self._timer = None
        try:
            self._hook = Hook(
                *(self._loop, "journalctl", self._command, _TIMEOUT_SECONDS),
                environment=search_path(),
                on_end=self._looked,
            )
        except OSError:
            self._on_end("", False)

    def _looked(self, why_failed: str, output: str) -> None:
        self._hook = None
        if why_failed:
            self._on_end("", False)
        elif output or not self._pauses:
            # A user who may read only their own entries finds nothing here, too.
            self._on_end(oldest_first(output), bool(output) or os.geteuid() == 0)
        else:
            self._timer = self._loop.call_later(self._pauses.pop(0), self._look)


def where_they_are(pid: int) -> str:
    """Where a command's standard error goes if it is not the journal, as a clause.

    The command shares its standard error with this process and with `pid`. Whether it wrote anything is unknown.
    """
    try:
        place = os.readlink("/proc/self/fd/2")
    except OSError:
        return "it has no standard error"
    if place == os.devnull:
        return f"its standard error is {os.devnull}"
    file = f", {place}" if place.startswith("/") else ""  # else pipe:[7], socket:[7]
    return f"its output went to the standard error of pid {pid}{file}"
