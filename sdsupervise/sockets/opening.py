"""Opening sockets to listen on, and the files of UNIX sockets: whose they are, and when they may go."""

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
_DEFAULT_MODE = 0o666  # SocketMode= of a .socket unit


class Listener(socket.socket):
    """A socket of which many processes have copies.

    Whether it blocks is a property of what the copies share: an asyncio worker that sets it to non-blocking does so for
    every other one, also of the generation before. For one whose own setting is to wait, accept() waits all the same.
    """

    def accept(self) -> tuple[socket.socket, object]:
        """As socket.socket has it."""
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
    """A UNIX socket's file as it was made; another one can have its path by now.

    The file of the next generation's socket waits beside that path (NEXT), and then takes the path.
    """

    path: str
    device: int
    inode: int

    @classmethod
    def just_made(cls, path: str, suffix: str) -> Self:
        """That of a socket we have bound at this path, or beside it; raises OSError for what is none, which others have
        put there."""
        found = os.lstat(path + suffix)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
            raise _replaced()
        return cls(path, found.st_dev, found.st_ino)

    @property
    def place(self) -> str:
        """Where it is: its path, or beside it; "" if it is gone."""
        for place in (self.path, self.path + NEXT):
            try:
                if self._is(os.lstat(place)):
                    return place
            except OSError:
                continue
        return ""

    def is_there(self) -> bool:
        """Its path still leads to it."""
        return self.place == self.path

    def take_path(self) -> None:
        """From now on its path leads to it, and at no moment to nothing; what was there before has no name any more.

        Raises OSError.
        """
        with self.in_directory() as (directory, name):
            path = os.path.basename(self.path)
            if name != path:
                os.rename(name, path, src_dir_fd=directory, dst_dir_fd=directory)

    def unlink(self) -> None:
        """Remove it, unless it is another one by now or its directory is not ours to write."""
        try:
            with self.in_directory() as (directory, name):
                os.unlink(name, dir_fd=directory)
        except OSError:
            pass

    @contextmanager
    def in_directory(self) -> Iterator[tuple[int, str]]:
        """Its directory, by a descriptor, and its name there; raises OSError."""
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

    def dress(self, wanted: "WantedListener") -> None:
        """Give it its owner and mode; raises OSError."""
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
    """A listener as configured, all names looked up: nothing about it is malformed."""

    name: str
    address: Address
    backlog: int
    mode: int
    uid: int | None  # None: as it comes
    gid: int | None
    reuse_port: bool
    lanes: bool

    @classmethod
    def of(cls, listen: Listen, uid: int | None, gid: int | None) -> Self:
        """What an entry of the setting means; uid and gid are those of a file of which it says nothing.

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
        """It cannot be opened while another socket is there."""
        return self.address.excludes(address) and not (self.reuse_port and shares_port)

    def why_not_beside(self, other: "WantedListener") -> str:
        """Why only one of the two can be open at a time: a sentence; "" if both can."""
        if self.address.is_one_with(other.address):
            spelled = "" if self.address == other.address else f" ({other.address})"
            return f"listen {other.name!r} and {self.name!r} have one address, {self.address}{spelled}."
        if not self.is_excluded_by(other.address, other.reuse_port):
            return ""
        return (
            f"listen {other.name!r} and {self.name!r} cannot both be: {other.address} and {self.address} are the same "
            "port, and one of them takes it for all addresses ([::] for those of IPv4, too); leave one out."
        )

    def why_not_beside_control(self, path: str) -> str:
        """Why it cannot be open where the control socket is at this path: a sentence; "" if it can."""
        if not self.address.is_one_with(Address(socket.AF_UNIX, path)):
            return ""
        here = f"listen {self.name!r} is {self.address}"
        return f"{here}, where sdsupervise has its own control socket; choose another path."

    def open(self, *, beside: bool = False) -> tuple[Listener, File | None]:
        """Listen there, replacing the file of a socket that nobody listens on; or, at a path, beside it (NEXT).

        Raises ListenError, NotPermitted.
        """
        file = None
        listener = self.make()
        try:
            file = self._bind(listener, NEXT if beside else "")
            if file is not None:
                file.dress(self)
            listener.listen(self.backlog)
        except OSError as error:
            _give_up(listener, file)
            raise self.failure(error) from error
        return listener, file

    def make(self) -> Listener:
        """A socket for there, not bound yet.

        Raises ListenError.
        """
        try:
            listener = Listener(self.address.family, socket.SOCK_STREAM)
        except OSError as error:
            raise self.failure(error) from error
        if self.address.family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # What is accepted inherits it. Programs set it on sockets they open, and often not on one they are given:
            # uvicorn's clients wait 40 ms for the second half of each answer then.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener

    def adjust(self, listener: Listener, file: File | None, *, has_lanes: bool) -> None:
        """Give one that is open these options; raises OSError where we may not."""
        listener.listen(self.backlog)
        if file is not None:
            file.dress(self)
        elif listener.family != socket.AF_UNIX:
            # Of two lanes the kernel would choose as it likes without it.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, self.reuse_port or has_lanes)

    def _bind(self, listener: Listener, suffix: str) -> File | None:
        path = self.address.path
        if path:
            os.close(files.open_directory(os.path.dirname(path)))  # nor is a socket made where others lead us
            if is_stale(path + suffix):
                files.remove(path + suffix)
            os.fchmod(listener.fileno(), self.mode & 0o700)  # what the file is born with: its owner may, nobody else
            listener.bind(path + suffix)
            return File.just_made(path, suffix)
        is_tcp = self.address.family != socket.AF_UNIX
        if is_tcp and self.reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(self.address.name)
        if is_tcp and self.lanes:
            # Now, and not before: nobody else is there, whose socket the kernel would take for one of ours.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return None

    def failure(self, error: OSError) -> ListenError | NotPermitted:
        """What to say where it cannot be opened."""
        where = f"Cannot listen on {self.address} (listen {self.name!r})"
        port = self.address.name[1] if isinstance(self.address.name, tuple) else None
        match error.errno:
            case errno.EACCES | errno.EPERM if port is not None:
                return NotPermitted(
                    f"{where}: port {port} is not for everybody; start as root with --user, give the unit "
                    "AmbientCapabilities=CAP_NET_BIND_SERVICE, or have a .socket unit open it."
                )
            case errno.EACCES | errno.EPERM:
                return NotPermitted(f"{where}: we may not; choose a directory, owner and mode that are ours to give.")
            case errno.EADDRINUSE:
                find = f"`ss -lntp sport = {port}`" if port is not None else "`ss -lxp`"
                return ListenError(f"{where}: it is taken; {find} shows by whom: end that, or choose another address.")
            case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT | errno.ENODEV:
                return ListenError(f"{where}: this host has no such address; `ip address` shows which it has.")
            case errno.ENOENT | errno.ENOTDIR:
                return ListenError(f"{where}: its directory does not exist; make it (in a unit: RuntimeDirectory=).")
            case errno.EEXIST:
                return ListenError(f"{where}: there is a file that is no socket; remove it, or choose another path.")
            case _:
                return ListenError(f"{where}: {error.strerror or error}.")


def may_replace(path: str, uid: int, groups: Iterable[int]) -> bool:
    """This user may put another file in the place of this one; we are that user, or root, and ask for it beforehand."""
    directory = os.path.dirname(path)
    try:
        found = os.stat(directory)
    except OSError:
        return True  # whoever opens it is told what is wrong
    may = os.access(directory, os.W_OK | os.X_OK)  # also no: its file system is read-only
    if uid not in (0, os.geteuid()):
        shift = 6 if found.st_uid == uid else 3 if found.st_gid in groups else 0
        may = may and found.st_mode >> shift & 0o3 == 0o3
    if found.st_mode & stat.S_ISVTX and os.path.lexists(path):
        may = may and uid in (0, found.st_uid, os.lstat(path).st_uid)
    return may


def is_stale(path: str) -> bool:
    """There is a socket's file of which nobody listens; False if there is nothing.

    Raises OSError with EEXIST for what is no socket, with EADDRINUSE where somebody listens, and where we may not ask.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is something that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except PermissionError:
            raise
        except OSError:
            pass  # somebody is there, only slow, or of another type
    raise OSError(errno.EADDRINUSE, "somebody listens there")


def _replaced() -> OSError:
    return OSError(errno.ESTALE, "somebody else has replaced its file")


def _give_up(listener: Listener, file: File | None) -> None:
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
