"""The listeners of one generation: opened or given, handed on by a reload, kept in systemd's fd store, closed.

A listener of ours is known by where it is, not by its name: so a reload may rename what it keeps. Only systemd's own
are known by their names, for where those are is the .socket unit's to say.

    first start      take what systemd gives (a .socket unit's, or our own out of the fd store), open what is missing
    reload           the successor keeps what both codes list, opens what is new, and tells the predecessor of the
                     files it makes; nothing is taken away yet, so that a rollback has nothing to bring back
    commit           the old main supervisor closes all its copies; the new one stores what is new, and removes what its
                     code does not list
    rollback         the successor's own sockets die with it, and the predecessor removes their files
    stop             our files go, but under systemd: a restart brings the sockets back from the fd store, and one whose
                     file is gone cannot be reached (a .socket unit's files stay as well)
"""

import logging
import os
import socket
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .addresses import Address, address_of
from .errors import ConfigError, HandoverError
from .linux.listeners import File, Listener, Wanted
from .systemd import listen_fds
from .systemd.notify import Notifier

_log = logging.getLogger("sdsupervise")

_HEIRLOOM = "listener:"  # what a successor gets them as
_STORED = "sdsupervise/"  # how the names of ours begin in the fd store
_BARRIER_SECONDS = 5.0


class Kept(NamedTuple):
    """One listener that is open."""

    socket: Listener
    is_given: bool  # by systemd, from a .socket unit, and so none of ours to store, change or remove
    label: str  # systemd's name for it, in a .socket unit or in the fd store
    file: File | None  # which we have made

    @property
    def address(self) -> Address:
        """Where it is."""
        return address_of(self.socket)

    @property
    def can_be_reached(self) -> bool:
        """Its file, if it has one, is still there: a unit's RuntimeDirectory= may be gone with all that was in it."""
        return self.file is None or self.file.is_there()


class Listening:
    """Every listener of one generation, by name, in the order in which they are listed or given."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}
        self._wanted: dict[str, Wanted] = {}  # how ours shall be
        self._opened: list[Kept] = []  # by this generation, and not committed yet
        self._dropped: list[Kept] = []  # closed, not listed; their files and stored copies are left
        self._files_of_successor: list[File] = []
        self._settled = False

    @property
    def sockets(self) -> dict[str, socket.socket]:
        """The sockets; close-on-exec."""
        return {name: kept.socket for name, kept in self._kept.items()}

    def facts(self) -> list[dict[str, object]]:
        """What status shows of them."""
        return [
            {"name": name, "address": str(kept.address), "from": "systemd" if kept.is_given else "sdsupervise"}
            for name, kept in self._kept.items()
        ]

    # ---------------------------------------------------------------------------------------- how they come to us

    @classmethod
    def begin(cls, wanted: Sequence[Wanted], notifier: Notifier) -> "Listening":
        """A first generation's.

        Raises ConfigError, ListenError, NotPermitted; then no file is left that was not there before.
        """
        listening = cls()
        listening._take_over(wanted, _taken_from_systemd())
        if listening._dropped:
            listening._forget_dropped(notifier)
            notifier.wait_for_barrier(_BARRIER_SECONDS)  # systemd's copy still occupies what is perhaps opened next
        listening._open_missing()
        listening.settle(notifier)  # there is no way back, and from now on no crash closes one
        return listening

    @classmethod
    def inherit(cls, wanted: Sequence[Wanted], facts: Iterable[object], fds: Mapping[str, int]) -> "Listening":
        """A successor's: what its predecessor says of them in the welcome, and the descriptors beside it.

        Raises ConfigError, ListenError, NotPermitted, HandoverError; then no file is left that was not there before.
        """
        listening = cls()
        descriptors = [fd for name, fd in fds.items() if name.startswith(_HEIRLOOM)]
        try:
            inherited = [_inherited(fact, fd) for fact, fd in zip(facts, descriptors, strict=True)]
        except (ValueError, TypeError, KeyError) as error:
            raise HandoverError(f"The predecessor's hand-over of its sockets is malformed: {error!r}.") from error
        listening._take_over(wanted, inherited)
        listening._open_missing()
        return listening

    def _take_over(self, wanted: Sequence[Wanted], found: Sequence[Kept]) -> None:
        """Keep what is listed, close the rest."""
        given = [kept for kept in found if kept.is_given]
        ours = [kept for kept in found if not kept.is_given]
        if given:
            named = _agreed([listener.name for listener in wanted], [kept.label for kept in given])
            self._kept = {name: given[place] for name, place in named.items()}
        else:
            self._wanted = {listener.name: listener for listener in wanted}
        for listener in self._wanted.values():
            # A path can have had more than one socket, of which one can be reached.
            kept = next((kept for kept in ours if kept.address == listener.address and kept.can_be_reached), None)
            if kept is not None:
                self._kept[listener.name] = kept
                ours.remove(kept)
        for kept in ours:
            kept.socket.close()
            self._dropped.append(kept)

    def _open_missing(self) -> None:
        try:
            for name, listener in self._wanted.items():
                if name not in self._kept:
                    opened, file = listener.open()
                    self._kept[name] = kept = Kept(opened, False, _name_in_store(name, opened, file), file)
                    self._opened.append(kept)
        except BaseException:
            for kept in self._opened:
                kept.socket.close()
                if kept.file is not None:
                    kept.file.unlink()
            raise
        if self._wanted:
            self._kept = {name: self._kept[name] for name in self._wanted}

    # ------------------------------------------------------------------------------------------------- a reload

    def heirlooms(self) -> dict[str, int]:
        """The descriptors a successor gets."""
        return {f"{_HEIRLOOM}{name}": kept.socket.fileno() for name, kept in self._kept.items()}

    def for_successor(self) -> list[dict[str, object]]:
        """What it must know of them, in the same order."""
        return [{"given": kept.is_given, "label": kept.label, "file": kept.file} for kept in self._kept.values()]

    def files_made(self) -> list[File]:
        """By this generation: for the predecessor, which removes them if we fail, whatever becomes of us."""
        return [kept.file for kept in self._opened if kept.file is not None]

    def note_files_of_successor(self, files: object) -> None:
        """What a successor's files_made() were."""
        try:
            self._files_of_successor = [
                File(str(path), int(device), int(inode)) for path, device, inode in _list(files)
            ]
        except (ValueError, TypeError):
            _log.warning("The new supervisor says %r of the sockets it has made, which we cannot read, ignoring", files)

    def undo_successor(self) -> None:
        """The successor failed, and all of its processes are gone."""
        for file in self._files_of_successor:
            file.unlink()
        self._files_of_successor.clear()

    def settle(self, notifier: Notifier) -> None:
        """From now on this generation is the one that serves, in systemd's eyes too. Once."""
        if self._settled:
            return
        self._settled = True
        self._opened.clear()
        self._forget_dropped(notifier)
        self._adjust()
        for kept in self._kept.values():
            if not kept.is_given:
                notifier.store(kept.label, kept.socket.fileno())

    def close(self) -> None:
        """Another generation serves: let go of our copies, and of what becomes of files and stored ones."""
        for kept in self._kept.values():
            kept.socket.close()
        for left in (self._kept, self._opened, self._dropped, self._files_of_successor):
            left.clear()

    def end(self, *, files_stay: bool) -> None:
        """The service stops."""
        self.undo_successor()
        for kept in () if files_stay else (*self._kept.values(), *self._dropped):
            if kept.file is not None:
                kept.file.unlink()

    # -------------------------------------------------------------------------------------------------- details

    def _forget_dropped(self, notifier: Notifier) -> None:
        for kept in self._dropped:
            if kept.file is not None:
                kept.file.unlink()
            notifier.forget_stored(kept.label)
        self._dropped.clear()

    def _adjust(self) -> None:
        """Give those we keep the options that are listed now."""
        for name, listener in self._wanted.items():
            kept = self._kept.get(name)
            if kept is None or kept in self._opened:
                continue
            try:
                listener.adjust(kept.socket, kept.file)
            except OSError as error:
                _log.warning("%s stays as it is: %s (listen %r)", kept.address, error.strerror, name)


