"""Messages with file descriptors between two supervisors: JSON objects over a SOCK_SEQPACKET socketpair; unix(7).

A message stays readable after its sender's death. So all messages of a peer are read before its death counts.
"""

import array
import errno
import json
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from ..errors import HandoverError
from ..input import checked
from .unpatched import socket

_MAX_BYTES = 128 * 1024
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_NAME = checked.text(100)


class Message(NamedTuple):
    """A received message. The receiver owns the descriptors."""

    kind: str  # the field "say"
    fields: Mapping[str, Any]  # the other fields
    fds: list[int]
    sender: "Sender | None"

    def close_fds(self) -> None:
        """Close the descriptors that are not needed."""
        while self.fds:
            os.close(self.fds.pop())


class Channel:
    """One end of the channel, non-blocking and close-on-exec."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return two connected ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (one, other):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return cls(one), cls(other)

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Return the end that this descriptor is, which was inherited through exec.

        Raises HandoverError if it is not such a socket.
        """
        try:
            end = socket.socket(fileno=fd)
        except OSError as error:
            raise HandoverError(f"The hand-over descriptor {fd} is not a socket: {error.strerror}.") from error
        if (end.family, end.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            end.detach()  # it may belong to other code
            raise HandoverError(f"The hand-over descriptor {fd} is another kind of socket.")
        end.set_inheritable(False)
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return cls(end)

    def detach(self) -> None:
        """Forget the descriptor and leave it open, so that another Channel can use it."""
        self._socket.detach()

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._socket.fileno()

    def send(self, say: str, fds: Sequence[int] = (), **fields: object) -> bool:
        """Send a message. Return False if the peer is dead, or if its buffer is full because it hangs."""
        data = json.dumps({"say": say, **fields}).encode()
        try:
            socket.send_fds(self._socket, [data], fds, socket.MSG_DONTWAIT)
        except (BrokenPipeError, ConnectionResetError, BlockingIOError):
            return False
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:  # too many descriptors in flight: the peer does not read
                return False
            raise
        return True

    def receive(self) -> Message | None:
        """Return the next message, or None if none has arrived.

        Raises EOFError at the end, HandoverError for bytes that are no message.
        """
        try:
            received = receive(self._socket, _MAX_BYTES, checked.MOST_FDS, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # The peer died before it read all our messages. The kernel reports this once, before the peer's own
            # messages.
            return self.receive()
        data, fds = received.data, received.fds
        if not data and not fds and not received.cut_short:
            raise EOFError
        try:
            if received.cut_short:
                raise checked.Unfit("", "is cut short")
            fields = checked.any_object(checked.parse(data), "")
            say = _NAME(fields.pop("say", None), "say")
        except checked.Unfit as error:
            for fd in fds:
                os.close(fd)
            raise HandoverError(f"Another supervisor sent {len(data)} bytes that are not a message: {error}.") from None
        return Message(say, fields, fds, received.sender)

    def refuse_more(self) -> None:
        """Stop the peer from sending. What it has sent can still be received."""
        self._socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close this end. The peer reads the remaining messages, and then EOF."""
        self._socket.close()


class Sender(NamedTuple):
    """The sender of a message, according to the kernel: SCM_CREDENTIALS, unix(7)."""

    pid: int
    uid: int
    gid: int


class Received(NamedTuple):
    """The result of one recvmsg(2). The receiver owns the descriptors, which are close-on-exec."""

    data: bytes
    fds: list[int]
    cut_short: bool  # some bytes or descriptors are lost
    sender: Sender | None  # None unless SO_PASSCRED is set


def receive(end: socket.socket, max_bytes: int, max_fds: int, flags: int = 0) -> Received:
    """Receive once, at most `max_bytes` and `max_fds` descriptors. socket.recv_fds ignores its flags. Raises
    OSError."""
    numbers, sender = array.array("i"), None
    space = socket.CMSG_SPACE(max_fds * numbers.itemsize) + socket.CMSG_SPACE(_CREDENTIALS.size)
    data, ancillary, got, _ = end.recvmsg(max_bytes, space, socket.MSG_CMSG_CLOEXEC | flags)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(content) == _CREDENTIALS.size:
            sender = Sender(*_CREDENTIALS.unpack(content))
    return Received(data, list(numbers), bool(got & (socket.MSG_TRUNC | socket.MSG_CTRUNC)), sender)
