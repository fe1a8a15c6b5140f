"""One open listener: its sockets, its name for systemd, and the file that was made with it."""

import logging
import stat
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from ..linux import files, lanes
from ..linux.unpatched import os, socket
from ..settings.addresses import NEXT, Address, address_of
from ..systemd import listen_fds
from ..systemd.notify import Notifier
from .opening import File, Listener, WantedListener, is_stale

_log = logging.getLogger("sdsupervise")

STORED = "sdsupervise/"  # the prefix of our names in the fd store
_MOST_LABEL_CHARACTERS = 255  # FDNAME= in sd_pid_notify_with_fds(3)
_OTHER_LABEL = "~"  # the suffix of the second lane's socket


class OpenListener(NamedTuple):
    """One open listener."""

    socket: Listener
    is_given: bool  # by systemd from a .socket unit, so we neither store, change nor remove it
    label: str  # systemd's name for it, of a .socket unit or in the fd store
    file: File | None  # which we made; it stands beside its path until it takes the path
    other: Listener | None = None  # the socket in the other lane, for the previous generation and the next one
    lane: int = 0

    @property
    def stored(self) -> list[tuple[str, Listener]]:
        """Its sockets with their names in the fd store, the first lane's first."""
        if self.other is None:
            return [(self.label, self.socket)]
        first, second = (self.socket, self.other) if self.lane == 0 else (self.other, self.socket)
        return [(self.label, first), (self.label + _OTHER_LABEL, second)]

    def in_other_lane(self) -> "OpenListener":
        """Return the listener as the next generation has it."""
        return self if self.other is None else self._replace(socket=self.other, other=self.socket, lane=1 - self.lane)

    def close(self) -> None:
        """Close our copies."""
        for _, listener in self.stored:
            listener.close()

    def take_back(self) -> None:
        """Stop listening in all copies, and remove the file, because no generation uses it."""
        for _, listener in self.stored:
            lanes.stop_listening(listener)
        self.close()
        if self.file is not None:
            self.file.unlink()

    def forget(self, notifier: Notifier) -> None:
        """Remove the file of the closed listener, and let systemd close its copies."""
        if self.file is not None:
            self.file.unlink()
        for label, _ in self.stored:
            notifier.forget_stored(label)

    def only_at(self, paths: Collection[str]) -> "OpenListener":
        """Return the listener without its file, unless the file has one of these paths.

        This is for a process with more rights than the one that says which file was made: a file at a path that is not
        listed may belong to any user, so it stays untouched.
        """
        if self.file is None or self.file.path in paths:
            return self
        return self._replace(file=File(self.file.path, 0, 0))

    @property
    def address(self) -> Address:
        """Its address, also while its file does not have the path yet."""
        address = address_of(self.socket)
        if self.file is None:
            return address
        return address._replace(name=self.file.path)

    @property
    def place(self) -> str:
        """Where it can be reached from this host now: HOST:PORT, or a path."""
        address = self.address
        if self.file is not None:
            return self.file.place or self.file.path
        match address.name:
            case ("0.0.0.0", int(port)):
                return f"127.0.0.1:{port}"
            case ("::", int(port), *_):
                only_v6 = self.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                return f"[::1]:{port}" if only_v6 else f"127.0.0.1:{port}"
            case _:
                return str(address)

    @property
    def can_have_lanes(self) -> bool:
        """Whether two sockets can have this address, at least in turn. An abstract address cannot have two."""
        return not self.is_given and (self.file is not None or self.socket.family != socket.AF_UNIX)

    @property
    def shares_port(self) -> bool:
        """Whether its port can be shared with other sockets of the same user that allow it too: SO_REUSEPORT,
        socket(7)."""
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))

    @property
    def can_be_reached(self) -> bool:
        """Whether its file, if it has one, is still there. A unit's RuntimeDirectory= may have been removed with its
        content."""
        return self.file is None or self.file.is_there()


def taken_from_systemd() -> list[OpenListener]:
    """Return the sockets from .socket units and the fd store, once. Other descriptors are closed."""
    taken = []
    for name, fd in listen_fds.take():
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            taken.append(_by_name(fd, not name.startswith(STORED), name, None))
        else:
            _log.warning("systemd passed %r, which is not a socket; ignoring it", name)
            os.close(fd)
    return _paired(taken)


