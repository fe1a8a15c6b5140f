"""A caller of the control socket: blocking, one call at a time, with a deadline for each answer.

Whoever listens there may be anybody who owns the directory: what comes from there is checked here, in one place, and
made such that it can be shown.
"""

import struct
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Self

from ..errors import HandoverError, NotPermitted, NotRunning, ProtocolError
from ..input.checked import MOST_FDS, Unfit
from ..linux.channel import Received, receive
from ..linux.patience import NAP, as_long_as_you_like, readable_within
from ..linux.unpatched import os, socket
from ..settings.addresses import why_too_long
from . import varlink

if TYPE_CHECKING:
    from .answers import Answer

_NONE: Mapping[str, object] = {}
_READ_BYTES = 65536
_MOST_FDS = 2  # beside one answer


class Client:
    """A connection to a supervisor."""

    def __init__(self, connection: socket.socket, path: str, timeout_seconds: float) -> None:
        self._connection, self._path, self._timeout_seconds = connection, path, timeout_seconds
        # Of the process that began to listen, which may be the supervisor of an older generation; SO_PEERCRED.
        _, self.listener_uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))

    @classmethod
    def connect(cls, path: str, *, timeout_seconds: float) -> Self:
        """Connect to the socket at a path. The time-out is for connecting, and for the answer to a call as a whole,
        beyond what the supervisor announces for it.

        Raises NotRunning if nobody listens there, NotPermitted if we may not ask, HandoverError if it does not accept.
        """
        if too_long := why_too_long(path):
            raise NotRunning(f"Nobody can listen on {path}: it {too_long}.")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # With settimeout() a connect would fail at once where the backlog is full, and look as if nobody was there.
        limit = struct.pack("@ll", int(timeout_seconds), int(timeout_seconds % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            _connect(connection, path)
            connection.settimeout(timeout_seconds)
        except PermissionError as error:
            connection.close()
            raise NotPermitted(f"We may not connect to {path}; try as root.") from error
        except BlockingIOError:
            connection.close()
            raise HandoverError(f"The supervisor on {path} accepts no caller; it may hang.") from None
        except OSError as error:
            connection.close()
            raise NotRunning(
                f"Nobody listens on {path} ({error.strerror or error}): the service does not run."
            ) from error
        return cls(connection, path, timeout_seconds)

    def call(
        self,
        method: str,
        parameters: Mapping[str, object] = _NONE,
        *,
        more: bool = False,
        while_waiting: Callable[[], float] = as_long_as_you_like,
        wake_fds: set[int] | None = None,
    ) -> Iterator["Answer"]:
        """Call a method of ours; its answers, the last one with continues False. `while_waiting` is called again and
        again in every wait, after as many seconds as it says, or when one of `wake_fds` is readable, which is taken out
        of them then; what it raises ends the call.

        Raises NotPermitted when the caller may not do that, HandoverError when the supervisor is gone or silent before
        the last answer, ProtocolError for an answer that is none of this method's.
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
            raise HandoverError(f"The supervisor on {self._path} is gone before it answered.") from None
        except (ProtocolError, Unfit) as error:
            raise ProtocolError(
                f"Whoever listens on {self._path} does not answer like an sdsupervise of this release: {error}."
            ) from None

    def ask(self, method: str) -> "Answer":
        """Call a method that answers once."""
        return next(self.call(method))

    def status(self) -> "Answer":
        """The answer to Status. Raises HandoverError where it is none."""
        answer = self.ask("Status")
        if answer.error:
            raise HandoverError(f"The supervisor on {self._path} refused to say its status: {answer.error}.")
        return answer

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _answers(self, method: str, more: bool, readable: Callable[[socket.socket, float], bool]) -> Iterator["Answer"]:
        from . import answers  # a supervisor has these functions beside it, and asks nobody

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
                    fds = []
                    yield answer
                    if not answer.continues:
                        return
                    if "at_most" in answer.parameters:  # what the supervisor does now has a deadline of its own
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
    """For all of an answer, however many its pieces. It is put off where we slept ourselves: see patience.py."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def wait(self, connection: socket.socket, readable: Callable[[socket.socket, float], bool]) -> None:
        """Until there is something to read; raises TimeoutError when it is too late."""
        left = self._due - time.monotonic()
        if left <= 0 or not readable(connection, left):
            raise TimeoutError
        now = time.monotonic()
        if now - self._due > self._seconds * NAP:
            self._due = now + self._seconds


def _connect(connection: socket.socket, path: str) -> None:
    """To the socket that is there, and to no other one that whoever owns the directory has a symlink lead to."""
    there = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{there}")
    finally:
        os.close(there)


def runtime_directory(environment: Mapping[str, str] = os.environ) -> str:
    """The one of $RUNTIME_DIRECTORY's directories that is ours: .../sdsupervise/NAME, else the first; "" = none."""
    directories = [path for path in environment.get("RUNTIME_DIRECTORY", "").split(":") if path]
    ours = [path for path in directories if os.path.basename(os.path.dirname(path)) == "sdsupervise"]
    return (ours or directories or [""])[0]


def default_pid_file(name: str, directory: str = "") -> str:
    """NAME.pid in the directory that it runs in; where that is not known, in $RUNTIME_DIRECTORY, or else in /run."""
    return os.path.join(directory or runtime_directory() or "/run", f"{name}.pid")


def control_path(pid_file: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Where a supervisor listens: in the unit's runtime directory, or beside its pid file; "" = nowhere."""
    directory = runtime_directory(environment)
    if directory:
        return os.path.join(directory, "control")
    return f"{os.path.splitext(pid_file)[0]}.control" if pid_file else ""
