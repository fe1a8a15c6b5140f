"""renameat2(2), which Python does not have. Imported where it is used: ctypes costs half a megabyte."""

import ctypes
import errno
import os

_RENAME_EXCHANGE = 2


def exchange(directory: int, one: str, other: str) -> None:
    """In a directory, each name leads to what the other did, and at no moment to nothing.

    Raises OSError, also where the file system cannot.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if renameat2(directory, os.fsencode(one), directory, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), one)