def _paired(taken: Sequence[OpenListener]) -> list[OpenListener]:
    """Join the two lanes of each address. Ours is the lane where clients wait."""
    seconds = {
        existing.label: existing.socket
        for existing in taken
        if not existing.is_given and existing.label.endswith(_OTHER_LABEL)
    }
    paired = []
    for existing in taken:
        second = seconds.get(existing.label + _OTHER_LABEL)
        if second is not None:
            existing = existing._replace(other=second)
            paired.append(
                existing if lanes.waiting(existing.socket) >= lanes.waiting(second) else existing.in_other_lane()
            )
        elif existing.label not in seconds:
            paired.append(existing)
    return paired


def inherited(fact: Any, fd: int, others: Iterator[int]) -> OpenListener:  # noqa: ANN401
    """Return the predecessor's listener."""
    file = fact["file"]
    existing = _by_name(fd, fact["given"] is True, str(fact["label"]), File(*file) if file else None)
    lane = fact.get("lane")  # also None if the predecessor has no lanes
    return existing if lane is None else existing._replace(other=Listener(fileno=next(others)), lane=int(lane))


def opened(wanted: WantedListener) -> OpenListener:
    """Open a new listener, in both lanes if it is a TCP listener with lanes.

    Raises ListenError, NotPermitted.
    """
    listener, file = wanted.open()
    existing = OpenListener(listener, False, name_in_store(wanted.name, listener, file), file)
    if not wanted.lanes or file is not None:
        return existing
    try:
        return existing._replace(other=second(existing, wanted).socket)
    except BaseException:
        existing.close()
        raise


def second(existing: OpenListener, wanted: WantedListener) -> OpenListener:
    """Open another socket at the same address: in lane 1 for TCP, or beside a path until it takes the path.

    Raises ListenError, NotPermitted.
    """
    if existing.file is not None:
        # With the predecessor's spelling of the path, so that it recognizes the path.
        listener, file = wanted._replace(address=existing.address).open(beside=True)
        return OpenListener(listener, False, name_in_store(wanted.name, listener, file), file)
    listener = wanted.make()
    try:
        lanes.join(existing.socket, listener, wanted.backlog)
    except OSError as error:
        listener.close()
        raise wanted.failure(error) from error
    return existing._replace(socket=listener, other=None, lane=1)


def _by_name(fd: int, is_given: bool, label: str, file: File | None) -> OpenListener:
    listener = Listener(fileno=fd)
    path = address_of(listener).path.removesuffix(NEXT)
    if not is_given and file is None and path:
        try:
            if not path.startswith("/"):
                raise ValueError  # it was bound in another directory, and from here the path leads elsewhere
            _, device, inode = label.rpartition("/")[2].split(".")
            file = File(path, int(device, 16), int(inode, 16))
        except ValueError:
            file = File(path, 0, 0)  # we have not stored it, so its file is unknown
    return OpenListener(listener, is_given, label, file)


def is_label(value: object) -> bool:
    """Return whether this is a valid name of one of our sockets in the fd store."""
    letters = isinstance(value, str) and len(value) <= _MOST_LABEL_CHARACTERS and value.startswith(STORED) and value
    return bool(letters) and all(" " <= letter < "\x7f" and letter != ":" for letter in str(letters))


def name_in_store(name: str, listener: Listener, file: File | None) -> str:
    """Return the permanent name of this socket in the fd store.

    systemd stores no socket twice, so a name cannot change. The inode keeps two sockets with one name apart, and a
    later process learns from the name which file was made with the socket.
    """
    numbers = [os.fstat(listener.fileno()).st_ino, *(file[1:] if file is not None else ())]
    return f"{STORED}{name}/" + ".".join(f"{number:x}" for number in numbers)


def restored(there: Sequence[OpenListener]) -> OpenListener | None:
    """Return the socket of a generation that was killed before a reload was over, if its file can take the path again.

    The successor's socket had the path, and no process listens on that any more.
    """
    for existing in there:
        try:
            path = existing.file.path if existing.file is not None and existing.file.place else ""
            if existing.file is not None and path and (is_stale(path) or not os.path.lexists(path)):
                existing.file.take_path()
                return existing
        except OSError:
            pass  # a process listens there
    return None


def remove_left_behind(listener: WantedListener) -> None:
    """Remove the file of a successor that was killed together with its predecessor."""
    path = listener.address.path
    try:
        if listener.lanes and path and is_stale(path + NEXT):
            files.remove(path + NEXT)
    except OSError:
        pass  # it does not belong to us
