"""A client of the control socket: blocking, one call at a time, with a deadline for each answer.

The listening process may be any that owns the directory. So every answer is checked here, and made printable.
"""

import struct
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Self

from ..errors import HandoverError, NotPermitted, NotRunning, ProtocolError
from ..input.checked import MOST_FDS, Unfit
from ..linux.channel import Received, receive
from ..linux.patience import NAP, readable_within, without_checks
from ..linux.unpatched import os, socket
from ..settings.addresses import why_too_long
from . import varlink

if TYPE_CHECKING:
    from .answers import Answer

_NONE: Mapping[str, object] = {}
_READ_BYTES = 65536
_MOST_FDS = 2  # with one answer


class Client:
    """A connection to a supervisor."""

    def __init__(self, connection: socket.socket, path: str, timeout_seconds: float) -> None:
        self._connection, self._path, self._timeout_seconds = connection, path, timeout_seconds
        # The uid of the process that called listen(), perhaps the supervisor of an older generation; SO_PEERCRED,
        # unix(7).
        _, self.listener_uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))

    @classmethod
    def connect(cls, path: str, *, timeout_seconds: float) -> Self:
        """Connect to the socket at a path. The time-out, in seconds, is for connecting, and for each whole answer.

        The supervisor may announce more time for an answer. Raises NotRunning if no process listens there, NotPermitted
        if we may not connect, HandoverError if the supervisor does not accept.
        """
        if too_long := why_too_long(path):
            raise NotRunning(f"Nothing can listen on {path}: it {too_long}.")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # With settimeout(), connect() would fail at once on a full backlog, as if no process listened.
        limit = struct.pack("@ll", int(timeout_seconds), int(timeout_seconds % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            _connect(connection, path)
            connection.settimeout(timeout_seconds)
        except PermissionError as error:
            connection.close()
            raise NotPermitted(f"No permission to connect to {path}; try as root.") from error
        except BlockingIOError:
            connection.close()
            raise HandoverError(f"The supervisor on {path} accepts no connection; it may hang.") from None
        except OSError as error:
            connection.close()
            raise NotRunning(
                f"Nobody listens on {path} ({error.strerror or error}): the service is not running."
            ) from error
        return cls(connection, path, timeout_seconds)

    def call(
        self,
        method: str,
        parameters: Mapping[str, object] = _NONE,
        *,
        more: bool = False,
        while_waiting: Callable[[], float] = without_checks,
        wake_fds: set[int] | None = None,
    ) -> Iterator["Answer"]:
        """Call one of our methods, and yield its answers; the last one has `continues` False.

        During each wait `while_waiting` is called again and again: after as many seconds as it returns, or when one of
        `wake_fds` is readable, which is then removed from the set. An exception of `while_waiting` ends the call.
        Raises NotPermitted if the caller may not do that, HandoverError if the supervisor dies or is silent before the
        last answer, ProtocolError for a message that is no answer of this method.
        """
        message = {"method": f"{varlink.INTERFACE}.{method}", "parameters": parameters, "more": more}
        try:
            self._connection.sendall(varlink.encode(message))
            yield from self._answers(
                method, more, partial(readable_within, while_waiting=while_waiting, wake_fds=wake_fds)
            )
        except TimeoutError:
            raise HandoverError(f"The supervisor on {self._path} does not answer; it may hang.") from None
        except OSError:
            raise HandoverError(f"The supervisor on {self._path} ended before it answered.") from None
        except (ProtocolError, Unfit) as error:
            raise ProtocolError(f"{self._path} does not answer like this version of sdsupervise: {error}.") from None

    def ask(self, method: str) -> "Answer":
        """Call a method that answers once, and return its answer. Raises as `call`."""
        return next(self.call(method))

    def status(self) -> "Answer":
        """Return the answer to Status. Raises HandoverError for an error, else as `call`."""
        answer = self.ask("Status")
        if answer.error:
            raise HandoverError(f"The supervisor on {self._path} refused to report its status: {answer.error}.")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _answers(self, method: str, more: bool, readable: Callable[[socket.socket, float], bool]) -> Iterator["Answer"]:
        from . import answers  # a supervisor imports this module too, and never asks

        reader, fds = varlink.MessageReader(), list[int]()
        deadline = _Deadline(self._timeout_seconds)
        try:
            while True:
                deadline.wait(self._connection, readable)
                received = self._receive()
                fds += received.fds
                if len(fds) > (_MOST_FDS if more else 0):
                    raise Unfit("", "comes with too many descriptors")
                for message in reader.feed(received.data):
                    answer = answers.read(method, message, fds, received.sender)
                    if answer.error == varlink.PERMISSION_DENIED:
                        raise NotPermitted(answer.parameters["reason"])
                    if answer.continues and not more:
                        raise Unfit("", "is not the last")
                    if fds and "spawn" not in answer.parameters:
                        raise Unfit("", "comes with descriptors")
                    fds = []
                    yield answer
                    if not answer.continues:
                        return
                    if "at_most" in answer.parameters:  # the supervisor's present step has a deadline of its own
                        deadline = _Deadline(self._timeout_seconds + answer.parameters["at_most"])
        finally:
            for fd in fds:
                os.close(fd)

    def _receive(self) -> Received:
        received = receive(self._connection, _READ_BYTES, MOST_FDS)
        if not received.data:
            raise ConnectionError
        return received


class _Deadline:
    """The deadline of a whole answer. It moves if this process did not run for a while: see linux/patience.py."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def wait(self, connection: socket.socket, readable: Callable[[socket.socket, float], bool]) -> None:
        """Wait until there is something to read. Raises TimeoutError after the deadline."""
        left = self._due - time.monotonic()
        if left <= 0 or not readable(connection, left):
            raise TimeoutError
        now = time.monotonic()
        if now - self._due > self._seconds * NAP:
            self._due = now + self._seconds


def _connect(connection: socket.socket, path: str) -> None:
    """Connect to the socket at this path itself, and not to one that a symlink of the directory's owner leads to."""
    there = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{there}")
    finally:
        os.close(there)


def runtime_directory(environment: Mapping[str, str] = os.environ) -> str:
    """Return our directory in $RUNTIME_DIRECTORY: .../sdsupervise/NAME, else the first one, else ""."""
    directories = [path for path in environment.get("RUNTIME_DIRECTORY", "").split(":") if path]
    ours = [path for path in directories if os.path.basename(os.path.dirname(path)) == "sdsupervise"]
    return (ours or directories or [""])[0]


def default_pid_file(name: str, directory: str = "") -> str:
    """Return the default pid file: NAME.pid in the given directory, else in $RUNTIME_DIRECTORY, else in /run."""
    return os.path.join(directory or runtime_directory() or "/run", f"{name}.pid")


def control_path(pid_file: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the control socket's path: in the unit's runtime directory, or beside the pid file; "" if there is
    neither."""
    directory = runtime_directory(environment)
    if directory:
        return os.path.join(directory, "control")
    return f"{os.path.splitext(pid_file)[0]}.control" if pid_file else ""
