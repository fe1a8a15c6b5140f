"""Stops the other workers (SIGSTOP) while before_commit checks one: they share its listeners and would answer too.

A separate process does this, and ends with its supervisor. So whichever process is killed, another one is left to
continue the workers (SIGCONT).
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

_HOLD_SECONDS = 5.0  # only a process that the kernel blocks, for example on a dead disk, takes so long to stop
_LOOK_SECONDS = 0.001  # between two looks at the workers


class _Over(Exception):
    """The supervisor is dead, or asked this process to leave."""


def run(workers: Sequence[int], become: Callable[[], int]) -> int:
    """Stop these workers, fork, run `become` in the child, and continue the workers when the child has ended.

    Returns the exit status of the child. If a signal killed the child, the same signal kills this process.
    """
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
    """Continue these workers and all that they have started, after the process that stopped them was killed."""
    for found in descent(workers):
        send(found.pidfd, signal.SIGCONT)
        os.close(found.pidfd)


def _hold(workers: Sequence[int], held: list[int]) -> bool:
    """Stop these workers and all that they have started, and add their pidfds to `held`.

    Returns False if one of them does not stop in time.
    """
    due = time.monotonic() + _HOLD_SECONDS
    while time.monotonic() < due:
        runs = False
        for found in descent(workers):
            held.append(found.pidfd)
            if not is_stopped(found.pid):
                send(found.pidfd, signal.SIGSTOP)
                runs = True
        if not runs:
            return True  # all are stopped, so none can have forked
        select.poll().poll(_LOOK_SECONDS * 1000)  # the kernel reports a stop to the parent only
    return False


def _be_over(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Over
