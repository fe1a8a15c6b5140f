"""Forking with clean signal dispositions, pidfds, reaping, and exits in words.

Every child is known by a pidfd from the start: a number can be reused, a pidfd cannot.
"""

import _signal  # type: ignore[import-not-found]  # what it returns, `signal` looks up among the members of an enum
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .unpatched import os, select, signal

# What a supervisor alone is meant by: `systemctl kill -s USR2` reaches every process of a unit. The first would end a
# worker by default, and the other two would stop it.
IGNORED_IN_CHILDREN = (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)


class Child(NamedTuple):
    """A process of ours. Its owner closes the pidfd."""

    pid: int
    pidfd: int


def fork(run: Callable[[], int]) -> Child:
    """Fork; the child calls run() with default signal dispositions and exits with what it returns, never returning.

    Raises OSError when the kernel will not fork.
    """
    flush()
    with _blocked_signals():
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
        _reset_for_child()
        status = run()
    except BaseException:  # a forked child must never unwind into its parent's stack
        sys.excepthook(*sys.exc_info())
    finally:
        flush()
        os._exit(status)


@functools.cache
def _handled() -> frozenset[int]:
    """Those this process has handlers for, as it stood when first asked: who forks children installs no more by then.

    The question takes longer than a fork, for each answer is looked up among the members of an enum.
    """
    settable = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    return frozenset(number for number in settable if callable(signal.getsignal(number)))


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """No handler is called inside. For a fork: until the child has reset its handlers, a signal meant for it would
    be written to the wake-up descriptor it shares with us, and be taken for ours."""
    before = _signal.pthread_sigmask(signal.SIG_BLOCK, _handled())
    try:
        yield
    finally:
        _signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reset_for_child() -> None:
    """In a forked child: default dispositions and an empty mask, but for IGNORED_IN_CHILDREN."""
    signal.set_wakeup_fd(-1)
    for number in _handled():
        _signal.signal(number, _signal.SIG_DFL)
    # CPython ignores SIGPIPE in every program of its own; a class worker is one, what it execs is not
    # (subprocess restores it).
    for number in IGNORED_IN_CHILDREN:
        _signal.signal(number, _signal.SIG_IGN)
    _signal.pthread_sigmask(signal.SIG_SETMASK, ())


def flush() -> None:
    """Nothing that was printed is printed twice, by the child too. Whoever read it may be gone, or never was there."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def flush_for_good() -> None:
    """At the end of this process: what cannot be written any more goes nowhere. Python would exit with status 120 for
    it, whatever the status is to be."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), stream.fileno())
            except (OSError, ValueError, AttributeError):
                pass  # it was closed, or never there


def reap(child: Child) -> int | None:
    """Take a dead child's wait status, as os.waitpid gives it; None while it lives."""
    pid, status = os.waitpid(child.pid, os.WNOHANG)
    return status if pid else None


def signal_group(child: Child, number: signal.Signals) -> None:
    """Signal an unreaped child (so that the number is still its own) and the process group it leads, if it does yet.
    Whom we may not signal is left out."""
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        signal.pidfd_send_signal(child.pidfd, number)
    except PermissionError:
        pass


def exit_in_words(status: int) -> str:
    """A wait status as a phrase: "exited with status 1", "was killed by SIGSEGV"."""
    if os.WIFSIGNALED(status):
        core = " (core dumped)" if os.WCOREDUMP(status) else ""
        return f"was killed by {signal_name(os.WTERMSIG(status))}{core}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"


def cause_of_exit(status: int) -> str:
    """The same in one word or two, of which there are not many: "status 1", "SIGSEGV"."""
    if os.WIFSIGNALED(status):
        return signal_name(os.WTERMSIG(status))
    return f"status {os.waitstatus_to_exitcode(status)}"


def signal_name(number: int) -> str:
    """SIGSEGV rather than 11, SIGRTMIN+1 rather than 35."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else f"signal {number}"


def has_terminal() -> bool:
    """This process's session has a controlling terminal."""
    fields = stat_fields("self")
    return bool(fields) and fields[4] != b"0"


def can_open(count: int) -> bool:
    """So many descriptors more are left to this process now."""
    spare: list[int] = []
    try:
        while len(spare) < count:
            spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        for fd in spare:
            os.close(fd)
    return True


def exists(pid: int) -> bool:
    """There is a process with this pid, or was and was not reaped yet.

    Not by /proc, where ProtectProc=invisible hides processes of other user namespaces: under PrivateUsers=yes, those of
    every other generation.
    """
    try:
        os.close(os.pidfd_open(pid))
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is a thread, or we have no descriptor left
    return True


def stat_fields(place: int | str) -> list[bytes]:
    """What the kernel says of a process, PID or "self", or of a thread, PID/task/TID: fields 3 and up of
    proc_pid_stat(5), for the name before them may hold anything. Empty if it is gone."""
    try:
        with open(f"/proc/{place}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()
    except OSError:
        return []


def uid_of(pid: int) -> int | None:
    """The real uid of a process; None if it cannot be known.

    The owner of /proc/PID is another one, root, where the process has changed its user.
    """
    try:
        with open(f"/proc/{pid}/status") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("Uid:")), None)
    except OSError:
        return None


def is_dead(pidfd: int) -> bool:
    """The process has ended (a zombie counts)."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def group_lives(group: int) -> bool:
    """Some process of a group is left, if only a zombie. While there is one, its number is nobody else's."""
    try:
        os.killpg(group, 0)  # which signals nobody; getpriority(2) is not in what a unit's filter has to allow
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is of another user
    return True
