"""What a command wrote to standard error before it died, for the caller of the reload that it made fail.

A command writes straight to the journal: nothing of ours stands in between, which it would have to wait for, or which
could be gone before it. So its words are looked for where they have arrived, by its pid. Where there is no journal, or
this user may not read it, the reason names the place instead.

Rejected: a pipe that we read and pass on. It would have to stay for as long as the command lives, whose entries would
be ours then, who would wait for us when it writes much, and who would get SIGPIPE when we are killed.
"""

import os
from collections.abc import Callable

from ..linux.event_loop import EventLoop, Timer
from ..systemd.journal import command_for_words_of
from ..systemd.own_programs import search_path
from .hook import Hook

_TIMEOUT_SECONDS = 2.0  # of one look, in a journal of gigabytes
_PAUSES_SECONDS = (0.1, 0.4)  # before another: what has just been written may still be on its way


class LastWords:
    """Of one process, by its pid, which has written them since this time (of the epoch). `on_end` hears them once, and
    whether they could be looked for at all; never after `cancel`."""

    def __init__(self, loop: EventLoop, pid: int, since: float, on_end: Callable[[str, bool], None]) -> None:
        self._loop, self._on_end = loop, on_end
        self._command = command_for_words_of(pid, since)
        self._pauses = list(_PAUSES_SECONDS)
        self._hook: Hook | None = None
        self._timer: Timer | None = loop.call_later(0, self._look)

    def cancel(self) -> None:
        """Nobody wants to know any more."""
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
            # One that may read but the entries of its own finds nothing, too.
            self._on_end(output, bool(output) or os.geteuid() == 0)
        else:
            self._timer = self._loop.call_later(self._pauses.pop(0), self._look)


def where_they_are(pid: int) -> str:
    """Where to look for what a command wrote to standard error, which is not the journal and which it shares with us
    and with `pid`: a clause. Whether it wrote anything is not known."""
    try:
        place = os.readlink("/proc/self/fd/2")
    except OSError:
        return "it has no standard error"
    if place == os.devnull:
        return f"its standard error is {os.devnull}"
    file = f", {place}" if place.startswith("/") else ""  # else pipe:[7], socket:[7]
    return f"its output went to the standard error of pid {pid}{file}"
