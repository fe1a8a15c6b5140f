"""Messages with file descriptors between two supervisors: JSON objects over a SOCK_SEQPACKET socketpair.

A message stays readable after its sender's death, so "what it last said" can be heard before "it is dead".
"""

import array
import errno
import json
import os
from collections.abc import Sequence
from typing import NamedTuple, Self

from ..errors import HandoverError
from ..unpatched import socket

_MAX_BYTES = 128 * 1024
_MAX_FDS = 253  # SCM_MAX_FD


class Message(NamedTuple):
    """What arrived. The receiver owns the descriptors."""

    fields: dict[str, object]
    fds: list[int]

    @property
    def kind(self) -> str:
        """What it is, the field "say"."""
        return str(self.fields.get("say"))

    def close_fds(self) -> None:
        """Drop descriptors nobody wants."""
        for fd in self.fds:
            os.close(fd)


class Channel:
    """One end. Non-blocking, close-on-exec."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Two joined ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.setblocking(False)
        other.setblocking(False)
        return cls(one), cls(other)

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """The end that crossed an exec as this descriptor.

        Raises HandoverError if it is no such socket.
        """
        try:
            end = socket.socket(fileno=fd)
        except OSError as error:
            raise HandoverError(f"The hand-over descriptor {fd} is no socket: {error.strerror}.") from error
        if (end.family, end.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            end.detach()  # whosever it is
            raise HandoverError(f"The hand-over descriptor {fd} is another kind of socket.")
        end.set_inheritable(False)
        end.setblocking(False)
        return cls(end)

    def detach(self) -> None:
        """Leave the descriptor open, for another to be made from it."""
        self._socket.detach()

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._socket.fileno()

    def send(self, say: str, fds: Sequence[int] = (), **fields: object) -> bool:
        """Send a message; False when the other side is gone, or so stuck that its buffer is full."""
        data = json.dumps({"say": say, **fields}).encode()
        try:
            socket.send_fds(self._socket, [data], fds)
        except (BrokenPipeError, ConnectionResetError, BlockingIOError):
            return False
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:  # descriptors in flight: the other side does not read
                return False
            raise
        return True

    def receive(self) -> Message | None:
        """The next message, None when there is none now.

        Raises EOFError at the end, HandoverError for bytes that are no message.
        """
        try:
            data, fds, flags = receive_with_fds(self._socket, _MAX_BYTES, _MAX_FDS)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # It died without reading all we sent. The kernel says so once, ahead of what it has said itself.
            return self.receive()
        if not data:
            raise EOFError
        try:
            fields = json.loads(data)
            if not isinstance(fields, dict) or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("cut short, or no object")
        except ValueError as error:
            for fd in fds:
                os.close(fd)
            raise HandoverError(f"The other supervisor sent {len(data)} bytes that are no message: {error}.") from error
        return Message(fields, fds)

    def refuse_more(self) -> None:
        """From now on the other side cannot send; what it has sent can still be received."""
        self._socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close this end; the other side reads what was sent and then EOF."""
        self._socket.close()


def receive_with_fds(end: socket.socket, max_bytes: int, max_fds: int) -> tuple[bytes, list[int], int]:
    """Data, descriptors (close-on-exec, the receiver's to close) and flags; socket.recv_fds forgets its flags."""
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(max_fds * descriptors.itemsize)
    data, ancillary, flags, _ = end.recvmsg(max_bytes, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return data, list(descriptors), flags
