"""Opens listening sockets, and makes the files of UNIX sockets: with their owner and mode, and until their removal."""

import errno
import grp
import pwd
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

from ..errors import ConfigError, ListenError, NotPermitted
from ..input.checked import MOST_ID, decimal
from ..linux import files
from ..linux.unpatched import os, select, socket
from ..settings.addresses import NEXT, Address, parse
from ..settings.listen import Listen

_PROBE_SECONDS = 1.0
_DEFAULT_MODE = 0o666  # the default of SocketMode=, systemd.socket(5)


class Listener(socket.socket):
    """A listening socket of which many processes have copies.

    All copies share O_NONBLOCK: an asyncio worker that sets it changes all other workers, also those of the previous
    generation. In a process whose own setting is to block, accept() blocks nevertheless.
    """

    def accept(self) -> tuple[socket.socket, object]:
        """See socket.socket.accept."""
        while True:
            try:
                return super().accept()
            except BlockingIOError:
                if self.gettimeout() is not None:
                    raise
            poller = select.poll()
            poller.register(self, select.POLLIN)
            poller.poll()


class File(NamedTuple):
    """The file of a UNIX socket as it was made. Another file may have its path by now.

    The file of the next generation's socket waits beside that path (NEXT), and then takes the path.
    """

    path: str
    device: int
    inode: int

    @classmethod
    def just_made(cls, path: str, suffix: str) -> Self:
        """Return the file of a socket that we have just bound at this path, or beside it.

        Raises OSError if another user has put a different file there.
        """
        found = os.lstat(path + suffix)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
            raise _replaced()
        return cls(path, found.st_dev, found.st_ino)

    @property
    def place(self) -> str:
        """Where the file is: its path, or beside it; "" if it is gone."""
        for place in (self.path, self.path + NEXT):
            try:
                if self._is(os.lstat(place)):
                    return place
            except OSError:
                continue
        return ""

    def is_there(self) -> bool:
        """Return whether its path still leads to it."""
        return self.place == self.path

    def take_path(self) -> None:
        """Move the file to its path in one step, so that the path always leads to a socket. An earlier file there is
        removed.

        Raises OSError.
        """
        with self.in_directory() as (directory, name):
            path = os.path.basename(self.path)
            if name != path:
                os.rename(name, path, src_dir_fd=directory, dst_dir_fd=directory)

    def unlink(self) -> None:
        """Remove the file, unless another file has replaced it, or we may not write to its directory."""
        try:
            with self.in_directory() as (directory, name):
                os.unlink(name, dir_fd=directory)
        except OSError:
            pass

    @contextmanager
    def in_directory(self) -> Iterator[tuple[int, str]]:
        """Yield a descriptor of its directory, and its name there. Raises OSError."""
        directory = files.open_directory(os.path.dirname(self.path))
        try:
            path = os.path.basename(self.path)
            for name in (path, path + NEXT):
                try:
                    is_it = self._is(os.stat(name, dir_fd=directory, follow_symlinks=False))
                except FileNotFoundError:
                    continue
                if is_it:
                    yield directory, name
                    return
            raise FileNotFoundError(errno.ENOENT, "it was removed")
        finally:
            os.close(directory)

    def set_owner_and_mode(self, wanted: "WantedListener") -> None:
        """Set the owner and mode of the file. Raises OSError."""
        with self.in_directory() as (directory, name):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            this, found = f"/proc/self/fd/{fd}", os.fstat(fd)
            if not self._is(found):
                raise _replaced()
            uid = found.st_uid if wanted.uid is None else wanted.uid
            gid = found.st_gid if wanted.gid is None else wanted.gid
            if (uid, gid) != (found.st_uid, found.st_gid):
                os.chown(this, uid, gid)
            if stat.S_IMODE(found.st_mode) != wanted.mode:
                os.chmod(this, wanted.mode)
        finally:
            os.close(fd)

    def _is(self, found: os.stat_result) -> bool:
        return stat.S_ISSOCK(found.st_mode) and (found.st_dev, found.st_ino) == (self.device, self.inode)


