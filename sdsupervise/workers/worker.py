"""A worker as its supervisor sees it: its process, how far it is, and the deadlines that are its own."""

import logging
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from ..linux import processes, signals
from ..linux.event_loop import EventLoop, Timer
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields

_log = logging.getLogger("sdsupervise")

# A worker that hangs is asked for a traceback, so many seconds later for a core (SIGABRT), then killed.
_TRACEBACK_SECONDS = 1.0
_ABORT_SECONDS = 5.0


class WorkerState(Enum):
    """How far a worker is."""

    SPARE = "spare"  # forked ahead, runs no service code before it is let go
    STARTING = "starting"
    READY = "ready"  # waits for its release
    SERVING = "serving"
    STOPPING = "stopping"


class WorkerOwner(Protocol):
    """What a worker says of itself, and to whom."""

    def worker_ready(self, worker: "Worker") -> None:
        """It waits for its release; once."""

    def worker_asks_to_retire(self, worker: "Worker") -> None:
        """It asks to be replaced."""

    def worker_up(self, worker: "Worker") -> None:
        """It serves; once, and only where that is later than its release."""

    def worker_extends(self, worker: "Worker", seconds: float) -> None:
        """It asks for so many seconds more, to start or to stop."""

    def worker_gone(self, worker: "Worker") -> None:
        """It is dead, and nothing of it is left; once, at the very end."""


