"""The start record: how systemd started the first generation of a unit. The process of ExecReload= reads it.

That process starts the successor. It may have more rights than the running supervisor, which has dropped them for
`user`. So it executes only what this record contains, not what a supervisor answers, and it trusts a record only if
root or its own user wrote it. The first generation writes the record before it drops its rights.
"""

import json
import stat
from typing import NamedTuple

from ..errors import ControlSocketError, HandoverError
from ..input.checked import Unfit, list_of, parse, record, text
from ..linux import files
from ..linux.inheritance import Invocation
from ..linux.unpatched import os

_MOST_BYTES = 1024 * 1024  # a command line may have 2 MB; one in a unit is much shorter
_MOST_WORDS = 10_000
_MOST_CHARACTERS = 128 * 1024  # MAX_ARG_STRLEN
_OF_SYSTEMD = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY")  # for ExecStart= only


_RECORD = record(
    {
        "argv": list_of(text(_MOST_CHARACTERS), _MOST_WORDS),
        "environment": record({}, dict.fromkeys(_OF_SYSTEMD, text(_MOST_CHARACTERS))),
    }
)


class StartRecord(NamedTuple):
    """The command line and environment that start a successor."""

    argv: list[str]
    environment: dict[str, str]  # variables that ExecReload= lacks; the rest comes from the present unit


def path_beside(control_path: str) -> str:
    """The path of the start record that belongs to this control socket."""
    return f"{control_path.removesuffix('control')}start.json"


def write(path: str, invocation: Invocation) -> None:
    """Write the start record of this process.

    Raises ControlSocketError if the directory is not writable.
    """
    environment = {name: invocation.environment[name] for name in _OF_SYSTEMD if name in invocation.environment}
    content = json.dumps({"argv": invocation.argv, "environment": environment})
    try:
        directory = files.open_directory(os.path.dirname(path))
        try:
            files.replace(directory, os.path.basename(path), content.encode(), 0o600, durable=False)
        finally:
            os.close(directory)
    except OSError as error:
        raise ControlSocketError(
            f"Cannot write {path}, which a reload needs: {error.strerror}; give the unit a RuntimeDirectory=."
        ) from error


def read(path: str) -> StartRecord:
    """Read a start record.

    Raises HandoverError if there is none, or none that this process may trust; the sentence says why.
    """
    try:
        directory = files.open_directory(os.path.dirname(path))
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(os.path.basename(path), flags, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise HandoverError(f"{path} cannot be read: {error.strerror}.") from error
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise HandoverError(f"{path} is not a regular file with one name.")
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise HandoverError(
                f"Uid {found.st_uid} may have written {path}, and uid {os.geteuid()} would execute what it says."
            )
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise HandoverError(f"{path} is not a start record: it has more than {_MOST_BYTES} bytes.")
    try:
        said = _RECORD(parse(data), "")
        if not said["argv"]:
            raise Unfit("argv", "must not be empty")
    except Unfit as error:
        raise HandoverError(f"{path} is not a start record: {error}.") from None
    return StartRecord(said["argv"], said["environment"])


def unlink_control(path: str) -> None:
    """Remove the control socket and the start record, when a service ends."""
    for each in (path, path_beside(path)):
        try:
            files.remove(each)
        except OSError:
            pass  # the directory may belong to root, or be gone with the unit
