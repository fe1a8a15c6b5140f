"""Stops the processes that a dead program left running: it logs each, sends the stop signal, and kills what remains."""

import logging
import os
import signal
from collections.abc import Callable

from ..input.printable import printable
from . import signals
from .event_loop import EventLoop, Timer
from .process_groups import Found

_log = logging.getLogger("sdsupervise")


def _ignore(_process: Found) -> None:
    pass


class Leftovers:
    """Stops all processes that `find` returns, until it returns none, and then calls `gone`, never from the
    constructor.

    `found` gets each process. Each gets `stop_signal`, and is killed `grace` seconds after it was found; None means
    only when `kill` is called.
    """

    def __init__(
        self,
        loop: EventLoop,
        worker_pid: int,
        stop_signal: signal.Signals,
        grace: float | None,
        *,
        find: Callable[[], list[Found]],
        gone: Callable[[], None],
        found: Callable[[Found], None] = _ignore,
    ) -> None:
        self._loop, self._find, self._worker_pid, self._gone = loop, find, worker_pid, gone
        self._stop_signal, self._grace, self._found = stop_signal, grace, found
        self._living: dict[int, int] = {}  # pid: pidfd
        self._not_ours: set[int] = set()  # of another user; not waited for
        self._kills = False
        self._timer: Timer | None = None
        loop.call_later(0, self._look)

    def kill(self) -> None:
        """Send SIGKILL to these processes, and to those that are found from now on."""
        if self._kills:
            return
        self._kills = True
        if self._living:
            _log.warning(
                "Killing what worker (pid %d) left behind: pids %s", self._worker_pid, ", ".join(map(str, self._living))
            )
        for pidfd in self._living.values():
            signals.send(pidfd, signal.SIGKILL)

    def _look(self) -> None:
        for process in self._find():
            if process.pid in self._living or process.pid in self._not_ours:
                os.close(process.pidfd)
                continue
            what = printable(str(process))
            if not signals.send(process.pidfd, signal.SIGKILL if self._kills else self._stop_signal):
                _log.warning(
                    "Worker (pid %d) left a process behind that the supervisor has no permission to end: %s",
                    self._worker_pid,
                    what,
                )
                self._not_ours.add(process.pid)
                os.close(process.pidfd)
                continue
            _log.warning("Worker (pid %d) left a process behind: %s; ending it", self._worker_pid, what)
            self._found(process)
            self._living[process.pid] = process.pidfd
            self._watch(process.pid, process.pidfd)
        if not self._living:
            self._end()
        elif self._timer is None and self._grace is not None:
            self._timer = self._loop.expect_within(self._grace, self.kill)

    def _watch(self, pid: int, pidfd: int) -> None:
        def died() -> None:
            del self._living[pid]
            self._loop.unwatch(pidfd)
            os.close(pidfd)
            if not self._living:
                self._look()  # it may have forked meanwhile

        self._loop.watch(pidfd, died)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._gone()
