"""The end of a process with the service's code in it.

Each process waits for its own threads and runs its own exit functions, and neither delays an end that has been
announced. A worker is a fork, and has copies of all that was registered in its supervisor: exit functions, finalizers
that remove temporary directories, the threads of executors. These belong to the supervisor.
"""

import atexit
import logging
import resource
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any, NoReturn

from ..input.printable import printable
from ..linux import process_groups, processes, signals
from ..linux.signals import interrupt_later
from ..linux.unpatched import _thread, os, select, signal
from . import greenlets

_log = logging.getLogger("sdsupervise")

_MOST_NAMED = 10  # threads, in one line of the log
_LONGEST_GRACE_SECONDS = 2.0  # between the end of a worker's own limit and that of its supervisor


def grace_of(stop_timeout: float) -> float:
    """Return how many seconds before the end of stop_timeout a worker gives up, so that it can log what it cuts."""
    return min(_LONGEST_GRACE_SECONDS, stop_timeout / 4)


# -------------------------------------------------------------------------------------------------- in a worker


def forget_what_is_inherited() -> None:
    """In a freshly forked worker, forget what was registered until now: the supervisor runs it.

    multiprocessing does the same in its own forks.
    """
    atexit._clear()
    atexit.register(logging.shutdown)
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    for module, name in (("thread", "_threads_queues"), ("process", "_threads_wakeups")):
        executors = sys.modules.get(f"concurrent.futures.{module}")
        if executors is not None:
            getattr(executors, name).clear()
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None:
        process._children = set()  # type: ignore[attr-defined]
    atexit.register(_end_helpers, _helpers())
    if util is not None:
        util._finalizer_registry.clear()
        util._run_after_forkers()
        atexit.register(util._exit_function)


def _helpers() -> dict[int, Any]:
    """Return the helper processes of multiprocessing, by pid. They end when no process uses them."""
    found = {}
    for module, pid in (("forkserver", "_forkserver_pid"), ("resource_tracker", "_pid")):
        loaded = sys.modules.get(f"multiprocessing.{module}")
        helper = getattr(loaded, f"_{module}", None)
        if getattr(helper, pid, None) is not None:
            found[getattr(helper, pid)] = helper
    return found


def _end_helpers(inherited: Mapping[int, Any]) -> None:
    """End the helpers that this process has started, so that they do not count as processes that it left behind."""
    for pid, helper in _helpers().items():
        if pid not in inherited:
            try:
                helper._stop()
            except OSError:
                pass  # its directory was removed already


class WorkerEnd:
    """Does what Python does at a process's end, for a worker that ends by os._exit(), within the time for its stop."""

    def __init__(self) -> None:
        self._time_is_up = False
        self._cuts: Callable[[FrameType | None], None] = lambda _frame: None

    def come(self, status: int, leave: Callable[[], None], *, wait: bool, end_at: float, grace: float) -> None:
        """Wait for threads and executors, if `wait`, run the exit functions, then call `leave`.

        `end_at` is in seconds of time.monotonic(), `grace` in seconds. `grace` seconds before `end_at`, threads that
        still run are abandoned. Half of that before `end_at`, an exit function that still runs is cut: this calls
        `leave` and exits with `status`, without returning.
        """
        if threads := threads_to_wait_for():
            self._wait_for_threads(threads, end_at - grace - time.monotonic() if wait else 0.0)
        self._cuts = lambda frame: _cut_exit_function(frame, status, leave)
        self._interrupt_in(end_at - grace / 2 - time.monotonic())
        atexit._run_exitfuncs()
        self._cuts = lambda _frame: None
        leave()

    def take_signal(self, frame: FrameType | None) -> None:
        """Handle SIGTERM: our own, which ends what takes too long, or another, which has no more effect."""
        if self._time_is_up:
            self._cuts(frame)

    def _wait_for_threads(self, threads: Iterable[threading.Thread], wait_seconds: float) -> None:
        if wait_seconds > 0 and self._have_ended(wait_seconds):
            return
        living = threading.enumerate()  # is_alive() is False for a thread if a wait for it was interrupted
        if still := [thread for thread in threads if thread in living]:
            _log.warning(
                "Worker (pid %d) ends, and these threads of it have not finished: %s", os.getpid(), _named(still)
            )

    def _have_ended(self, wait_seconds: float) -> bool:
        """Wait as threading._shutdown does, which no signal interrupts from Python 3.13 on; return False if time is
        up."""
        self._cuts = _stop_waiting
        self._interrupt_in(wait_seconds)
        try:
            for end_executors in reversed(threading._threading_atexits):  # type: ignore[attr-defined]
                end_executors()
            while threads := threads_to_wait_for():
                threads[0].join()
        except _TimeIsUp:
            return False
        finally:
            self._cuts = lambda _frame: None
        return True

    def _interrupt_in(self, seconds: float) -> None:
        self._time_is_up = False
        interrupt_later(max(seconds, 0.0), signal.SIGTERM, self._note_that_time_is_up)

    def _note_that_time_is_up(self) -> None:
        self._time_is_up = True


