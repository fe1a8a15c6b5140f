"""renameat2(2), which Python does not have. It is imported only where it is used, because ctypes costs half a
megabyte."""

import ctypes
import errno
import os

_RENAME_EXCHANGE = 2


def exchange(directory: int, one: str, other: str) -> None:
    """Exchange two names in a directory in one step, so that each always leads to a file.

    Raises OSError, also if the file system does not support it.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if renameat2(directory, os.fsencode(one), directory, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), one)
