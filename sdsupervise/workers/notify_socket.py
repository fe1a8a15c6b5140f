"""The NOTIFY_SOCKET of one command worker: the supervisor receives, in place of systemd, what sd_notify(3) sends.

The supervisor believes each process that can write to the socket. The socket has mode 0600, and lies in a directory
that only its user may enter. So the writers are the worker with its children, root, and other processes of the same
user, which could do worse to the worker anyway. (SO_PASSCRED would give the sender's pid, but not its ancestors after
their death. systemd knows these from the cgroup.)
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ProtocolError
from ..input.checked import MOST_FDS
from ..linux.channel import receive
from ..linux.unpatched import socket

_MAX_BYTES = 4096  # of one datagram; systemd's limit


class Notification(NamedTuple):
    """One datagram, parsed as in systemd's service_notify_message(). The receiver owns the descriptors."""

    lines: Sequence[bytes]
    fds: list[int]

    def says(self, line: bytes) -> bool:
        """Whether this line is among them."""
        return line in self.lines

    def value(self, name: bytes) -> bytes | None:
        """The value of the first NAME= line; None if there is none."""
        start = name + b"="
        return next((line[len(start) :] for line in self.lines if line.startswith(start)), None)

    def close_fds(self) -> None:
        """Close all descriptors. For BARRIER=1 that is the answer."""
        while self.fds:
            os.close(self.fds.pop())


class NotifySocket:
    """The receiving end: a non-blocking, close-on-exec datagram socket."""

    def __init__(self, path: str) -> None:
        """Bind a new socket to this path.

        Raises OSError.
        """
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            os.fchmod(self._socket.fileno(), 0o600)  # bind() gives the file this mode
            self._socket.bind(path)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._socket.fileno()

    def receive(self) -> Notification | None:
        """The next datagram; None if there is none now.

        Raises ProtocolError for a datagram that systemd would reject too.
        """
        try:
            received = receive(self._socket, _MAX_BYTES, MOST_FDS, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        notification = Notification(lines(received.data), received.fds)
        if received.cut_short:
            notification.close_fds()
            raise ProtocolError(f"A notification came of more than {_MAX_BYTES} bytes, or {MOST_FDS} descriptors.")
        if b"\0" in received.data[:-1]:
            notification.close_fds()
            raise ProtocolError("A notification came with a NUL byte in it.")
        return notification

    def close(self) -> None:
        """Close the socket and remove its file."""
        self._socket.close()
        try:
            os.unlink(self.path)
        except OSError:
            pass  # the unit's runtime directory may already be gone


def lines(data: bytes) -> list[bytes]:
    """The non-empty lines. Each ends at \\n or \\r; one NUL byte may follow the last."""
    return [line for line in data.removesuffix(b"\0").replace(b"\r", b"\n").split(b"\n") if line]
