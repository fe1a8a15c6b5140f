"""One client of the control socket: its calls, one at a time, and the answers to them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ProtocolError
from ..input.checked import Unfit
from ..linux.time_share import TimeShare
from ..linux.unpatched import socket
from . import varlink

_READ_BYTES = 4096  # of one read
_MOST_UNREAD_BYTES = 1024 * 1024  # of answers that the client has not read, kept in our memory


class Call:
    """One method call. `reply` or `fail` answers it; before that, a call with "more" may get `progress`."""

    def __init__(self, connection: "Connection", message: Mapping[str, Any]) -> None:
        self._connection = connection
        self.method: str = message["method"]
        self.parameters: Mapping[str, Any] = message.get("parameters", {})
        self.wants_more: bool = message.get("more", False)
        self._oneway: bool = message.get("oneway", False)
        self.uid = connection.uid
        self.pid = connection.pid

    def progress(self, parameters: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        """Send an answer that is not the last. Without "more" in the call, nothing is sent."""
        if self.wants_more:
            self._send({"parameters": parameters, "continues": True}, fds)

    def reply(self, parameters: Mapping[str, object]) -> None:
        """Send the last answer."""
        self._send({"parameters": parameters})
        self._connection.call_is_over()

    def fail(self, error: str, parameters: Mapping[str, object]) -> None:
        """Send the last answer, an error. Its name is a full one, or the last part of one of our interface."""
        name = error if "." in error else f"{varlink.INTERFACE}.{error}"
        self._send({"error": name, "parameters": parameters})
        self._connection.call_is_over()

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        self._connection.close()

    def _send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        if not self._oneway:
            self._connection.send(varlink.encode(message), fds)


class Connection:
    """A client's connection. It ends at EOF, at an invalid call, or if the client does not read our answers."""

    def __init__(
        self,
        share: TimeShare,
        peer: socket.socket,
        pid: int,
        uid: int,
        quiet_since: float,
        *,
        on_call: Callable[[Call], None],
        on_gone: Callable[["Connection"], None],
    ) -> None:
        peer.setblocking(False)
        self._share, self._peer, self._on_call, self._on_gone = share, peer, on_call, on_gone
        self.pid, self.uid = pid, uid
        self._begun = b""  # the part of a message that has arrived
        self._unread = b""  # the part of the answers that the client has not read
        self._open, self._taking, self._watched_for = True, False, ""
        self.call_is_open = False  # a call has no last answer yet
        self.quiet_since = quiet_since  # since when neither side has sent a whole message, by time.monotonic()
        self._watch()

    @property
    def idle(self) -> bool:
        """Whether the client waits for no answer, and no message has arrived in part."""
        return not (self.call_is_open or self._begun or self._unread)

    def fileno(self) -> int:
        """Return the descriptor of the connection, for a successor."""
        return self._peer.fileno()

    def send(self, data: bytes, fds: Sequence[int]) -> None:
        """Send an answer; what does not fit into the socket's buffer follows later. Descriptors are sent at once or not
        at all."""
        if not self._open:
            return
        self.quiet_since = time.monotonic()
        self._unread += data
        if len(self._unread) > _MOST_UNREAD_BYTES or (fds and len(self._unread) > len(data)):
            self.close()
        else:
            self._write(fds)

    def call_is_over(self) -> None:
        """Note that the call has its last answer."""
        self.call_is_open = False
        self._watch()

    def abandon(self) -> None:
        """In a forked child, close the copy. The parent's connection and epoll stay as they are."""
        self._peer.close()

    def read(self) -> None:
        """Read once, at most to the end of one message, and pass a whole message on; close the connection at EOF."""
        if not self._open or self.call_is_open or self._unread:
            return
        try:
            # What follows the message stays in the socket, for another turn or for our successor.
            end = self._peer.recv(_READ_BYTES, socket.MSG_PEEK).find(b"\0")
            data = self._peer.recv(end + 1 or _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._begun += data
        if self._begun.endswith(b"\0"):
            message, self._begun = self._begun[:-1], b""
            self._take(message)
        elif len(self._begun) > varlink.MAX_CALL_BYTES:
            self._refuse("A call is too long")
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._open:
            self._open = False
            self._share.unwatch(self._peer.fileno())
            self._peer.close()
            self._on_gone(self)

    def _take(self, message: bytes) -> None:
        self.quiet_since = time.monotonic()
        try:
            call = Call(self, varlink.read_call(message))
        except Unfit as error:
            self._refuse(error.where)
            return
        except ProtocolError as error:
            self._refuse(str(error))
            self.close()
            return
        self.call_is_open = self._taking = True
        self._on_call(call)
        self._taking = False
        self._watch()

    def _refuse(self, why: str) -> None:
        self.send(varlink.encode({"error": varlink.INVALID_PARAMETER, "parameters": {"parameter": why}}), ())

    def _write(self, fds: Sequence[int] = ()) -> None:
        try:
            sent = socket.send_fds(self._peer, [self._unread], fds)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        if fds and not sent:
            self.close()
            return
        self._unread = self._unread[sent:]
        self._watch()

    def _watch(self) -> None:
        """Watch the socket for what comes next; not at all while a call is open."""
        if not self._open or self._taking:
            return
        wanted = "write" if self._unread else "" if self.call_is_open else "read"
        if wanted != self._watched_for:
            self._share.unwatch(self._peer.fileno())
            if wanted == "write":
                self._share.watch(self._peer.fileno(), self._write, writable=True)
            elif wanted:
                self._share.watch(self._peer.fileno(), self.read)
            self._watched_for = wanted
