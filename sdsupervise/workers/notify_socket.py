"""The NOTIFY_SOCKET of one command worker: what sd_notify(3) sends, received by us instead of by systemd.

Whoever can write to the socket's path is believed. The path is this worker's alone, in a directory that only its user
may enter, and of mode 0600 itself: so that is the worker with whatever it started, root, and other processes of the
same user, who could do worse to it. (SO_PASSCRED would tell the sender's pid, but not whose descendant it is once its
parents are dead, as systemd knows by the cgroup.)
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ProtocolError
from ..input.checked import MOST_FDS
from ..linux.channel import receive
from ..linux.unpatched import socket

_MAX_BYTES = 4096  # systemd takes no more in one datagram


class Notification(NamedTuple):
    """One datagram, read as systemd does it (service_notify_message). The receiver owns the descriptors."""

    lines: Sequence[bytes]
    fds: list[int]

    def says(self, line: bytes) -> bool:
        """This line is among them."""
        return line in self.lines

    def value(self, name: bytes) -> bytes | None:
        """What stands behind NAME=, where it stands first."""
        start = name + b"="
        return next((line[len(start) :] for line in self.lines if line.startswith(start)), None)

    def close_fds(self) -> None:
        """Drop descriptors nobody wants; of a barrier that is the answer."""
        while self.fds:
            os.close(self.fds.pop())


class NotifySocket:
    """The receiving end. Non-blocking, close-on-exec."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            os.fchmod(self._socket.fileno(), 0o600)  # what the file is born with
            self._socket.bind(path)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._socket.fileno()

    def receive(self) -> Notification | None:
        """The next datagram, None when there is none now.

        Raises ProtocolError for one that systemd would not take either.
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
        """Receive no more; the path is gone."""
        self._socket.close()
        try:
            os.unlink(self.path)
        except OSError:
            pass  # the unit's runtime directory may be gone before us


def lines(data: bytes) -> list[bytes]:
    """Those that are not empty. They end at any of \\n and \\r; one NUL byte may stand behind all."""
    return [line for line in data.removesuffix(b"\0").replace(b"\r", b"\n").split(b"\n") if line]
