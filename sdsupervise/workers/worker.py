"""A worker from the supervisor's side: its process, its state, and its deadlines."""

import logging
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from ..input.printable import last_line
from ..linux import privileges, processes, signals
from ..linux.event_loop import EventLoop, Timer
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields

_log = logging.getLogger("sdsupervise")

# A worker that hangs gets a traceback request, then SIGABRT (for a core), then SIGKILL, after this many seconds each.
_TRACEBACK_SECONDS = 1.0
_ABORT_SECONDS = 5.0


class WorkerState(Enum):
    """The state of a worker."""

    SPARE = "spare"  # forked ahead; runs no service code before Worker.let_go
    STARTING = "starting"
    READY = "ready"  # waiting for its release
    SERVING = "serving"
    STOPPING = "stopping"


class WorkerOwner(Protocol):
    """What a worker reports to its owner."""

    def worker_ready(self, worker: "Worker") -> None:
        """This worker waits for its release. Called once."""

    def worker_asks_to_retire(self, worker: "Worker") -> None:
        """This worker asks to be replaced."""

    def worker_up(self, worker: "Worker") -> None:
        """This worker serves. Called once, and only if that is later than its release."""

    def worker_extends(self, worker: "Worker", seconds: float) -> None:
        """This worker asks for this many seconds more, to start or to stop."""

    def worker_refuses(self, worker: "Worker") -> None:
        """The kernel does not let us signal this worker. Called once."""

    def worker_gone(self, worker: "Worker") -> None:
        """This worker and all its processes are dead. Called once, last."""


def _ignore(_worker: "Worker") -> None:
    pass


