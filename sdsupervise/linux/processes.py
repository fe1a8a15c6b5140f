"""Processes: forking with default signal dispositions, pidfds, reaping, and exit statuses in words.

Every child has a pidfd from the start: a pid can be reused, a pidfd cannot; pidfd_open(2).
"""

import _signal  # type: ignore[import-not-found]  # what it returns, `signal` looks up among the members of an enum
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..errors import BeginsHere
from .unpatched import os, select, signal

# Signals for supervisors only, but `systemctl kill -s USR2` reaches every process of a unit. By default USR2 would end
# a worker, and TTIN and TTOU would suspend it.
IGNORED_IN_CHILDREN = (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)


class Child(NamedTuple):
    """A child process. Its owner closes the pidfd."""

    pid: int
    pidfd: int


def fork(run: Callable[[], int]) -> Child:
    """Fork. The child calls run() with default signal dispositions, and exits with its result; it never returns.

    In a child whose run() raises BeginsHere, this raises it too. Raises OSError if the kernel refuses to fork.
    """
    flush()
    with _blocked_signals():
        pid = os.fork()
        if pid == 0:
            _be_child(run)
    try:
        return Child(pid, os.pidfd_open(pid))
    except OSError:  # no descriptor is left to watch it
        os.kill(pid, signal.SIGKILL)  # it is not reaped, so the pid is still its own
        os.waitpid(pid, 0)
        raise


def _be_child(run: Callable[[], int]) -> None:
    status: int | None = 70
    try:
        _reset_for_child()
        status = run()
    except BeginsHere:
        status = None
        raise
    except BaseException:  # no other error of a forked child must unwind into its parent's stack
        sys.excepthook(*sys.exc_info())
    finally:
        if status is not None:
            flush()
            os._exit(status)


@functools.cache
def handled_signals() -> frozenset[int]:
    """Return the signals with a handler in this process. The first call fixes the answer: no handler is added after the
    first fork.

    Asking takes longer than a fork, because each answer is looked up among the members of an enum.
    """
    settable = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    return frozenset(number for number in settable if callable(signal.getsignal(number)))


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block the signals that have handlers, during a fork.

    Until the child has reset its handlers, a signal for the child would be written to the wake-up descriptor that it
    shares with us, and we would take it for ours.
    """
    before: Iterable[int] | None = _signal.pthread_sigmask(signal.SIG_BLOCK, handled_signals())
    try:
        yield
    except BeginsHere:
        before = None  # this is the child, which has a mask of its own
        raise
    finally:
        if before is not None:
            _signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reset_for_child() -> None:
    """In a forked child, set default dispositions and an empty mask, except for IGNORED_IN_CHILDREN."""
    signal.set_wakeup_fd(-1)
    for number in handled_signals():
        _signal.signal(number, _signal.SIG_DFL)
    # CPython ignores SIGPIPE in its own programs. A class worker is such a program; what it executes is not (subprocess
    # restores it).
    for number in IGNORED_IN_CHILDREN:
        _signal.signal(number, _signal.SIG_IGN)
    _signal.pthread_sigmask(signal.SIG_SETMASK, ())


def flush() -> None:
    """Flush standard output and error, so that the child does not print the same text again. A closed stream is
    ignored."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def flush_for_good() -> None:
    """Flush standard output and error before the exit, and redirect a stream that cannot be written to /dev/null.

    Otherwise Python would exit with status 120, whatever the status is to be.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), stream.fileno())
            except (OSError, ValueError, AttributeError):
                pass  # it is closed, or never existed


def reap(child: Child) -> int | None:
    """Return a dead child's wait status, as os.waitpid() does; None while the child lives."""
    pid, status = os.waitpid(child.pid, os.WNOHANG)
    return status if pid else None


def signal_group(child: Child, number: signal.Signals) -> bool:
    """Signal a child that is not reaped yet, and the process group that it leads, if it leads one already.

    The pid is still the child's own, because it is not reaped. Processes that we may not signal are skipped. Return
    False if these are all of them.
    """
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        signal.pidfd_send_signal(child.pidfd, number)
    except PermissionError:
        return False
    return True


def exit_in_words(status: int) -> str:
    """Return a wait status as a phrase: "exited with status 1", "was killed by SIGSEGV"."""
    if os.WIFSIGNALED(status):
        core = " (core dumped)" if os.WCOREDUMP(status) else ""
        return f"was killed by {signal_name(os.WTERMSIG(status))}{core}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"


def cause_of_exit(status: int) -> str:
    """Return a wait status as one of a few words: "status 1", "SIGSEGV"."""
    if os.WIFSIGNALED(status):
        return signal_name(os.WTERMSIG(status))
    return f"status {os.waitstatus_to_exitcode(status)}"


def signal_name(number: int) -> str:
    """Return a signal's name: SIGSEGV for 11, SIGRTMIN+1 for 35."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else f"signal {number}"


def has_terminal() -> bool:
    """Return whether this process's session has a controlling terminal."""
    fields = stat_fields("self")
    return bool(fields) and fields[4] != b"0"


def can_open(count: int) -> bool:
    """Return whether this process can open `count` more descriptors now."""
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
    """Return whether there is a process with this pid, if only a zombie.

    This does not use /proc, where ProtectProc=invisible hides processes of other user namespaces: under
    PrivateUsers=yes, those of every other generation.
    """
    try:
        os.close(os.pidfd_open(pid))
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is a thread, or we have no descriptor left
    return True


def stat_fields(place: int | str) -> list[bytes]:
    """Return the kernel's facts about a process (PID or "self") or a thread (PID/task/TID): fields 3 and up of
    proc_pid_stat(5).

    The list begins after the name, which may contain any characters. It is empty if the process is gone.
    """
    try:
        with open(f"/proc/{place}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()
    except OSError:
        return []


@functools.cache
def clock_tick_of_start() -> int:
    """Return when Python started in this process, in clock ticks since the boot. The first call fixes the answer, for
    later forks too: what was loaded before is in their memory."""
    return int(stat_fields("self")[19])


def is_dead_state(state: bytes) -> bool:
    """Return whether this state of proc_pid_stat(5) is that of a dead process, reaped or not."""
    return state in (b"Z", b"X")


def uid_of(pid: int) -> int | None:
    """Return the real uid of a process; None if it cannot be read.

    The owner of /proc/PID can differ: it is root if the process has changed its user.
    """
    try:
        with open(f"/proc/{pid}/status") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("Uid:")), None)
    except OSError:
        return None


def is_dead(pidfd: int) -> bool:
    """Return whether the process has ended; a zombie has."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def group_lives(group: int) -> bool:
    """Return whether a process of a group is left, if only a zombie. Until then, the kernel does not reuse the group's
    number."""
    try:
        # signal 0 signals no process; getpriority(2) may be missing from a unit's SystemCallFilter=
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it belongs to another user
    return True
