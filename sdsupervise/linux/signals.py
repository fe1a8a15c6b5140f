"""Signals as readable bytes, and clean dispositions for children.

The C-level handler of CPython writes each signal's number to a wake-up descriptor; the Python-level handler does
nothing. Order between different signals is not kept and equal ones merge, so a signal only ever says "look".
"""

import functools
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


def _take_note(_number: int, _frame: object) -> None:
    """The wake-up descriptor has the number; there is nothing to do here."""


def handle(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> None:
    """Have a handler called for these signals, also where whoever started us had them blocked."""
    numbers = set(numbers)
    for number in numbers:
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


class SignalReceiver:
    """Receives the given signals of this process until it is closed."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        handle(numbers, _take_note)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._reader.fileno()

    def read(self) -> set[signal.Signals]:
        """The signals that came since the last call."""
        try:
            return {signal.Signals(number) for number in self._reader.recv(4096)}
        except BlockingIOError:
            return set()

    def close(self) -> None:
        """Stop receiving; dispositions stay as they are."""
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()


@functools.cache
def _handled() -> frozenset[signal.Signals]:
    """Those this process has handlers for, as it stood when first asked: who forks children installs no more by then.

    The question takes longer than a fork, for each answer is looked up among the members of an enum.
    """
    settable = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    return frozenset(signal.Signals(number) for number in settable if callable(signal.getsignal(number)))


@contextmanager
def blocked_signals() -> Iterator[None]:
    """No handler is called inside. For a fork: until the child has reset its handlers, a signal meant for it would
    be written to the wake-up descriptor it shares with us, and be taken for ours."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _handled())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset_for_child() -> None:
    """In a forked child: default dispositions and an empty mask; SIGUSR2 is ignored, for `systemctl kill -s USR2`
    reaches every process of a unit (SYSTEMD.md, "Also tried")."""
    signal.set_wakeup_fd(-1)
    for number in _handled():
        signal.signal(number, signal.SIG_DFL)
    # CPython ignores SIGPIPE in every program of its own; a class worker is one, what it execs is not
    # (subprocess restores it).
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def in_words(number: int) -> str:
    """SIGSEGV rather than 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def send(pidfd: int, number: signal.Signals) -> bool:
    """Signal the very process the pidfd stands for; False if we may not. A dead one is not an error."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def exit_like_killed(number: signal.Signals) -> None:
    """Die of a signal with its default disposition."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