class _TimeIsUp(SystemExit):
    """Threads still run, and the time to wait for them is up.

    It is a SystemExit, because the loops of gevent and eventlet let only that pass.
    """


def _stop_waiting(_frame: FrameType | None) -> None:
    if not greenlets.raise_in_main(_TimeIsUp()):
        raise _TimeIsUp


def _cut_exit_function(frame: FrameType | None, status: int, leave: Callable[[], None]) -> NoReturn:
    outermost = frame
    while frame is not None and frame.f_code is not WorkerEnd.come.__code__:
        outermost, frame = frame, frame.f_back
    code = outermost.f_code if outermost is not None else None
    where = f": {code.co_name} in {code.co_filename}, line {code.co_firstlineno}" if code is not None else ""
    _log.warning("Worker (pid %d) ends, and an exit function of it has not finished%s", os.getpid(), where)
    leave()
    processes.flush()
    os._exit(status)


def had_children() -> bool:
    """Return whether this process has started others, of which some may still live."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        # the dead ones may have had children themselves
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt > 0
    return True


def end_children(mark: int, *, seconds: float) -> None:
    """In a worker without a supervisor, stop the remaining processes that it has started, and kill them after
    `seconds`."""
    left = process_groups.of_worker(os.getpid(), mark)
    poller = select.poll()
    for process in left:
        _log.warning("Worker (pid %d) leaves a process behind: %s; ending it", os.getpid(), printable(str(process)))
        signals.send(process.pidfd, signal.SIGTERM)
        poller.register(process.pidfd, select.POLLIN)
    end_at = time.monotonic() + seconds
    living = {process.pidfd for process in left}
    while living and (dead := poller.poll(max(0.0, end_at - time.monotonic()) * 1000)):
        for pidfd, _ in dead:
            poller.unregister(pidfd)
            living.discard(pidfd)
    for process in process_groups.of_worker(os.getpid(), mark):
        signals.send(process.pidfd, signal.SIGKILL)


# ---------------------------------------------------------------------------------------------- in a supervisor


def warn_of_threads() -> None:
    """In a supervisor that has loaded the service's code, warn of threads that this has started: its workers lack
    them."""
    threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if threads and not _are_greenlets():
        _log.warning(
            "Loading the service's code started threads: %s. They run in the supervisor and do not exist in workers; "
            "start them in supervised_process",
            _named(threads),
        )


def end_on_time(status: int, *, exit_seconds: float) -> None:
    """In a supervisor that is about to exit, bound what the interpreter does at its end.

    Threads of the service's code do not delay it, and exit functions may take `exit_seconds`. If they would delay it,
    the process ends with `status`.
    """
    wait_for_threads = threading._shutdown  # type: ignore[attr-defined]

    def shut_down() -> None:
        """The interpreter calls this first when it ends."""
        threads = threads_to_wait_for()
        if not threads:
            wait_for_threads()
        run_exit_functions(status, at_most_seconds=exit_seconds)
        if threads:
            processes.flush()
            os._exit(status)

    threading._shutdown = shut_down  # type: ignore[attr-defined]


def run_exit_functions(status: int, *, at_most_seconds: float) -> None:
    """Run the exit functions; if they take longer than `at_most_seconds`, end the process with this status.

    This uses a timer, not a thread: a thread that starts while the interpreter ends may crash it.
    """

    def leave(_number: int, _frame: object) -> None:
        _log.warning(
            "Exit functions of the service's code have not finished after %g s; not waiting for them", at_most_seconds
        )
        processes.flush()
        os._exit(status)

    before = signal.signal(signal.SIGALRM, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, at_most_seconds)
    atexit._run_exitfuncs()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


# ------------------------------------------------------------------------------------------------------ threads


def threads_to_wait_for() -> list[threading.Thread]:
    """Return the threads that Python waits for before a process ends."""
    ours = (threading.main_thread(), threading.current_thread())  # under eventlet, two objects for one thread
    return [thread for thread in threading.enumerate() if thread not in ours and not thread.daemon]


def _are_greenlets() -> bool:
    """Return whether `threading` starts greenlets, which a fork keeps."""
    return sys.modules["_thread"].start_new_thread is not _thread.start_new_thread


def _named(threads: list[threading.Thread]) -> str:
    more = f" and {len(threads) - _MOST_NAMED} more" if len(threads) > _MOST_NAMED else ""
    return ", ".join(map(_name, threads[:_MOST_NAMED])) + more


def _name(thread: threading.Thread) -> str:
    """Return the thread's name, with the module of the function that it runs, if that is known."""
    runs: Any = getattr(thread, "_target", None) or getattr(thread, "function", None) or type(thread)
    module = getattr(runs, "__module__", None) or getattr(getattr(runs, "func", None), "__module__", None)
    return f"{thread.name} of module {module}" if module else thread.name
