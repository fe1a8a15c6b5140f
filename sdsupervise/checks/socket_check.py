"""Checks whether the sockets and the pid file of an instance can be opened at its start, without opening them.

The findings are true at the time of the check. The process that checks has the identity of the process that will open
them; see checks/dry_run.py.
"""

import errno
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..errors import ListenError, NotPermitted
from ..linux.unix_sockets import Row, rows
from ..linux.unpatched import os, socket
from ..settings.addresses import Address, parse, why_too_long
from ..sockets.opening import WantedListener

# Directories that systemd makes before a unit starts, and their parents.
_MADE_BY_SYSTEMD = {
    "RuntimeDirectory": "/run",
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
}
_HIDE = {"ProtectHome": ("/home", "/root", "/run/user"), "PrivateTmp": ("/tmp", "/var/tmp")}
PROPERTIES = (*_MADE_BY_SYSTEMD, *_HIDE, "AmbientCapabilities", "ProtectSystem", "ReadWritePaths", "PrivateNetwork")
_LISTENING = {"/proc/net/tcp": socket.AF_INET, "/proc/net/tcp6": socket.AF_INET6}
_LISTEN_STATE = "0A"  # include/net/tcp_states.h


class Said(NamedTuple):
    """One finding."""

    sentence: str
    is_mistake: bool  # else a remark about something that may be intended


class RunPlace(NamedTuple):
    """Where an instance will run."""

    run_directory: str
    properties: Mapping[str, str]  # of its unit; empty if there is none

    @property
    def control(self) -> str:
        """The path of the control socket."""
        return os.path.join(self.run_directory, "control")

    @property
    def made_at_start(self) -> list[str]:
        """The directories that exist only from the start on."""
        made = [
            os.path.join(parent, name)
            for key, parent in _MADE_BY_SYSTEMD.items()
            for name in self.properties.get(key, "").split()
        ]
        return made or [self.run_directory]

    def hides(self, path: str) -> str:
        """The unit's setting that hides this path from the service; "" if none does."""
        for key, directories in _HIDE.items():
            value = self.properties.get(key, "no")
            if value in ("yes", "tmpfs", "disconnected") and _is_below(path, directories):
                return f"{key}={value}"
        return ""

    def is_read_only(self, path: str) -> bool:
        """Whether the unit's settings make this path read-only."""
        if self.properties.get("ProtectSystem") != "strict":
            return False
        may = [*self.made_at_start, *self.properties.get("ReadWritePaths", "").split(), "/dev", "/proc", "/sys"]
        return not (self.hides(path) or _is_below(path, [each.lstrip("-+") for each in may]))


def of_place(place: RunPlace, pid_file: str | None) -> Iterator[Said]:
    """Findings about what every start opens; `pid_file` is the path in the instance's file."""
    if too_long := why_too_long(place.control):
        yield Said(
            f"The control socket's path {place.control} {too_long}; set $XDG_RUNTIME_DIR to a shorter path.", True
        )
    if pid_file is not None:
        yield from _of_pid_file(pid_file, place)


def of_listeners(
    listens: Sequence[WantedListener], others: Sequence[WantedListener], place: RunPlace
) -> Iterator[Said]:
    """Findings about the sockets that a start will open beside others."""
    taken = [*_taken()]
    runs = any(other.path == place.control for other in taken)  # then this instance itself has them
    for number, wanted in enumerate(listens):
        try:
            _look_at(wanted, place)
        except (ListenError, NotPermitted) as error:
            yield Said(str(error), True)
        for other in (*others, *listens[:number]):
            if why := wanted.why_not_beside(other):
                yield Said(why, True)
        if why := wanted.why_not_beside_control(place.control):
            yield Said(why, True)
        if not runs and not wanted.reuse_port and any(wanted.address.excludes(other) for other in taken):
            yield Said(f"A start would fail now: {wanted.failure(OSError(errno.EADDRINUSE, ''))}", False)


def _look_at(wanted: WantedListener, place: RunPlace) -> None:
    """Check one listener.

    Raises ListenError, NotPermitted.
    """
    path = wanted.address.path
    if not path:
        if isinstance(wanted.address.name, tuple) and place.properties.get("PrivateNetwork") != "yes":
            _look_at_port(wanted, place)
        return
    directory = os.path.dirname(path)
    if hidden := place.hides(directory):
        raise wanted.failure(OSError(errno.ENXIO, f"{hidden} gives its unit a {directory} of its own"))
    if place.is_read_only(directory):
        raise wanted.failure(OSError(errno.EROFS, "ProtectSystem=strict makes its directory read-only"))
    if any(directory == made or made.startswith(f"{directory}/") for made in place.made_at_start):
        return
    if not os.path.isdir(directory):
        raise wanted.failure(OSError(errno.ENOENT, ""))
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise wanted.failure(OSError(errno.EEXIST, ""))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise wanted.failure(OSError(errno.EACCES, ""))


def _look_at_port(wanted: WantedListener, place: RunPlace) -> None:
    """Check the address and port of one listener.

    Raises ListenError, NotPermitted.
    """
    assert isinstance(wanted.address.name, tuple)
    host, port, *scope = wanted.address.name
    try:
        with socket.socket(wanted.address.family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0, *scope))  # port 0 is always free: only the address is tested
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
            first = int(file.read())
    except FileNotFoundError:
        first = 1024
    except OSError as error:
        raise wanted.failure(error) from error
    if (
        port < first
        and os.geteuid() != 0
        and "cap_net_bind_service" not in place.properties.get("AmbientCapabilities", "")
    ):
        raise wanted.failure(OSError(errno.EACCES, ""))


def _of_pid_file(path: str, place: RunPlace) -> Iterator[Said]:
    directory = os.path.dirname(os.path.abspath(path))
    try:
        if os.path.lexists(path):
            found = os.lstat(path)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                yield Said(f"The pid file {path} is not a regular file with one name; choose another path.", True)
            elif not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        elif directory not in place.made_at_start:
            os.stat(directory)
            if not os.access(directory, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if place.is_read_only(directory):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    except OSError as error:
        yield Said(f"Cannot open the pid file {path}: {error.strerror}; choose another path.", True)


def _taken() -> Iterator[Address]:
    """All addresses with a listener now, from /proc. No socket is connected to."""
    for file, family in _LISTENING.items():
        for line in _lines(file):
            words = line.split()
            if len(words) > 3 and words[3] == _LISTEN_STATE:
                yield _address(family, words[1])
    for row in _unix_sockets():
        if row.listens:
            try:
                yield parse(row.name)
            except ValueError:
                pass  # a relative path: relative to an unknown directory


def _address(family: int, text: str) -> Address:
    """An address of /proc/net/tcp: hexadecimal words in the host's byte order (proc(5))."""
    host, _, port = text.partition(":")
    raw = b"".join(int(host[place : place + 8], 16).to_bytes(4, sys.byteorder) for place in range(0, len(host), 8))
    name = socket.inet_ntop(family, raw)
    number = int(port, 16)
    return Address(family, (name, number) if family == socket.AF_INET else (name, number, 0, 0))


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.readlines()[1:]
    except OSError:
        return []


def _unix_sockets() -> list[Row]:
    try:
        return [*rows()]
    except OSError:
        return []


def _is_below(path: str, directories: Iterable[str]) -> bool:
    return any(f"{path}/".startswith(f"{directory.rstrip('/')}/") for directory in directories)
