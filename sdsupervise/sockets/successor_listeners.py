"""The listeners that a successor has beside its predecessor's, and which generation gets a new client.

While both serve, only the predecessor decides that:

    TCP     the kernel chooses between the two sockets of the address; see linux/lanes.py
    UNIX    the successor's socket has a file of its own beside the path (NEXT), which takes the path in the end

Clients always find a listening process, whatever dies meanwhile. The kernel keeps its last choice, the path leads to a
socket at every moment, and systemd has a copy of that socket before its file can take the path. The next generation
that serves puts all of this in order (Listening.settle).
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.phases import Clients
from ..linux import lanes
from ..linux.lanes import Steering
from ..linux.unpatched import os, socket
from ..settings.addresses import NEXT, address_of
from ..systemd.notify import Notifier
from .open_listener import OpenListener, is_label
from .opening import File, Listener

_log = logging.getLogger("sdsupervise")


class _Pair(NamedTuple):
    """One of our listeners, and the successor's at the same address."""

    ours: OpenListener
    theirs: Listener
    is_new: bool  # the successor has opened it
    label: str  # of a new one, its name in systemd's fd store
    file: File | None  # of a new UNIX socket


class SuccessorListeners:
    """The listeners of one successor, as its predecessor knows them."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._pairs: list[_Pair] = []

    def note(self, ours: Iterable[OpenListener], said: Sequence[Mapping[str, Any]], fds: Sequence[int]) -> None:
        """Take the successor's description of them (Listening.for_predecessor), and the descriptors of the new ones.

        An impossible description is ignored, and its clients stay ours.
        """
        new = _sockets(fds)
        by_label = {existing.label: existing for existing in ours if not existing.is_given}
        try:
            for fact in said:
                self._pairs.append(_pair(by_label, fact, new))
        except (LookupError, TypeError, ValueError, OSError) as error:
            _log.warning("The successor sent an invalid list of its sockets (%r); ignoring it", error)
        for listener in new:
            listener.close()

    def steer(self, clients: Clients) -> None:
        """Choose which generation gets new clients from now on."""
        for pair in self._pairs:
            try:
                if pair.file is None:
                    theirs = 1 - pair.ours.lane
                    everybody = theirs if clients is Clients.THEIRS else pair.ours.lane
                    check = theirs if clients is Clients.OURS_BUT_THE_CHECK else None
                    lanes.steer(pair.ours.socket, Steering(everybody, check))
                elif clients is Clients.THEIRS:
                    _exchange(pair.file)
                else:
                    _take_back(pair.ours)
                    if clients is Clients.OURS_BUT_THE_CHECK:  # systemd still reads our messages
                        self._notifier.store(pair.label, pair.theirs.fileno())
            except OSError as error:
                _log.warning(
                    "Cannot change which generation gets new clients of %s: %s", pair.ours.address, error.strerror
                )

    def commit(self) -> list[Listener]:
        """Give new clients to the successor for good. Return our sockets, where clients may wait; the caller closes
        them."""
        for pair in self._pairs:
            try:
                if pair.file is None:
                    lanes.steer(pair.ours.socket, Steering(1 - pair.ours.lane))
                else:
                    pair.file.take_path()
                    _remove_file(pair.ours)
            except OSError as error:
                _log.warning(
                    "Cannot pass the clients of %s on; the successor fetches them itself: %s",
                    pair.ours.address,
                    error.strerror,
                )
            pair.theirs.close()
        left = [pair.ours.socket for pair in self._pairs]
        self._pairs.clear()
        return left

    def undo(self) -> None:
        """Undo the successor's sockets, after it failed and its processes are gone. Clients that wait there are
        disconnected."""
        self.steer(Clients.OURS)
        for pair in self._pairs:
            if not pair.is_new:
                lanes.abandon(pair.theirs)
                continue
            if pair.file is not None:
                pair.file.unlink()
                self._notifier.forget_stored(pair.label)
            # A process may still have a copy, perhaps a child of a worker. The kernel must neither choose nor count it.
            lanes.stop_listening(pair.theirs)
            pair.theirs.close()
        self._pairs.clear()

    def close_in_child(self) -> None:
        """In a forked worker, close its copies."""
        for pair in self._pairs:
            pair.theirs.close()


def _exchange(theirs: File) -> None:
    """Exchange the successor's file with ours, which then stands beside the path, for the way back."""
    with theirs.in_directory() as (directory, name):
        path = os.path.basename(theirs.path)
        if name != path:
            from ..linux import renaming

            renaming.exchange(directory, name, path)


def _take_back(ours: OpenListener) -> None:
    if ours.file is not None and ours.file.place:
        ours.file.take_path()


def _remove_file(ours: OpenListener) -> None:
    if ours.file is not None:
        ours.file.unlink()


def _sockets(fds: Sequence[int]) -> list[Listener]:
    sockets = []
    for fd in fds:
        try:
            sockets.append(Listener(fileno=fd))
        except OSError:
            os.close(fd)
    return sockets


def _pair(by_label: dict[str, OpenListener], fact: Mapping[str, Any], new: list[Listener]) -> _Pair:
    """Return the pair that a fact describes, and take its socket from `new`. Raises what is wrong."""
    ours = by_label.pop(fact["beside"])
    if fact["new"] is not True:
        if ours.other is None:
            raise ValueError(f"{ours.address} has no second lane")
        return _Pair(ours, ours.other, False, "", None)
    theirs, label, file = new[0], fact["label"], None
    address = ours.address
    if ours.file is not None:
        file = File(ours.file.path, *fact["file"][1:])
        address = address._replace(name=file.path + NEXT)
        if file.place != address.name:
            raise ValueError(f"its file is not {address}")
    listens = theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not is_label(label) or not listens or address_of(theirs) != address:
        raise ValueError(f"{label!r} is not a socket that listens at {address}")
    del new[0]
    return _Pair(ours, theirs, True, label, file)
