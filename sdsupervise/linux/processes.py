"""Forking, pidfds, reaping, and exits in words.

Every child is known by a pidfd from the start: a number can be reused, a pidfd cannot.
"""

import ctypes
import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple

from .signals import blocked_signals, in_words, reset_for_child

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up once in the supervisor, not in every worker


class Child(NamedTuple):
    """A process of ours. Its owner closes the pidfd."""

    pid: int
    pidfd: int


def fork(run: Callable[[], int]) -> Child:
    """Fork; the child calls run() with default signal dispositions and exits with what it returns, never returning.

    Raises OSError when the kernel will not fork.
    """
    _flush()
    with blocked_signals():
        pid = os.fork()
        if pid == 0:
            _be_child(run)
    try:
        return Child(pid, os.pidfd_open(pid))
    except OSError:  # no descriptor left: nobody could watch it
        os.kill(pid, signal.SIGKILL)  # unreaped, so the number is still its own
        os.waitpid(pid, 0)
        raise


def _be_child(run: Callable[[], int]) -> None:
    status = 70
    try:
        reset_for_child()
        status = run()
    except BaseException:  # a forked child must never unwind into its parent's stack
        sys.excepthook(*sys.exc_info())
    finally:
        _flush()
        os._exit(status)


def _flush() -> None:
    """Nothing that was printed is printed twice, by the child too. Whoever read it may be gone, or never was there."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def reap(child: Child) -> int | None:
    """Take a dead child's wait status, as os.waitpid gives it; None while it lives."""
    pid, status = os.waitpid(child.pid, os.WNOHANG)
    return status if pid else None


def exit_in_words(status: int) -> str:
    """A wait status as a phrase: "exited with status 1", "was killed by SIGSEGV"."""
    if os.WIFSIGNALED(status):
        core = " (core dumped)" if os.WCOREDUMP(status) else ""
        return f"was killed by {in_words(os.WTERMSIG(status))}{core}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"


def die_with_parent(parent_pid: int, number: signal.Signals) -> bool:
    """Have the kernel signal us when our parent dies; False if it is dead already.

    To be called after a privilege drop, which erases it; prctl(2), PR_SET_PDEATHSIG.
    """
    if _prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {errno.errorcode.get(code, code)}")
    return os.getppid() == parent_pid


def is_dead(pidfd: int) -> bool:
    """The process has ended (a zombie counts)."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))
