"""Signals as readable bytes, and signals to processes known by a pidfd.

The C-level handler of CPython writes each signal's number to a wake-up descriptor; the Python-level handler does
nothing. The order of different signals is not kept, and equal signals merge. So a signal only ever means "look".
"""

import time
from collections.abc import Callable, Iterable, Mapping
from types import FrameType

from .patience import NAP
from .unpatched import _thread, os, signal, socket

# Asks a worker that hangs for a traceback: the last real-time signal, which no program that we know uses.
TRACEBACK_SIGNAL = signal.Signals(signal.SIGRTMAX)
# Nudges a worker that got its stop signal. A Python-level handler does not run while the main thread blocks: a signal
# that arrives just before the block is noted, and needs another signal to interrupt it. SIGURG does nothing to a
# program without a handler for it, such as one that a service executes in its place.
NUDGE_SIGNAL = signal.SIGURG
# Each ends a process that has no handler for it, and does not report a fault or a limit of the process itself.
DEADLY: frozenset[int] = frozenset(
    {
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
        *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR, signal.SIGSTKFLT),
        *range(signal.SIGRTMIN, signal.SIGRTMAX),
    }
)
# Signals that operators send to programs, and so to a supervisor in place of the program. SIGHUP and SIGWINCH count
# only without a terminal, which sends them by itself.
PASSED_ON: frozenset[int] = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH})


def do_nothing(_number: int, _frame: object) -> None:
    """Do nothing. The wake-up descriptor has the number, or the signal has interrupted a blocking call."""


def has_no_handler(number: int) -> bool:
    """Return whether this process has neither a handler for the signal nor inherited that it is ignored."""
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def handle(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> None:
    """Set a handler for these signals, and unblock them, if our parent had blocked them."""
    numbers = set(numbers)
    for number in numbers:
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def interrupt_later(seconds: float, number: signal.Signals, before: Callable[[], None]) -> None:
    """From a signal handler: after `seconds`, call `before` in a thread, then interrupt the main thread by a signal.

    If the process can start no thread, nothing happens. (No timer fits: SIGALRM belongs to the service, and a signal of
    timer_create(2) may arrive in any thread, so the main thread may stay blocked.)
    """
    main_thread = _thread.get_ident()
    never_released = _thread.allocate_lock()
    never_released.acquire()

    def interrupt() -> None:
        limit = min(seconds, _thread.TIMEOUT_MAX)
        due = time.monotonic() + limit
        never_released.acquire(timeout=limit)
        if time.monotonic() - due > limit * NAP:  # this process did not run meanwhile, and neither did the main thread
            never_released.acquire(timeout=limit)
        before()
        signal.pthread_kill(main_thread, number)

    try:
        _thread.start_new_thread(interrupt, ())
    except RuntimeError:
        pass


class SignalReceiver:
    """Receives the given signals of this process, until it is closed."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = frozenset(numbers)
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        handle(self._numbers, do_nothing)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._reader.fileno()

    def read(self) -> set[int]:
        """Return the signals since the last call, without those for which other code has set a handler."""
        try:
            received = self._reader.recv(4096)
        except BlockingIOError:
            return set()
        return {number for number in self._numbers if number in received}

    def close(self) -> None:
        """Stop receiving. The dispositions stay as they are."""
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()


def send(pidfd: int, number: int) -> bool:
    """Signal the process of this pidfd; return False if we may not. A dead process is not an error."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def wait_at(gate: int) -> bool:
    """In a process that will execute a program, wait for a byte; return False at the end of the pipe.

    Signals in PASSED_ON that reach every process of a unit are ignored meanwhile, because the program does not run yet.
    """
    before = {number: signal.signal(number, signal.SIG_IGN) for number in PASSED_ON}
    go = bool(os.read(gate, 1))
    for number, handler in before.items():
        signal.signal(number, handler)
    return go


def pass_on(pidfds: Mapping[int, int], number: int) -> list[int]:
    """Send a signal to those of these processes (pid to pidfd) that handle it; return their pids. The others would
    die."""
    meant = [pid for pid in pidfds if handles(pid, number)]
    for pid in meant:
        send(pidfds[pid], number)
    return meant


def handles(pid: int, number: int) -> bool | None:
    """Return whether the process has a handler for the signal, or blocks it to read it later; proc_pid_status(5).

    None: it is dead, or hidden from us, or it waits for some signals (sigwaitinfo(2)), and the kernel does not show for
    which.
    """
    try:
        with open(f"/proc/{pid}/status") as status:
            masks = [int(line.split()[1], 16) for line in status if line.startswith(("SigCgt:", "SigBlk:"))]
    except (OSError, ValueError, IndexError):
        return None
    return any(mask >> number - 1 & 1 for mask in masks) or (None if _waits_for_signals(pid) else False)


def _waits_for_signals(pid: int) -> bool:
    """Return whether the main thread of a process waits for signals, as far as we may see that."""
    try:
        with open(f"/proc/{pid}/wchan", encoding="ascii", errors="replace") as place:
            return "sigtimedwait" in place.read(256)
    except OSError:
        return False
