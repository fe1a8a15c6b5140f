"""A worker that is a fork of its supervisor and calls a Python object."""

import faulthandler
import gc
import logging
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Protocol

from ..errors import LinkLost
from ..linux import limits, process_title, processes
from ..linux.lifeline import Tie
from ..linux.process_groups import set_mark
from ..linux.signals import NUDGE_SIGNAL, TRACEBACK_SIGNAL, do_nothing
from ..linux.unpatched import _thread, os, signal
from ..systemd.catalog import CatalogEntry, entry_fields
from ..systemd.journal import JournalHandler
from ..systemd.notify import forget_systemd
from .process_end import WorkerEnd, end_children, grace_of, had_children, threads_to_wait_for

_log = logging.getLogger("sdsupervise")

_AROUND_THE_SERVICE = ("sdsupervise", "asyncio")
_SECONDS_WITHOUT_LIMIT = 30.0  # for the end of a worker whose stop_timeout is 0, which bounds only a requested stop
INDEX_VARIABLE = "SDSUPERVISE_WORKER_INDEX"
GENERATION_VARIABLE = "SDSUPERVISE_GENERATION"


class WorkersLink(Protocol):
    """What this module uses of the link to the supervisor."""

    @property
    def lost(self) -> bool:
        """Whether the link has reached its end: the supervisor is gone."""

    def wait_for_go(self) -> int:
        """Wait until this worker is needed and the peer supervisor knows of it; return its index. Raises LinkLost."""

    def tell_children(self) -> None:
        """Tell the supervisor that this worker has started processes, which may outlive it."""

    def tell_stopping(self) -> None:
        """Tell the supervisor, from a signal handler, that this worker has received its stop signal."""

    def tell_failure(self, text: str) -> None:
        """Tell the supervisor why this worker is about to die."""


class Service(Protocol):
    """What a class worker calls."""

    shutdown_signals: Sequence[signal.Signals]

    def become_worker(self, link: Any, *, waits: bool) -> None:  # noqa: ANN401 (it is between supervisor and service)
        """Prepare the service's code, before it may run. With `waits`, the worker waits for its release."""

    def be_worker(self, *, index: int) -> None:
        """Run the service's code. Returning is a clean exit."""

    def drain_worker(self) -> None:
        """From a signal handler, which may run again: let the service's code finish its work, or shut it down."""


class Beginning(NamedTuple):
    """What a worker needs to begin."""

    lifeline: int  # the read end
    stop_timeout: float
    wait_for_go: bool
    generation: int
    slot: int  # its index; with `wait_for_go`, the supervisor may send another
    mark: int  # marks the processes that it starts, see linux/process_groups.py
    traces: int  # the descriptor to which it writes a traceback when it is asked for one
    is_spare: bool  # it takes the place of a worker that leaves


def prepare() -> None:
    """In the supervisor, once: prepare what all workers inherit.

    The kernel copies every page that a forked process writes to, and Python writes to every object that it looks at. So
    a line of code here costs a worker many times what it costs the supervisor.
    """
    if sys.stderr is not None:
        faulthandler.register(TRACEBACK_SIGNAL, all_threads=True, chain=False)  # until a worker has a pipe for that
    gc.freeze()  # then a worker's garbage collector does not touch, and so copy, what the supervisor imported


def run(service: Service, link: WorkersLink, beginning: Beginning) -> int:
    """Run a worker in a freshly forked process; return its exit status."""
    gc.freeze()  # also for what the supervisor has made since for hundreds of other workers
    forget_systemd()
    tie = Tie(beginning.lifeline, signal.SIGTERM)
    tie.outlast_exec()
    stop = _Stop(service, link, tie, beginning)
    os.register_at_fork(after_in_child=lambda: process_title.show("child of worker"))
    traces = limits.move_out_of_the_way(beginning.traces)
    os.set_blocking(traces, False)  # writing to a full pipe must not block the worker
    faulthandler.register(TRACEBACK_SIGNAL, file=traces, all_threads=True, chain=False)
    set_mark(beginning.mark)
    status = _serve(service, link, tie, beginning)
    stop.end(status)
    return status


def _serve(service: Service, link: WorkersLink, tie: Tie, beginning: Beginning) -> int:
    """Run the service's code to its end; return the exit status."""
    wait_for_go, index = beginning.wait_for_go, beginning.slot
    try:
        if tie.is_cut:
            raise LinkLost
        # Also for the processes that the service starts.
        os.environ[GENERATION_VARIABLE], os.environ[INDEX_VARIABLE] = str(beginning.generation), str(index)
        service.become_worker(link, waits=wait_for_go)
        if wait_for_go:
            names = process_title.names_of("worker", index)  # before the wait, so that nothing delays the release
            if (known := link.wait_for_go()) != index:
                index = known
                os.environ[INDEX_VARIABLE] = str(index)
                names = process_title.names_of("worker", index)
            process_title.show_forked(names, index)
        service.be_worker(index=index)
    except LinkLost:
        return 1  # the supervisor is gone
    except SystemExit as leaving:
        return _status(leaving, link)
    except BaseException as error:
        for number in _stop_signals(service):  # it stops anyway, and a stop signal must not cut short the traceback
            signal.signal(number, signal.SIG_IGN)
        error.with_traceback(_service_frames(error.__traceback__))
        text = "".join(traceback.format_exception(error))
        _say_traceback(text, index)
        link.tell_failure(text)
        return 1
    return 0