class WantedListener(NamedTuple):
    """A configured listener with all names looked up, so that every value is valid."""

    name: str
    address: Address
    backlog: int
    mode: int
    uid: int | None  # None: the default owner
    gid: int | None
    reuse_port: bool
    lanes: bool

    @classmethod
    def of(cls, listen: Listen, uid: int | None, gid: int | None) -> Self:
        """Return the listener for an entry of the setting. `uid` and `gid` are the owner if the entry names none.

        Raises ConfigError.
        """
        where = f"listen {listen.name!r}"
        try:
            address = parse(listen.address)
        except ValueError as error:
            raise ConfigError(f"{where}: {listen.address!r} {error}.") from None
        return cls(
            listen.name,
            address,
            listen.backlog,
            _DEFAULT_MODE if listen.mode is None else listen.mode,
            _uid(where, listen.user) if listen.user else uid,
            _gid(where, listen.group) if listen.group else gid,
            listen.reuse_port,
            listen.lanes,
        )

    def is_excluded_by(self, address: Address, shares_port: bool) -> bool:
        """Return whether it cannot be opened while a socket at this address is open."""
        return self.address.excludes(address) and not (self.reuse_port and shares_port)

    def why_one_with(self, other: "WantedListener") -> str:
        """Return a sentence if both have the same address; "" if not."""
        if not self.address.is_one_with(other.address):
            return ""
        spelled = "" if self.address == other.address else f" ({other.address})"
        return f"listen {other.name!r} and {self.name!r} have the same address, {self.address}{spelled}."

    def why_not_beside(self, other: "WantedListener") -> str:
        """Return why only one of the two can be open at a time, as a sentence; "" if both can."""
        if why := self.why_one_with(other):
            return why
        if not self.is_excluded_by(other.address, other.reuse_port):
            return ""
        return (
            f"listen {other.name!r} and {self.name!r} cannot both be open: {other.address} and {self.address} are "
            f"the same "
            "port, and one of them takes it for all addresses ([::] for those of IPv4, too); leave one out."
        )

    def why_not_beside_control(self, path: str) -> str:
        """Return why it cannot be open beside a control socket at this path, as a sentence; "" if it can."""
        if not self.address.is_one_with(Address(socket.AF_UNIX, path)):
            return ""
        here = f"listen {self.name!r} is {self.address}"
        return f"{here}, where sdsupervise has its own control socket; choose another path."

    def open(self, *, beside: bool = False) -> tuple[Listener, File | None]:
        """Listen at the address. At a path, replace a socket's file on which no process listens, or bind beside it
        (NEXT).

        Raises ListenError, NotPermitted.
        """
        file = None
        listener = self.make()
        try:
            file = self._bind(listener, NEXT if beside else "")
            if file is not None:
                file.set_owner_and_mode(self)
            listener.listen(self.backlog)
        except OSError as error:
            _discard(listener, file)
            raise self.failure(error) from error
        return listener, file

    def make(self) -> Listener:
        """Return a socket for the address, not bound yet.

        Raises ListenError.
        """
        try:
            listener = Listener(self.address.family, socket.SOCK_STREAM)
        except OSError as error:
            raise self.failure(error) from error
        if self.address.family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted connections inherit it. Programs set it on sockets that they open, but often not on one that they
            # receive: then uvicorn's clients wait 40 ms for the second half of each answer.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener

    def adjust(self, listener: Listener, file: File | None, *, has_lanes: bool) -> None:
        """Give an open listener these options. Raises OSError if we may not."""
        listener.listen(self.backlog)
        if file is not None:
            file.set_owner_and_mode(self)
        elif listener.family != socket.AF_UNIX:
            # Without it, the kernel would choose between two lanes at random.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, self.reuse_port or has_lanes)

    def _bind(self, listener: Listener, suffix: str) -> File | None:
        path = self.address.path
        if path:
            # this also makes no socket where a symlink of another user leads
            os.close(files.open_directory(os.path.dirname(path)))
            if is_stale(path + suffix):
                files.remove(path + suffix)
            # the file's first mode: its owner may connect, no other user
            os.fchmod(listener.fileno(), self.mode & 0o700)
            listener.bind(path + suffix)
            return File.just_made(path, suffix)
        is_tcp = self.address.family != socket.AF_UNIX
        if is_tcp and self.reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(self.address.name)
        if is_tcp and self.lanes:
            # Only now, after bind(): no other socket is there that the kernel could take for one of ours.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return None

    def failure(self, error: OSError) -> ListenError | NotPermitted:
        """Return the error to raise if it cannot be opened."""
        where = f"Cannot listen on {self.address} (listen {self.name!r})"
        port = self.address.name[1] if isinstance(self.address.name, tuple) else None
        match error.errno:
            case errno.EACCES | errno.EPERM if port is not None:
                return NotPermitted(
                    f"{where}: port {port} needs a privilege; start as root with --user, give the unit "
                    "AmbientCapabilities=CAP_NET_BIND_SERVICE, or have a .socket unit open it."
                )
            case errno.EACCES | errno.EPERM:
                return NotPermitted(
                    f"{where}: there is no permission; choose a directory that the service may "
                    f"write, and an owner and mode that it may set."
                )
            case errno.EADDRINUSE:
                find = f"`ss -lntp sport = {port}`" if port is not None else "`ss -lxp`"
                return ListenError(
                    f"{where}: it is in use; {find} shows the process: end that process, or choose another address."
                )
            case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT | errno.ENODEV:
                return ListenError(f"{where}: this host has no such address; `ip address` shows which it has.")
            case errno.ENOENT | errno.ENOTDIR:
                return ListenError(f"{where}: its directory does not exist; make it (in a unit: RuntimeDirectory=).")
            case errno.EEXIST:
                return ListenError(f"{where}: a file is there that is not a socket; remove it, or choose another path.")
            case _:
                return ListenError(f"{where}: {error.strerror or error}.")