class Worker(ABC):
    """One living worker. A subclass defines how supervisor and worker talk."""

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
        self._timer: Timer | None = None  # the running deadline: ready, next ping, abort or kill
        self._overdue: Timer | None = None  # the deadline of a stop of this worker alone
        self.pid, self.pidfd = child.pid, child.pidfd
        self.index = index  # its slot, 0 to N-1; a spare gets one in let_go
        self.state = WorkerState.SPARE if spare else WorkerState.STARTING
        self.started_at = time.monotonic()
        self.last_ping: float | None = None
        self.exit_status: int | None = None  # a wait status, set when it is dead
        self.failure = ""  # its traceback, or the reason why it was ended
        self._ended_for = ""  # "hung" or "start timeout" if the supervisor ended it
        self.status = ""  # its STATUS= text
        self.stop_asked_at: float | None = None
        self.refused = ""  # why we may not signal it, as a sentence; "" as far as we know
        self.reloading = False  # it has said RELOADING=1 and no READY=1 since
        self.on_reloaded: Callable[[Worker], None] = _ignore  # called at this READY=1
        self.held = False  # stopped by SIGSTOP while before_commit checks another worker
        loop.watch(child.pidfd, self._reap)
        self._expect_ready()

    @property
    def exit_in_words(self) -> str:
        """How it ended, as a clause."""
        return processes.exit_in_words(self.exit_status) if self.exit_status is not None else "lives"

    @property
    def end_in_words(self) -> str:
        """How it ended, with the last line of its traceback, if there is one."""
        said = last_line(self.failure)
        return self.exit_in_words + (f" ({said})" if said else "")

    @property
    def cause(self) -> str:
        """The cause of its end, for counters: "hung", "start timeout", "status 1", "SIGSEGV"."""
        return self._ended_for or processes.cause_of_exit(self.exit_status or 0)

    @property
    def overdue_in_words(self) -> str:
        """What is known of a worker that is killed after it was asked to stop, as a clause."""
        now = time.monotonic()
        ago = "" if self.stop_asked_at is None else f" {now - self.stop_asked_at:.1f} s ago"
        ping = "never sent a ping" if self.last_ping is None else f"sent its last ping {now - self.last_ping:.1f} s ago"
        status = f' and reported the last status "{self.status}"' if self.status else ""
        return f"got the signal to stop{ago} and still runs; it {ping}{status}"

    @property
    def up(self) -> bool:
        """Whether it serves, as far as the supervisor can know. A class serves from its release on."""
        return self.was_up and self.exit_status is None

    @property
    def was_up(self) -> bool:
        """Whether it serves, or did so until its end."""
        return self.state is WorkerState.SERVING

    @property
    def waits_to_start(self) -> bool:
        """Whether it runs no code of the service before its release."""
        return False

    @property
    def holder(self) -> processes.Child | None:
        """The process that holds the lock for it, if that is another process. Do not kill that process."""
        return None

    @property
    def crashed(self) -> bool:
        """Whether it ended in another way than a worker that leaves by itself."""
        return self.exit_status != 0

    @property
    def hopeless(self) -> bool:
        """Whether every new worker would end in the same way, until an operator changes what is started."""
        return False

    @property
    def end(self) -> int:
        """Its exit status, or the negative number of the signal that killed it."""
        return os.waitstatus_to_exitcode(self.exit_status or 0)

    @property
    def is_final(self) -> bool:
        """Whether it ended by itself, and no other one is to start in its place: the service ends."""
        return False

    @property
    def lived(self) -> float:
        """Seconds since its fork, or since let_go for a spare."""
        return time.monotonic() - self.started_at

    def facts(self) -> dict[str, object]:
        """What status shows of it; times in seconds."""
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
        """Let it run the service's code in this slot: the peer knows it now, or the spare is needed."""
        self.index = index
        self._send_go()
        if self.state is WorkerState.SPARE:
            self.state = WorkerState.STARTING
            self.started_at = time.monotonic()
            self._expect_ready()
            os.sched_yield()  # let it run first: it may share this core, and our log can wait

    def release(self) -> None:
        """Let it serve."""
        self.state = WorkerState.SERVING
        self._send_release()

    def stop(self) -> None:
        """Ask it to stop (SIGTERM); a spare is killed. The takeover table has the deadline."""
        if self.state is not WorkerState.STOPPING:
            spare = self.state is WorkerState.SPARE
            self.state = WorkerState.STOPPING
            self.stop_asked_at = time.monotonic()
            self._cancel_timer()
            if spare:
                self._signal(signal.SIGKILL)
            else:
                self._send_stop()

    def drain(self, on_overdue: Callable[[], None]) -> None:
        """Stop this worker alone. Calls `on_overdue` if it still lives after stop_timeout."""
        self.stop()
        self._cancel_overdue()
        self._overdue = self._loop.expect_within(self._settings.stop_timeout, on_overdue)

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)

    def why_not_stoppable(self) -> str:
        """Why we may not signal it, as a sentence; "" if we may."""
        return "" if signals.send(self.pidfd, 0) else self._refusal("signals")

    # --------------------------------------------------------------------------------- messages in both directions

    @abstractmethod
    def _send_go(self) -> None:
        """Send it the permission to run the service's code."""

    def _send_stop(self) -> None:
        """Ask it to finish its work and exit."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        """Send it a signal. Report at once if we may not."""
        if not signals.send(self.pidfd, number):
            self._be_refused(number)

    def _be_refused(self, number: int) -> None:
        if not self.refused:
            self.refused = self._refusal(processes.signal_name(number))
            extra = entry_fields(CatalogEntry.SIGNAL_REFUSED, worker=self, reason=self.refused)
            _log.error("%s", self.refused, extra=extra)
            self._loop.call_later(0, lambda: self._owner.worker_refuses(self))

    def _refusal(self, what: str) -> str:
        uid = processes.uid_of(self.pid)
        of_it = f"runs as uid {uid}" if uid is not None else "runs as another user"
        if privileges.may_signal_all():
            do = "a security module or SystemCallFilter= forbids it"
        elif os.geteuid() == 0:
            do = "add CAP_KILL to CapabilityBoundingSet= of the unit"
        else:
            do = "let the worker keep the user of the unit, or give the unit AmbientCapabilities=CAP_KILL"
        return f"The supervisor may not send {what} to worker (pid {self.pid}), which {of_it}: {do}."

    @abstractmethod
    def _send_release(self) -> None:
        """Send it the permission to serve."""

    @abstractmethod
    def _hear_the_rest(self) -> None:
        """The worker is dead: read what it sent before, and close the connection."""

    def _on_ping(self) -> None:
        if self.last_ping is None and self._settings.worker_timeout and self.state is WorkerState.SERVING:
            self._expect_ping(self._settings.worker_timeout)
        self.last_ping = time.monotonic()

    def _on_retire(self) -> None:
        self._owner.worker_asks_to_retire(self)

    def _on_ready(self) -> None:
        if self.state is WorkerState.STARTING:
            self.state = WorkerState.READY
            self.failure = ""
            self._watch_pings()
            self._owner.worker_ready(self)
        elif self.state is WorkerState.SERVING:
            self._send_release()

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
        """Replace the running deadline by the one for pings, if it sends pings."""
        self._cancel_timer()
        if self.last_ping is not None and self._settings.worker_timeout:
            self._expect_ping(self._settings.worker_timeout)

    def _check_pings(self) -> None:
        # Compares with the time of the last ping, instead of a new timer for each ping.
        assert self.last_ping is not None
        if self.state is WorkerState.READY or self.held:
            self.last_ping = time.monotonic()  # it waits for the supervisor, and cannot ping
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
        self._signal(signals.TRACEBACK_SIGNAL)
        self._set_timer(_TRACEBACK_SECONDS, self._abort)

    def _abort(self) -> None:
        self._signal(signal.SIGABRT)
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
        """No process of the worker is left."""
        self._cancel_overdue()
        os.close(self._child.pidfd)
        self._owner.worker_gone(self)
