"""prctl(2), for what is executed: unlike a lifeline, it does not end where a program closes what it does not know.

Imported by who forks such processes, before it does, so that they need not. A service of class workers does without.
"""

import ctypes
import errno
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def die_with_parent(parent_pid: int, number: signal.Signals) -> bool:
    """Have the kernel signal us when our parent dies; False if it is dead already.

    To be called after a privilege drop, which erases it; PR_SET_PDEATHSIG.
    """
    _call("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, int(number))
    return os.getppid() == parent_pid


def adopt_orphans() -> None:
    """From now on our descendants become our children when their parents die, not init's. Never in a supervisor: its
    successor must be init's. PR_SET_CHILD_SUBREAPER."""
    _call("PR_SET_CHILD_SUBREAPER", _PR_SET_CHILD_SUBREAPER, 1)


def _call(name: str, option: int, value: int) -> None:
    if _prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({name}): {errno.errorcode.get(code, code)}")