class Worker(ABC):
    """One living worker; how the two sides talk is a subclass's to say."""

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        child: processes.Child,
        owner: WorkerOwner,
        *,
        index: int,
        spare: bool,
    ) -> None:
        self._loop, self._settings, self._child, self._owner = loop, settings, child, owner
        self._timer: Timer | None = None  # of the deadline that is running: ready, next ping, abort or kill
        self._overdue: Timer | None = None  # of a stop that is its own, and not its generation's
        self.pid, self.pidfd = child.pid, child.pidfd
        self.index = index  # its slot, 0 to N-1; a spare gets one when it is let go
        self.state = WorkerState.SPARE if spare else WorkerState.STARTING
        self.started_at = time.monotonic()
        self.last_ping: float | None = None
        self.exit_status: int | None = None  # a wait status, once it is dead
        self.failure = ""  # the traceback it left
        self._ended_for = ""  # hung, start timeout: why we ended it; "" if we did not
        self.status = ""  # what it says of itself, where it can say such a thing
        self.told_to_stop_at: float | None = None
        self.held = False  # by SIGSTOP, while before_commit looks at another one
        loop.watch(child.pidfd, self._reap)
        self._expect_ready()

    @property
    def exit_in_words(self) -> str:
        """How it ended."""
        return processes.exit_in_words(self.exit_status) if self.exit_status is not None else "lives"

    @property
    def cause(self) -> str:
        """Of its end, for those who count: hung, start timeout, "status 1", "SIGSEGV"."""
        return self._ended_for or processes.cause_of_exit(self.exit_status or 0)

    @property
    def overdue_in_words(self) -> str:
        """What is lost when it is killed now, after it was told to stop."""
        now = time.monotonic()
        told = "" if self.told_to_stop_at is None else f" {now - self.told_to_stop_at:.1f} s ago"
        ping = "never sent a ping" if self.last_ping is None else f"sent its last ping {now - self.last_ping:.1f} s ago"
        status = f' and reported the last status "{self.status}"' if self.status else ""
        return f"got the signal to stop{told} and still runs; it {ping}{status}"

    @property
    def up(self) -> bool:
        """It serves, as far as can be known: a class does from its release on."""
        return self.was_up and self.exit_status is None

    @property
    def was_up(self) -> bool:
        """It serves, or did until it ended by itself."""
        return self.state is WorkerState.SERVING

    @property
    def waits_to_start(self) -> bool:
        """It runs nothing of the service's before its release."""
        return False

    @property
    def holder(self) -> processes.Child | None:
        """Who holds the lock for it, where that is another process; nobody is to kill that one."""
        return None

    @property
    def crashed(self) -> bool:
        """It ended otherwise than a worker may that leaves by itself."""
        return self.exit_status != 0

    @property
    def hopeless(self) -> bool:
        """Another one would end as this one has, until somebody changes what is started."""
        return False

    @property
    def lived(self) -> float:
        """Seconds since it was forked, or let go where it was a spare."""
        return time.monotonic() - self.started_at

    def facts(self) -> dict[str, object]:
        """What status shows of it; seconds."""
        ping = None if self.last_ping is None else round(time.monotonic() - self.last_ping, 3)
        return {
            "index": self.index,
            "pid": self.pid,
            "state": self.state.value,
            "age": round(self.lived, 3),
            "last_ping": ping,
            "status": self.status,
        }

    def let_go(self, index: int) -> None:
        """It may run service code, in this slot: the peer knows it now, or the spare is needed."""
        self.index = index
        self._tell_go()
        if self.state is WorkerState.SPARE:
            self.state = WorkerState.STARTING
            self.started_at = time.monotonic()
            self._expect_ready()
            os.sched_yield()  # it may have been woken on our core; nobody serves meanwhile, and our words can wait

    def release(self) -> None:
        """It may serve."""
        self.state = WorkerState.SERVING
        self._tell_release()

    def stop(self) -> None:
        """SIGTERM; the deadline for it is the takeover table's. A spare has nothing to finish."""
        if self.state is not WorkerState.STOPPING:
            spare = self.state is WorkerState.SPARE
            self.state = WorkerState.STOPPING
            self.told_to_stop_at = time.monotonic()
            self._cancel_timer()
            if spare:
                signals.send(self.pidfd, signal.SIGKILL)
            else:
                self._tell_stop()

    def drain(self, on_overdue: Callable[[], None]) -> None:
        """SIGTERM to one that alone is to leave: with a deadline of its own, and word when that has passed."""
        self.stop()
        self._cancel_overdue()
        self._overdue = self._loop.expect_within(self._settings.stop_timeout, on_overdue)

    def kill(self) -> None:
        """SIGKILL."""
        signals.send(self.pidfd, signal.SIGKILL)

    # ------------------------------------------------------------------------------------- what both sides say

    @abstractmethod
    def _tell_go(self) -> None:
        """It may run service code."""

    def _tell_stop(self) -> None:
        """It is to finish and to exit."""
        signals.send(self.pidfd, signal.SIGTERM)

    @abstractmethod
    def _tell_release(self) -> None:
        """It may serve."""

    @abstractmethod
    def _hear_the_rest(self) -> None:
        """It is dead: take in what it said before, and close what it said it through."""

    def _heard_ping(self) -> None:
        if self.last_ping is None and self._settings.worker_timeout and self.state is WorkerState.SERVING:
            self._expect_ping(self._settings.worker_timeout)
        self.last_ping = time.monotonic()

    def _heard_retire(self) -> None:
        self._owner.worker_asks_to_retire(self)

    def _heard_ready(self) -> None:
        if self.state is WorkerState.STARTING:
            self.state = WorkerState.READY
            self.failure = ""
            self._watch_pings()
            self._owner.worker_ready(self)
        elif self.state is WorkerState.SERVING:
            self._tell_release()

    # ------------------------------------------------------------------------------------------ its deadlines

    def _expect_ready(self) -> None:
        if self._settings.start_timeout and self.state is WorkerState.STARTING:
            self._expect_within(self._settings.start_timeout, self._never_ready)

    def _never_ready(self) -> None:
        self._ended_for = "start timeout"
        limit = self._settings.start_timeout
        extra = entry_fields(CatalogEntry.WORKER_LATE, worker=self, seconds=limit)
        _log.warning("Worker (pid %d) was not ready in %g s, ending it", self.pid, limit, extra=extra)
        self.failure = self.failure or f"The worker was not ready in {limit:g} s."
        self._ask_for_traceback()

    def _watch_pings(self) -> None:
        """From now on, instead of the deadline that was running; from its first ping on."""
        self._cancel_timer()
        if self.last_ping is not None and self._settings.worker_timeout:
            self._expect_ping(self._settings.worker_timeout)

    def _check_pings(self) -> None:
        # Looks at the last ping instead of being set anew by each.
        assert self.last_ping is not None
        if self.state is WorkerState.READY or self.held:
            self.last_ping = time.monotonic()  # it waits for us, and cannot ping meanwhile
        left = self.last_ping + self._settings.worker_timeout - time.monotonic()
        if left > 0:
            self._expect_ping(left)
            return
        self._ended_for = "hung"
        limit = self._settings.worker_timeout
        extra = entry_fields(CatalogEntry.WORKER_HUNG, worker=self, seconds=limit)
        _log.warning("Worker (pid %d) sent no ping for %g s, ending it", self.pid, limit, extra=extra)
        self.failure = f"The worker sent no ping for {limit:g} s."
        self._ask_for_traceback()

    def _ask_for_traceback(self) -> None:
        signals.send(self.pidfd, signals.TRACEBACK_SIGNAL)
        self._set_timer(_TRACEBACK_SECONDS, self._abort)

    def _abort(self) -> None:
        signals.send(self.pidfd, signal.SIGABRT)
        self._set_timer(_ABORT_SECONDS, self.kill)

    def _set_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, callback)

    def _expect_within(self, seconds: float, on_overdue: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.expect_within(seconds, on_overdue)

    def _expect_ping(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = self._loop.expect_within(seconds, self._check_pings, anew=self._settings.worker_timeout)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------------------------------------------ its end

    def _reap(self) -> None:
        status = processes.reap(self._child)
        if status is None:
            return
        self._hear_the_rest()
        self.exit_status = status
        self._cancel_timer()
        self._loop.unwatch(self._child.pidfd)
        self._be_gone()

    def _cancel_overdue(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _be_gone(self) -> None:
        """Nothing of it is left."""
        self._cancel_overdue()
        os.close(self._child.pidfd)
        self._owner.worker_gone(self)