class _Stop:
    """The stop of a worker, at the request of its supervisor or after the supervisor's death, and its end."""

    def __init__(self, service: Service, link: WorkersLink, tie: Tie, beginning: Beginning) -> None:
        self._service, self._link, self._tie = service, link, tie
        self._stop_timeout, self._mark = beginning.stop_timeout, beginning.mark
        self._worker_pid = os.getpid()
        self._is_orphan = False
        self._stop_asked_at: float | None = None
        self._end: WorkerEnd | None = None
        signal.signal(NUDGE_SIGNAL, do_nothing)
        self._listen()
        _reset_in_children(_stop_signals(service), self._take_signal)

    def _listen(self) -> None:
        for number in _stop_signals(self._service):
            signal.signal(number, self._take_signal)

    def _take_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._worker_pid:
            # A child that the service forked (multiprocessing does) inherits the handler, but must not run the
            # shutdown.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if self._end is not None:
            self._end.take_signal(frame)
            return
        if self._stop_asked_at is None:
            self._stop_asked_at = time.monotonic()
            process_title.show("draining worker")
        if not self._is_orphan and (self._link.lost or self._tie.is_cut):
            self._tie.close()
            # No supervisor is left to kill us if the stop takes too long. This prints where the worker hangs, and
            # exits.
            if sys.stderr is not None:
                faulthandler.dump_traceback_later(max(self._stop_timeout, 0.001), exit=True)
            # Not before: a signal here may run the handler again, and that call may never return.
            self._is_orphan = True
            _say("Shutting down: the supervisor is gone\n")
        if not self._is_orphan:
            self._link.tell_stopping()
        self._service.drain_worker()

    def end(self, status: int) -> None:
        """Do what Python does at the end of a process.

        A worker that failed is replaced at once: its threads are not waited for, unless it was asked to stop.
        """
        begun = self._stop_asked_at or time.monotonic()
        limit = self._stop_timeout or _SECONDS_WITHOUT_LIMIT
        wait = self._stop_asked_at is not None or status == 0
        if wait and threads_to_wait_for():
            self._link.tell_stopping()  # it sends no pings from now on
        self._end = WorkerEnd()
        self._listen()  # our own signals end what takes too long
        self._end.come(status, self._leave_children, wait=wait, end_at=begun + limit, grace=grace_of(limit))

    def _leave_children(self) -> None:
        """Leave children to the supervisor. An orphan ends them itself, in half of its last seconds."""
        if had_children():
            if self._is_orphan or self._tie.is_cut:
                end_children(self._mark, seconds=grace_of(self._stop_timeout) / 4)
            else:
                self._link.tell_children()


class _ThisWorker:
    """This worker, for the journal."""

    def __init__(self, index: int) -> None:
        self.pid, self.index = os.getpid(), index


def _say_traceback(text: str, index: int) -> None:
    """Print a traceback: as one journal entry, if standard error is the journal; else in one write.

    One write keeps the output of other workers from coming between the lines.
    """
    if any(isinstance(handler, JournalHandler) for handler in _log.handlers) and _log.isEnabledFor(logging.ERROR):
        _log.error("%s", text.rstrip(), extra=entry_fields(CatalogEntry.WORKER_TRACEBACK, worker=_ThisWorker(index)))
    elif sys.stderr is not None and sys.stderr is sys.__stderr__:
        processes.flush()
        _say(text)
    else:
        print(text, end="", file=sys.stderr, flush=True)


def _reset_in_children(numbers: set[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> None:
    """Let these signals end the service's forked children, as in any other program.

    multiprocessing ends its children like this, and waits for them without a limit. The signals are blocked during a
    fork, because Python loses a signal that arrives then.
    """
    masks: dict[int, set[int | signal.Signals]] = {}  # by thread

    def block() -> None:
        masks[_thread.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def restore() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(_thread.get_ident()))

    def reset() -> None:
        for number in numbers:
            if signal.getsignal(number) == handler:
                signal.signal(number, signal.SIG_DFL)
        restore()

    os.register_at_fork(before=block, after_in_parent=restore, after_in_child=reset)


def _say(text: str) -> None:
    """Write to standard error from a signal handler, which must not raise.

    The handler may have interrupted a print(), and the reader of standard error may have died with our supervisor.
    """
    try:
        os.write(2, text.encode(errors="backslashreplace"))
    except OSError:
        pass


def _stop_signals(service: Service) -> set[signal.Signals]:
    return {*service.shutdown_signals, signal.SIGTERM}


def _service_frames(frames: TracebackType | None) -> TracebackType | None:
    """Return a traceback without our frames and asyncio's before the service's code; the whole one if that never
    appears."""
    inner = frames
    while inner is not None and inner.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _AROUND_THE_SERVICE:
        inner = inner.tb_next
    return inner or frames


def _status(leaving: SystemExit, link: WorkersLink) -> int:
    """Return the exit status that Python itself would use for this SystemExit."""
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    print(leaving.code, file=sys.stderr)
    link.tell_failure(str(leaving.code))
    return 1
