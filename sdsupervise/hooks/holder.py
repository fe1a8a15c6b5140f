"""Workers that are held (SIGSTOP) while before_commit looks at another one: they share its listeners, and would answer.

That is done by a process of its own, which ends with its supervisor: so whoever is killed, one is left that lets the
workers go.
"""

import resource
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from ..linux import prctl, process_title, processes
from ..linux.descent import descent, is_stopped
from ..linux.signals import send
from ..linux.unpatched import os, select, signal

_HOLD_SECONDS = 5.0  # only a process that the kernel keeps from everything, as a dead disk does, takes so long
_LOOK_SECONDS = 0.001


class _Over(Exception):
    """The supervisor is dead, or we were told to leave."""


def run(workers: Sequence[int], become: Callable[[], int]) -> int:
    """Hold these workers, fork, have the child become the command, and let the workers go when it has ended. The exit
    status is the command's; where it was killed by a signal this process is, too."""
    process_title.show("holder")
    signal.signal(signal.SIGTERM, _be_over)
    me, held = os.getpid(), list[int]()
    try:
        try:
            if not _hold(workers, held):
                os.write(2, b"is not run: the other workers cannot be held\n")
                return 1
            command = processes.fork(lambda: become() if prctl.die_with_parent(me, signal.SIGKILL) else 127)
            _, status = os.waitpid(command.pid, 0)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except _Over:
        return 1
    finally:
        for pidfd in held:
            send(pidfd, signal.SIGCONT)
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        signal.raise_signal(os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def release(workers: Sequence[int]) -> None:
    """Let these workers go, and all that they have started: who held them was killed."""
    for found in descent(workers):
        send(found.pidfd, signal.SIGCONT)
        os.close(found.pidfd)


def _hold(workers: Sequence[int], held: list[int]) -> bool:
    """All of them are stopped, with all that they have started, and added by their pidfds; False if one is not in
    time."""
    due = time.monotonic() + _HOLD_SECONDS
    while time.monotonic() < due:
        runs = False
        for found in descent(workers):
            held.append(found.pidfd)
            if not is_stopped(found.pid):
                send(found.pidfd, signal.SIGSTOP)
                runs = True
        if not runs:
            return True  # and nobody can have forked another meanwhile
        select.poll().poll(_LOOK_SECONDS * 1000)  # the kernel tells only a parent, and not of all these
    return False


def _be_over(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Over
