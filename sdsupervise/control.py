"""The control socket: a listener whose path outlives reloads, and the calls that come in on it."""

import errno
import logging
import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence

from . import files, varlink
from .addresses import why_too_long
from .errors import AlreadyRunning, ControlSocketError, ProtocolError
from .linux.event_loop import EventLoop
from .linux.listeners import is_stale
from .unpatched import socket

_log = logging.getLogger("sdsupervise")

_BACKLOG = 64
_MAX_CONNECTIONS = 64  # anybody may connect; beyond this the one that has been idle longest must go
_PAUSE_SECONDS = 1.0  # with no descriptor left, accepting again at once would only spin


def bind(path: str) -> socket.socket:
    """Listen at a path, replacing the socket of a dead supervisor. Anybody may connect: who may do what is ours to say.

    Raises AlreadyRunning if somebody listens there, ControlSocketError if the path cannot be used.
    """
    if too_long := why_too_long(path):
        raise ControlSocketError(
            f"The control socket's path {path} {too_long}; have --pid-file, or the directory that $RUNTIME_DIRECTORY "
            "or $XDG_RUNTIME_DIR names, be a shorter one."
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    try:
        os.close(files.open_directory(os.path.dirname(path)))  # nor is a socket made where others lead us
        if is_stale(path):
            files.remove(path)
        os.fchmod(listener.fileno(), 0o666)
        # Born so: in a directory that is the service's own, root must not change the mode of what has the name by then.
        umask = os.umask(0)
        try:
            listener.bind(path)
        finally:
            os.umask(umask)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise AlreadyRunning(
                f"Another supervisor listens on {path}; give each service a RuntimeDirectory of its own."
            ) from error
        raise ControlSocketError(
            f"Cannot listen on the control socket {path}: {error.strerror or error}; "
            "have --pid-file name a place in a directory that is ours to write."
        ) from error
    return listener


class Call:
    """One method call. It is answered by reply() or fail(); one that asked for more may get progress() before."""

    def __init__(self, connection: "_Connection", message: Mapping[str, object]) -> None:
        self._connection = connection
        self.method = str(message.get("method", ""))
        parameters = message.get("parameters")
        self.parameters: Mapping[str, object] = parameters if isinstance(parameters, dict) else {}
        self.wants_more = message.get("more") is True
        self._oneway = message.get("oneway") is True
        self.uid = connection.uid
        self.pid = connection.pid

    def progress(self, parameters: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        """An answer that is not the last; nothing for a caller that did not ask for more."""
        if self.wants_more:
            self._send({"parameters": parameters, "continues": True}, fds)

    def reply(self, parameters: Mapping[str, object]) -> None:
        """The last answer."""
        self._connection.open_calls -= 1
        self._send({"parameters": parameters})

    def fail(self, error: str, parameters: Mapping[str, object]) -> None:
        """The last answer, an error: a full name, or the last part of one of ours."""
        self._connection.open_calls -= 1
        name = error if "." in error else f"{varlink.INTERFACE}.{error}"
        self._send({"error": name, "parameters": parameters})

    def _send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        if not self._oneway:
            self._connection.send(varlink.encode(message), fds)


class ControlServer:
    """Accepts callers and hands each call on. Closed, it accepts no more, but those inside still get their answers."""

    def __init__(self, loop: EventLoop, listener: socket.socket, on_call: Callable[[Call], None]) -> None:
        self._loop = loop
        self._listener = listener
        self._on_call = on_call
        self._connections: set[_Connection] = set()
        self._accepting = False

    def fileno(self) -> int:
        """The listener, for a successor."""
        return self._listener.fileno()

    def accept_calls(self) -> None:
        """From now on. A successor does not accept before it is the main one."""
        if not self._accepting:
            self._accepting = True
            self._loop.watch(self._listener.fileno(), self._accept)

    def stop_accepting(self) -> None:
        """Leave the listener to the successor."""
        if self._accepting:
            self._accepting = False
            self._loop.unwatch(self._listener.fileno())

    def answer_the_rest(self) -> None:
        """Before we leave: take the calls that have arrived and were not read yet."""
        for connection in list(self._connections):
            connection.read()

    def leave_idle_callers(self, take: Callable[[int], bool]) -> None:
        """Let somebody else go on with those who have been answered or have not asked yet, where that takes the
        connection. What they send from now on is not ours to read, nor is what we have not read yet."""
        for connection in list(self._connections):
            if connection.idle and take(connection.fileno()):
                connection.close()

    def adopt(self, fd: int) -> None:
        """Go on with a caller that our predecessor had accepted, and that is idle since before any of ours."""
        self._talk_with(socket.socket(fileno=fd), quiet_since=0.0)

    def close(self) -> None:
        """Give all descriptors back; in a forked worker, its copies."""
        self._listener.close()
        for connection in self._connections:
            connection.abandon()

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            _log.warning("Cannot accept a caller on the control socket: %s; trying again", error.strerror)
            self._loop.unwatch(self._listener.fileno())
            self._loop.call_later(_PAUSE_SECONDS, self._accept_again)
            return
        self._talk_with(peer, quiet_since=time.monotonic())

    def _talk_with(self, peer: socket.socket, *, quiet_since: float) -> None:
        self._connections.add(_Connection(self._loop, peer, self._on_call, self._gone, quiet_since))
        if len(self._connections) > _MAX_CONNECTIONS:
            idle = (connection for connection in self._connections if not connection.open_calls)
            min(idle, key=lambda connection: connection.quiet_since).close()

    def _accept_again(self) -> None:
        if self._accepting:
            self._loop.watch(self._listener.fileno(), self._accept)

    def _gone(self, connection: "_Connection") -> None:
        self._connections.discard(connection)


class _Connection:
    """A caller; gone at its EOF, at nonsense, or when it does not read what we answer."""

    def __init__(
        self,
        loop: EventLoop,
        peer: socket.socket,
        on_call: Callable[[Call], None],
        on_gone: Callable[["_Connection"], None],
        quiet_since: float,
    ) -> None:
        peer.setblocking(False)
        self.pid, self.uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self._loop, self._peer, self._on_call, self._on_gone = loop, peer, on_call, on_gone
        self._reader = varlink.MessageReader()
        self._open = True
        self.open_calls = 0  # not answered yet
        self.quiet_since = quiet_since  # neither side has said anything; as time.monotonic() tells it
        loop.watch(peer.fileno(), self.read)

    @property
    def idle(self) -> bool:
        """It waits for nothing of ours, nor we for the end of a message."""
        return not self.open_calls and not self._reader.in_the_middle

    def fileno(self) -> int:
        return self._peer.fileno()

    def send(self, data: bytes, fds: Sequence[int]) -> None:
        if not self._open:
            return
        self.quiet_since = time.monotonic()
        try:
            sent = socket.send_fds(self._peer, [data], fds)
        except OSError:
            sent = 0
        if sent != len(data):
            self.close()

    def abandon(self) -> None:
        """In a forked child: close the copy; the parent's connection and epoll stay as they are."""
        self._peer.close()

    def read(self) -> None:
        """Read once, and hand the calls on; or notice the end."""
        if not self._open:
            return
        try:
            data = self._peer.recv(65536)
            messages = self._reader.feed(data) if data else None
        except BlockingIOError:
            return
        except ConnectionError:
            messages = None
        except ProtocolError as error:
            self.send(varlink.encode({"error": varlink.INVALID_PARAMETER, "parameters": {"parameter": str(error)}}), ())
            messages = None
        if messages is None:
            self.close()
            return
        self.quiet_since = time.monotonic()
        for message in messages:
            self.open_calls += 1
            self._on_call(Call(self, message))

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loop.unwatch(self._peer.fileno())
            self._peer.close()
            self._on_gone(self)
