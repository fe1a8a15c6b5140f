"""Writing to standard output or error without waiting for the reader.

O_NONBLOCK on the descriptor was rejected. It belongs to the open file description, which is shared with the terminal's
shell, the workers and our parent, and would make their writes fail. So the file is opened anew, if that is allowed;
otherwise each call asks not to block.
"""

import fcntl
import stat
from typing import Protocol

from .unpatched import os, select, socket

# A pipe takes so many bytes as a whole or not at all; pipe(7).
ATOMIC_BYTES = select.PIPE_BUF
_AT_ONCE_BYTES = 256  # to a terminal, of which we know only whether it takes anything


def takes_more(fd: int) -> bool:
    """Return whether a short write would not block, unless another process fills the file first."""
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    return bool(poller.poll(0))


class Outlet(Protocol):
    """A destination of bytes."""

    def write(self, data: bytes) -> int:
        """Return how many bytes were taken. Raises BlockingIOError if none can be now, OSError if none ever can."""

    def fileno(self) -> int:
        """The outlet's own descriptor, which is writable when more will be taken."""

    def close(self) -> None:
        """Close its descriptors."""


def outlet(fd: int) -> Outlet:
    """Return an outlet to the present destination of a descriptor, which does not change."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return _Socket(fd)
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return _Own(os.open(f"/proc/self/fd/{fd}", flags))
        except OSError:  # it belongs to another user, as after a change of user, or there is no /proc
            return _Pipe(fd) if stat.S_ISFIFO(mode) else _Terminal(fd)
    return _Own(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))  # a file or /dev/null: it has no reader to wait for


class _Own:
    """A file that was opened anew, so that it may be non-blocking, or a file that never blocks."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes) -> int:
        """See Outlet."""
        return os.write(self._fd, data)

    def fileno(self) -> int:
        """See Outlet."""
        return self._fd

    def close(self) -> None:
        """See Outlet."""
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
    """A pipe that we may not open. It is filled from another pipe, because splice(2) can be asked not to block."""

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
    """A terminal that we may not open. It is polled before each write. If another process fills it after that, the
    write blocks; this is the only case in which we wait."""

    def __init__(self, fd: int) -> None:
        super().__init__(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))

    def write(self, data: bytes) -> int:
        if not takes_more(self._fd):
            raise BlockingIOError
        return os.write(self._fd, data[:_AT_ONCE_BYTES])