def expected_names(configured: Sequence[str]) -> list[str]:
    """What a first start will call its listeners; nothing is opened or taken yet.

    Raises ConfigError.
    """
    given = [label for label in listen_fds.announced() if not label.startswith(_STORED)]
    return list(_agreed(configured, given)) if given else list(configured)


def _agreed(configured: Sequence[str], given: Sequence[str]) -> dict[str, int]:
    """The names by which the service knows systemd's sockets, and which of those with these labels each is.

    A .socket unit that says no FileDescriptorName= calls them by its own name: http.socket is http, and one such unit
    is enough for a service that lists one name. One unit can have many, all of one name: http, http.2, http.3.

    Raises ConfigError.
    """
    bases = [label if label in configured else label.removesuffix(".socket") for label in given]
    said_no_name = {label for label in given if label == listen_fds.NAMELESS or label.endswith(".socket")}
    if len(configured) == len(set(bases)) == len(said_no_name) == 1:
        bases = [configured[0] for _ in bases]
    if configured and set(bases) != set(configured):
        raise ConfigError(
            f"systemd gives the sockets {', '.join(sorted(set(bases)))}, and listen has "
            f"{', '.join(sorted(configured))}: let FileDescriptorName= of the .socket units name the same ones, "
            "or leave listen out."
        )
    named: dict[str, int] = {}
    for base in configured or dict.fromkeys(bases):
        places = [place for place, other in enumerate(bases) if other == base]
        named |= {base if not number else f"{base}.{number + 1}": place for number, place in enumerate(places)}
    return named


def _taken_from_systemd() -> list[Kept]:
    taken = []
    for name, fd in listen_fds.take():
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            taken.append(_kept(fd, not name.startswith(_STORED), name, None))
        else:
            _log.warning("systemd passes %r, which is no socket, ignoring", name)
            os.close(fd)
    return taken


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _inherited(fact: Any, fd: int) -> Kept:  # noqa: ANN401
    file = fact["file"]
    return _kept(fd, fact["given"] is True, str(fact["label"]), File(*file) if file else None)


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


def _name_in_store(name: str, listener: Listener, file: File | None) -> str:
    """For good, of this very socket: systemd stores no socket twice, so that it could not be renamed; two that follow
    each other under one name are told apart; and a later process learns which file was made with it."""
    numbers = [os.fstat(listener.fileno()).st_ino, *(file[1:] if file is not None else ())]
    return f"{_STORED}{name}/" + ".".join(f"{number:x}" for number in numbers)
