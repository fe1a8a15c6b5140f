"""Signals as readable bytes, and signals to processes known by a pidfd.

The C-level handler of CPython writes each signal's number to a wake-up descriptor; the Python-level handler does
nothing. Order between different signals is not kept and equal ones merge, so a signal only ever says "look".
"""

import time
from collections.abc import Callable, Iterable, Mapping
from types import FrameType

from .patience import NAP
from .unpatched import _thread, os, signal, socket

# What a worker that hangs is asked for a traceback with: the last real-time signal, which no program we know uses.
TRACEBACK_SIGNAL = signal.Signals(signal.SIGRTMAX)
# And what nudges a worker that was told to stop. A signal's Python-level handler does not run while the main thread
# blocks; one that comes in the moment before it does is noted, and waits for another to interrupt it. It is one that
# does nothing to a program that has no handler for it: to what a service executes in its place.
NUDGE_SIGNAL = signal.SIGURG
# Each ends a process that has no handler for it, and is no word about the process itself, as a fault or a limit is.
DEADLY: frozenset[int] = frozenset(
    {
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
        *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR, signal.SIGSTKFLT),
        *range(signal.SIGRTMIN, signal.SIGRTMAX),
    }
)
# What people signal programs with, and so the supervisor that they take for the program. SIGHUP and SIGWINCH only where
# there is no terminal, from which they would come by themselves.
PASSED_ON: frozenset[int] = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH})


def take_note(_number: int, _frame: object) -> None:
    """Nothing is to be done here: the wake-up descriptor has the number, or what blocked has been interrupted."""


def has_no_handler(number: int) -> bool:
    """Nobody in this process has said what is to become of it: neither the service, nor whoever started us and had it
    ignored."""
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def handle(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> None:
    """Have a handler called for these signals, also where whoever started us had them blocked."""
    numbers = set(numbers)
    for number in numbers:
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def interrupt_later(seconds: float, number: signal.Signals, before: Callable[[], None]) -> None:
    """From a signal handler: so much later call `before`, in a thread, then interrupt the main thread by a signal.

    A process that cannot start a thread any more is not interrupted. (There is no timer to be had instead: SIGALRM is
    the service's, and a signal of timer_create(2) may land on any thread, which leaves the main one where it blocks.)
    """
    main_thread = _thread.get_ident()
    never_released = _thread.allocate_lock()
    never_released.acquire()

    def interrupt() -> None:
        limit = min(seconds, _thread.TIMEOUT_MAX)
        due = time.monotonic() + limit
        never_released.acquire(timeout=limit)
        if time.monotonic() - due > limit * NAP:  # we slept through it, and so did the main thread
            never_released.acquire(timeout=limit)
        before()
        signal.pthread_kill(main_thread, number)

    try:
        _thread.start_new_thread(interrupt, ())
    except RuntimeError:
        pass


class SignalReceiver:
    """Receives the given signals of this process until it is closed."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = frozenset(numbers)
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        handle(self._numbers, take_note)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._reader.fileno()

    def read(self) -> set[int]:
        """The signals that came since the last call; not those for which somebody else has set a handler."""
        try:
            received = self._reader.recv(4096)
        except BlockingIOError:
            return set()
        return {number for number in self._numbers if number in received}

    def close(self) -> None:
        """Stop receiving; dispositions stay as they are."""
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()


def send(pidfd: int, number: int) -> bool:
    """Signal the very process the pidfd stands for; False if we may not. A dead one is not an error."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def wait_at(gate: int) -> bool:
    """In a process that is to become a program: wait for a byte, which lets it; False at the end of the pipe. What is
    sent to every process of a unit meanwhile is not for a program that is none yet."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in PASSED_ON}
    go = bool(os.read(gate, 1))
    for number, handler in before.items():
        signal.signal(number, handler)
    return go


def pass_on(pidfds: Mapping[int, int], number: int) -> list[int]:
    """A signal to those of these processes, pid to pidfd, that have a handler for it; their pids. The others would die
    of it."""
    meant = [pid for pid in pidfds if _handles(pid, number)]
    for pid in meant:
        send(pidfds[pid], number)
    return meant


def _handles(pid: int, number: int) -> bool:
    """A handler, or it is blocked by whoever waits for it; proc_pid_status(5)."""
    try:
        with open(f"/proc/{pid}/status") as status:
            masks = [int(line.split()[1], 16) for line in status if line.startswith(("SigCgt:", "SigBlk:"))]
    except (OSError, ValueError, IndexError):
        return False  # it is dead, or nobody may know
    return any(mask >> number - 1 & 1 for mask in masks)
