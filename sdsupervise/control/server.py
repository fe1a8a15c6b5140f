"""The control socket: a listener whose path outlives reloads, and the calls that arrive there.

Every user may connect. The following rules keep clients from hindering the supervisor, or other clients:

* In one turn of the event loop, at most one connection is accepted, one call of a privileged client is read, and one
  call of an unprivileged client.
* All unprivileged clients together get a tenth of the supervisor's time, and accepting gets a fifth.
* A connection has one call at a time. While that is open, or its answer is not read, nothing more is read.
* Each user has a limit of connections, and all unprivileged users together have one. When a user with too many
  connections opens another, the connection that had no whole call or answer for the longest time is closed.
"""

import errno
import logging
import os
import struct
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from ..errors import AlreadyRunning, ControlSocketError
from ..linux import files
from ..linux.event_loop import EventLoop
from ..linux.time_share import TimeShare
from ..linux.unpatched import socket
from ..settings.addresses import why_too_long
from ..sockets.opening import is_stale
from .connection import Call, Connection

__all__ = ["Call", "ControlServer", "bind"]

_log = logging.getLogger("sdsupervise")

_BACKLOG = 64
_PLACES = 64  # for root, and for the supervisor's own user
_PLACES_OF_A_STRANGER, _PLACES_OF_STRANGERS = 8, 32
_SHARE_OF_STRANGERS, _SHARE_OF_ACCEPTING = 0.1, 0.2
_PAUSE_SECONDS = 1.0  # without a free descriptor, accepting again at once would only spin
_LAST_CALLS_SECONDS = 0.1  # for the calls of unprivileged clients that have arrived before we exit


def bind(path: str) -> socket.socket:
    """Listen at a path, and replace the socket of a dead supervisor. The socket has mode 0666; we check each call's
    rights.

    Raises AlreadyRunning if a process listens there, ControlSocketError if the path cannot be used.
    """
    if too_long := why_too_long(path):
        raise ControlSocketError(
            f"The control socket's path {path} {too_long}; choose a shorter --pid-file, or a shorter directory in "
            f"$RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR."
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    try:
        # this also makes no socket where a symlink of another user leads
        os.close(files.open_directory(os.path.dirname(path)))
        if is_stale(path):
            files.remove(path)
        os.fchmod(listener.fileno(), 0o666)
        # The mode is set at creation. In a directory of the service's user, root must not chmod a name that may be
        # replaced.
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
            "choose a --pid-file in a directory that the service may write."
        ) from error
    return listener


class ControlServer:
    """Accepts clients and passes their calls on. After it stops accepting, accepted clients still get their answers."""

    def __init__(
        self, loop: EventLoop, listener: socket.socket, *, on_call: Callable[[Call], None], privileged: Collection[int]
    ) -> None:
        """`privileged` are the uids whose connections unprivileged clients cannot displace."""
        self._loop = loop
        self._listener = listener
        self._on_call = on_call
        self._privileged = privileged
        self._connections: set[Connection] = set()
        self._accepting = False
        self._accepts = TimeShare(loop, _SHARE_OF_ACCEPTING)
        self._calls = TimeShare(loop, 1.0)
        self._strangers_calls = TimeShare(loop, _SHARE_OF_STRANGERS)

    def fileno(self) -> int:
        """Return the listener's descriptor, for a successor."""
        return self._listener.fileno()

    def accept_calls(self) -> None:
        """Begin to accept. A successor does so when it becomes the main supervisor."""
        if not self._accepting:
            self._accepting = True
            self._accepts.watch(self._listener.fileno(), self._accept)

    def stop_accepting(self) -> None:
        """Stop accepting: the successor accepts from now on."""
        if self._accepting:
            self._accepting = False
            self._accepts.unwatch(self._listener.fileno())

    def answer_the_rest(self) -> None:
        """Before we exit, read the calls that have arrived, one of each connection."""
        end = time.monotonic() + _LAST_CALLS_SECONDS
        for connection in sorted(self._connections, key=self._is_stranger):
            if not self._is_stranger(connection) or time.monotonic() < end:
                connection.read()

    def leave_idle_callers(self, take: Callable[[int], bool]) -> None:
        """Pass each idle client to another process, by `take`, which gets the descriptor and returns whether it takes
        it.

        A client is idle if it has all its answers, or has not sent a call. We read nothing more from a client that was
        taken.
        """
        for connection in list(self._connections):
            if connection.idle and take(connection.fileno()):
                connection.close()

    def adopt(self, fd: int) -> None:
        """Continue with an idle client that our predecessor had accepted. It counts as quiet for longer than any of
        ours."""
        self._talk_with(socket.socket(fileno=fd), quiet_since=0.0)

    def close(self) -> None:
        """Close all descriptors; in a forked worker, its copies."""
        self._listener.close()
        for share in (self._accepts, self._calls, self._strangers_calls):
            share.close()
        for connection in self._connections:
            connection.abandon()

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            strangers = [connection for connection in self._connections if self._is_stranger(connection)]
            if strangers:  # unprivileged clients must not take the descriptors that others need
                _longest_quiet(strangers).close()
                return
            _log.warning("Cannot accept a connection on the control socket: %s; trying again", error.strerror)
            self._accepts.unwatch(self._listener.fileno())
            self._loop.call_later(_PAUSE_SECONDS, self._accept_again)
            return
        self._talk_with(peer, quiet_since=time.monotonic())

    def _talk_with(self, peer: socket.socket, *, quiet_since: float) -> None:
        pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        share = self._calls if uid in self._privileged else self._strangers_calls
        connection = Connection(
            share, peer, pid, uid, quiet_since, on_call=self._on_call, on_gone=self._connections.discard
        )
        self._connections.add(connection)
        self._make_room(connection)

    def _make_room(self, newest: Connection) -> None:
        """Close one connection of a user who has too many, if there is such a user."""
        of_user = [connection for connection in self._connections if connection.uid == newest.uid]
        if not self._is_stranger(newest):
            if len(of_user) > _PLACES:
                _longest_quiet(of_user).close()
            return
        strangers = [connection for connection in self._connections if self._is_stranger(connection)]
        if len(of_user) > _PLACES_OF_A_STRANGER:
            _longest_quiet(of_user).close()
        elif len(strangers) > _PLACES_OF_STRANGERS:
            ((uid, _),) = Counter(connection.uid for connection in strangers).most_common(1)
            _longest_quiet([connection for connection in strangers if connection.uid == uid]).close()

    def _is_stranger(self, connection: Connection) -> bool:
        return connection.uid not in self._privileged

    def _accept_again(self) -> None:
        if self._accepting:
            self._accepts.watch(self._listener.fileno(), self._accept)


def _longest_quiet(connections: Sequence[Connection]) -> Connection:
    """Return the connection that has been quiet for longest. One that waits for an answer comes last."""
    return min(connections, key=lambda connection: (connection.call_is_open, connection.quiet_since))
