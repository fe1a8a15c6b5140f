"""prctl(2), for processes that execute a program: unlike a lifeline, it survives a program that closes unknown
descriptors.

The process that forks them imports this before, so that they need not. A service of class workers does without it.
"""

import ctypes
import errno
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def die_with_parent(parent_pid: int, number: signal.Signals) -> bool:
    """Ask the kernel for this signal when our parent dies; return False if it is dead already. See PR_SET_PDEATHSIG.

    Call this after a privilege drop, which cancels it. Raises OSError.
    """
    _call("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, int(number))
    return os.getppid() == parent_pid


def adopt_orphans() -> None:
    """Let our orphaned descendants become our children, not init's: PR_SET_CHILD_SUBREAPER.

    A supervisor must never call this, because its successor must become init's child. Raises OSError.
    """
    _call("PR_SET_CHILD_SUBREAPER", _PR_SET_CHILD_SUBREAPER, 1)


def _call(name: str, option: int, value: int) -> None:
    if _prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({name}): {errno.errorcode.get(code, code)}")
