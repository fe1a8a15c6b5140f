"""Writing to standard output or error without ever waiting for whoever reads it.

O_NONBLOCK on the descriptor was rejected: it belongs to what was opened, which the terminal's shell, the workers and
whoever started us have too, and would make their writes fail. So it is opened anew where that is allowed; else the one
call is told not to wait.
"""

import fcntl
import stat
from typing import Protocol

from .unpatched import os, select, socket

# What a pipe takes whole or not at all; pipe(7).
ATOMIC_BYTES = select.PIPE_BUF
_AT_ONCE_BYTES = 256  # to a terminal that can only be asked whether it takes anything


def takes_more(fd: int) -> bool:
    """A write of a little would not wait, unless somebody else is faster."""
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    return bool(poller.poll(0))


class Outlet(Protocol):
    """Where bytes go."""

    def write(self, data: bytes) -> int:
        """How many of them were taken. Raises BlockingIOError if none can be now, OSError if none ever will."""

    def fileno(self) -> int:
        """A descriptor of its own that is writable when more will be taken."""

    def close(self) -> None:
        """Give back its descriptors."""


def outlet(fd: int) -> Outlet:
    """What leads to where a descriptor leads now. The descriptor stays as it is."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return _Socket(fd)
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return _Own(os.open(f"/proc/self/fd/{fd}", flags))
        except OSError:  # somebody else's, as after a change of user; or there is no /proc
            return _Pipe(fd) if stat.S_ISFIFO(mode) else _Terminal(fd)
    return _Own(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))  # a file, or /dev/null: nobody reads it


class _Own:
    """What was opened anew, so that it may be non-blocking; or is never in the way."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes) -> int:
        """As Outlet."""
        return os.write(self._fd, data)

    def fileno(self) -> int:
        """As Outlet."""
        return self._fd

    def close(self) -> None:
        """As Outlet."""
        os.close(self._fd)


class _Socket(_Own):
    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
        super().__init__(self._socket.fileno())

    def write(self, data: bytes) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def close(self) -> None:
        self._socket.close()


class _Pipe(_Own):
    """One that we may not open. It is filled from another pipe, for splice(2) can be told not to wait."""

    def __init__(self, fd: int) -> None:
        super().__init__(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def write(self, data: bytes) -> int:
        size = os.write(self._writer, data[:ATOMIC_BYTES])
        taken = 0
        try:
            taken = os.splice(self._reader, self._fd, size, flags=os.SPLICE_F_NONBLOCK)
        finally:
            if taken < size:
                os.read(self._reader, size - taken)
        return taken

    def close(self) -> None:
        super().close()
        os.close(self._reader)
        os.close(self._writer)


class _Terminal(_Own):
    """One that we may not open: it is asked first. It may be full in the next moment, by what another process writes;
    that is the only way to wait for it."""

    def __init__(self, fd: int) -> None:
        super().__init__(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))

    def write(self, data: bytes) -> int:
        if not takes_more(self._fd):
            raise BlockingIOError
        return os.write(self._fd, data[:_AT_ONCE_BYTES])
