"""A caller of the control socket: blocking, one call at a time, with a limit on each wait."""

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Self

from . import varlink
from .addresses import why_too_long
from .errors import HandoverError, NotPermitted, NotRunning
from .linux.channel import receive_with_fds
from .linux.patience import as_long_as_you_like, readable_within
from .unpatched import socket

_NONE: Mapping[str, object] = {}


class Answer(NamedTuple):
    """One message of an answer. The receiver owns the descriptors."""

    parameters: Mapping[str, object]
    error: str  # "" for a good one; without our interface's name in front
    continues: bool
    fds: list[int]


class Client:
    """A connection to a supervisor."""

    def __init__(self, connection: socket.socket, path: str, timeout_seconds: float) -> None:
        self._connection, self._path, self._timeout_seconds = connection, path, timeout_seconds
        self._patience = timeout_seconds  # for the next answer
        # Of the process that began to listen, which may be the supervisor of an older generation; SO_PEERCRED.
        _, self.listener_uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))

    @classmethod
    def connect(cls, path: str, *, timeout_seconds: float) -> Self:
        """Connect to the socket at a path. The time-out bounds every wait, beyond what the supervisor announces for it.

        Raises NotRunning if nobody listens there, NotPermitted if we may not ask, HandoverError if it does not accept.
        """
        if too_long := why_too_long(path):
            raise NotRunning(f"Nobody can listen on {path}: it {too_long}.")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # With settimeout() a connect would fail at once where the backlog is full, and look as if nobody was there.
        limit = struct.pack("@ll", int(timeout_seconds), int(timeout_seconds % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            connection.connect(path)
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
    ) -> Iterator[Answer]:
        """Call a method of ours; its answers, the last one with continues False. `while_waiting` is called again and
        again in every wait, after as many seconds as it says; what it raises ends the call.

        Raises NotPermitted when the caller may not do that, HandoverError when the supervisor is gone or silent before
        the last answer.
        """
        name = f"{varlink.INTERFACE}.{method}"
        reader = varlink.MessageReader()
        try:
            self._connection.sendall(varlink.encode({"method": name, "parameters": parameters, "more": more}))
            while True:
                if not readable_within(self._connection, self._patience, while_waiting=while_waiting):
                    raise TimeoutError
                data, fds, _ = receive_with_fds(self._connection, 65536, 16)
                if not data:
                    break
                for message in reader.feed(data):
                    answer = _answer(message, fds)
                    fds = []
                    if answer.error == varlink.PERMISSION_DENIED:
                        raise NotPermitted(str(answer.parameters.get("reason", answer.error)))
                    at_most = answer.parameters.get("at_most")
                    if isinstance(at_most, int | float):  # the supervisor's own deadline for what it does now
                        self._patience = self._timeout_seconds + at_most
                    yield answer
                    if not answer.continues:
                        return
        except TimeoutError:
            raise HandoverError(f"The supervisor on {self._path} does not answer; it may hang.") from None
        except ConnectionError:
            pass
        raise HandoverError(f"The supervisor on {self._path} is gone before it answered.")

    def ask(self, method: str) -> Answer:
        """Call a method that answers once."""
        return next(self.call(method))

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _answer(message: Mapping[str, object], fds: list[int]) -> Answer:
    parameters = message.get("parameters")
    error = str(message.get("error", ""))
    return Answer(
        parameters if isinstance(parameters, dict) else {},
        error.removeprefix(varlink.INTERFACE + "."),
        message.get("continues") is True,
        fds,
    )


def runtime_directory(environment: Mapping[str, str] = os.environ) -> str:
    """The one of $RUNTIME_DIRECTORY's directories that is ours: .../sdsupervise/NAME, else the first; "" = none."""
    directories = [path for path in environment.get("RUNTIME_DIRECTORY", "").split(":") if path]
    ours = [path for path in directories if os.path.basename(os.path.dirname(path)) == "sdsupervise"]
    return (ours or directories or [""])[0]


def control_path(pid_file: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Where a supervisor listens: in the unit's runtime directory, or beside its pid file; "" = nowhere."""
    directory = runtime_directory(environment)
    if directory:
        return os.path.join(directory, "control")
    return f"{os.path.splitext(pid_file)[0]}.control" if pid_file else ""
