"""The NOTIFY_SOCKET of one command worker: what sd_notify(3) sends, received by us instead of by systemd.

Whoever can write to the socket's path is believed. The path is this worker's alone, in a directory that only its user
may enter, and of mode 0600 itself: so that is the worker with whatever it started, root, and other processes of the
same user, who could do worse to it. (SO_PASSCRED would tell the sender's pid, but not whose descendant it is once its
parents are dead, as systemd knows by the cgroup.)
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import ProtocolError
from ..linux.channel import receive_with_fds
from ..unpatched import socket

_MAX_BYTES = 4096  # systemd takes no more in one datagram
_MAX_FDS = 253


class Notification(NamedTuple):
    """One datagram. The receiver owns the descriptors."""

    fields: Mapping[str, str]
    fds: list[int]

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

        Raises ProtocolError for one that is no list of assignments.
        """
        try:
            data, fds, flags = receive_with_fds(self._socket, _MAX_BYTES, _MAX_FDS)
        except BlockingIOError:
            return None
        notification = Notification({}, fds)
        try:
            if flags & socket.MSG_TRUNC:
                raise ProtocolError(f"A notification of more than {_MAX_BYTES} bytes came.")
            return Notification(assignments(data), fds)
        except ProtocolError:
            notification.close_fds()
            raise

    def close(self) -> None:
        """Receive no more; the path is gone."""
        self._socket.close()
        try:
            os.unlink(self.path)
        except OSError:
            pass  # the unit's runtime directory may be gone before us


def assignments(data: bytes) -> dict[str, str]:
    """NAME=VALUE lines; of two for one name the last.

    Raises ProtocolError.
    """
    try:
        lines = [line for line in data.decode().split("\n") if line]
    except UnicodeDecodeError:
        raise ProtocolError(f"A notification that is no text came, it begins with {data[:20]!r}.") from None
    pairs = [line.partition("=") for line in lines]
    wrong = next((name for name, equals, _ in pairs if not (name and equals)), None)
    if wrong is not None or not lines:
        raise ProtocolError(f"A notification came that is no NAME=VALUE: {(wrong or '')[:20]!r}.")
    return {name: value for name, _, value in pairs}