def may_replace(path: str, uid: int, groups: Iterable[int]) -> bool:
    """Return whether this user may replace the file at this path. We are that user, or root, and ask in advance."""
    directory = os.path.dirname(path)
    try:
        found = os.stat(directory)
    except OSError:
        return True  # the process that opens it reports what is wrong
    may = os.access(directory, os.W_OK | os.X_OK)  # also False on a read-only file system
    if uid not in (0, os.geteuid()):
        shift = 6 if found.st_uid == uid else 3 if found.st_gid in groups else 0
        may = may and found.st_mode >> shift & 0o3 == 0o3
    if found.st_mode & stat.S_ISVTX and os.path.lexists(path):
        may = may and uid in (0, found.st_uid, os.lstat(path).st_uid)
    return may


def is_stale(path: str) -> bool:
    """Return whether the path is a socket on which no process listens; False if it does not exist.

    Raises OSError: EEXIST for what is no socket, EADDRINUSE if a process listens, EACCES if we may not connect.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "something is there that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except PermissionError:
            raise
        except OSError:
            pass  # a process is there that is slow, or uses another type of socket
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _replaced() -> OSError:
    return OSError(errno.ESTALE, "another process has replaced its file")


def _discard(listener: Listener, file: File | None) -> None:
    listener.close()
    if file is not None:
        file.unlink()


def _uid(where: str, user: str) -> int:
    try:
        number = decimal(user, MOST_ID)
        return (pwd.getpwnam(user) if number is None else pwd.getpwuid(number)).pw_uid
    except (KeyError, ValueError):
        raise ConfigError(f"{where}: there is no user {user!r} on this host.") from None


def _gid(where: str, group: str) -> int:
    try:
        number = decimal(group, MOST_ID)
        return (grp.getgrnam(group) if number is None else grp.getgrgid(number)).gr_gid
    except (KeyError, ValueError):
        raise ConfigError(f"{where}: there is no group {group!r} on this host.") from None
