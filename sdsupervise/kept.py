"""What is known of one listener that is open: its sockets, what systemd calls it, which file was made with it."""

import logging
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .addresses import Address, address_of
from .linux import lanes
from .linux.listeners import File, Listener
from .systemd import listen_fds

_log = logging.getLogger("sdsupervise")

STORED = "sdsupervise/"  # how the names of ours begin in the fd store
_OTHER_LABEL = "~"  # behind such a name: the second lane's socket


class Kept(NamedTuple):
    """One listener that is open."""

    socket: Listener
    is_given: bool  # by systemd, from a .socket unit, and so none of ours to store, change or remove
    label: str  # systemd's name for it, in a .socket unit or in the fd store
    file: File | None  # which we have made
    other: Listener | None = None  # the one in the other lane, which is the generation's before this, and after
    lane: int = 0

    @property
    def stored(self) -> list[tuple[str, Listener]]:
        """Its sockets and their names in the fd store, the first lane's first."""
        if self.other is None:
            return [(self.label, self.socket)]
        first, second = (self.socket, self.other) if self.lane == 0 else (self.other, self.socket)
        return [(self.label, first), (self.label + _OTHER_LABEL, second)]

    def in_other_lane(self) -> "Kept":
        """As the next generation has it."""
        return self if self.other is None else self._replace(socket=self.other, other=self.socket, lane=1 - self.lane)

    def close(self) -> None:
        """Close our copies."""
        for _, listener in self.stored:
            listener.close()

    @property
    def address(self) -> Address:
        """Where it is."""
        return address_of(self.socket)

    @property
    def shares_port(self) -> bool:
        """With others of the same user that say so, too."""
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))

    @property
    def can_be_reached(self) -> bool:
        """Its file, if it has one, is still there: a unit's RuntimeDirectory= may be gone with all that was in it."""
        return self.file is None or self.file.is_there()


def taken_from_systemd() -> list[Kept]:
    """What the units and the fd store give us, once; what is no socket is closed."""
    taken = []
    for name, fd in listen_fds.take():
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            taken.append(_kept(fd, not name.startswith(STORED), name, None))
        else:
            _log.warning("systemd passes %r, which is no socket, ignoring", name)
            os.close(fd)
    return _paired(taken)


def _paired(taken: Sequence[Kept]) -> list[Kept]:
    """The two lanes of an address in one; ours is the one where clients wait."""
    seconds = {kept.label: kept.socket for kept in taken if not kept.is_given and kept.label.endswith(_OTHER_LABEL)}
    paired = []
    for kept in taken:
        second = seconds.get(kept.label + _OTHER_LABEL)
        if second is not None:
            kept = kept._replace(other=second)
            paired.append(kept if lanes.waiting(kept.socket) >= lanes.waiting(second) else kept.in_other_lane())
        elif kept.label not in seconds:
            paired.append(kept)
    return paired


def inherited(fact: Any, fd: int, others: Iterator[int]) -> Kept:  # noqa: ANN401
    file = fact["file"]
    kept = _kept(fd, fact["given"] is True, str(fact["label"]), File(*file) if file else None)
    lane = fact.get("lane")  # None also where the predecessor knows of none
    if lane is None:
        return kept
    return kept._replace(other=Listener(fileno=next(others)), lane=int(lane)).in_other_lane()


def _kept(fd: int, is_given: bool, label: str, file: File | None) -> Kept:
    listener = Listener(fileno=fd)
    path = address_of(listener).path
    if not is_given and file is None and path:
        try:
            _, device, inode = label.rpartition("/")[2].split(".")
            file = File(path, int(device, 16), int(inode, 16))
        except ValueError:
            file = File(path, 0, 0)  # not stored by us: whose file it is cannot be known
    return Kept(listener, is_given, label, file)


def name_in_store(name: str, listener: Listener, file: File | None) -> str:
    """For good, of this very socket: systemd stores no socket twice, so that it could not be renamed; two that follow
    each other under one name are told apart; and a later process learns which file was made with it."""
    numbers = [os.fstat(listener.fileno()).st_ino, *(file[1:] if file is not None else ())]
    return f"{STORED}{name}/" + ".".join(f"{number:x}" for number in numbers)
