"""The listeners of one generation: opened or given, handed on by a reload, kept in systemd's fd store, closed.

A listener of ours is known by where it is, not by its name: so a reload may rename what it keeps. Only systemd's own
are known by their names, for where those are is the .socket unit's to say.

    first start      take what systemd gives (a .socket unit's, or our own out of the fd store), open what is missing
    lanes            of an address that has two each generation has its own: the kernel is told at the commit to send
                     clients into the other one, and the old generation leaves its own one when it is empty
    reload           the successor keeps what both codes list, opens what is new, and tells the predecessor of the
                     files it makes; nothing is taken away yet, so that a rollback has nothing to bring back
    commit           the old main supervisor closes all its copies; the new one stores what is new, and removes what its
                     code does not list
    rollback         the successor's own sockets die with it, and the predecessor removes their files
    stop             our files go, but under systemd: a restart brings the sockets back from the fd store, and one whose
                     file is gone cannot be reached (a .socket unit's files stay as well)
"""

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .addresses import Address
from .errors import ConfigError, HandoverError, ListenError
from .kept import STORED, Kept, inherited, name_in_store, taken_from_systemd
from .linux import lanes
from .linux.listeners import File, Listener, Wanted
from .systemd import listen_fds
from .systemd.notify import Notifier

_log = logging.getLogger("sdsupervise")

_HEIRLOOM = "listener:"  # what a successor gets them as
_OTHER_HEIRLOOM = "listener in the other lane:"
_BARRIER_SECONDS = 5.0


class Ahead(NamedTuple):
    """What is open before all that is listed is known: only root may open some of what a file lists, and what a class
    lists is known when the rights are gone. See launch.py."""

    found: list[Kept]  # given, stored or handed on
    opened: dict[Address, Kept]

    @classmethod
    def of_first(cls, wanted: Sequence[Wanted], notifier: Notifier) -> "Ahead":
        """A first generation's.

        Raises ListenError, NotPermitted.
        """
        found = taken_from_systemd()
        try:
            return cls._beside(found, wanted)
        except ListenError:
            # What is stored and not listed here may occupy the place. The class may list it, and opens it anew then.
            listed = {listener.address for listener in wanted}
            stored = [kept for kept in found if not kept.is_given and kept.address not in listed]
            if not stored:
                raise
        for kept in stored:
            found.remove(kept)
            kept.close()
            _forget(kept, notifier)
        notifier.wait_for_barrier(_BARRIER_SECONDS)  # until systemd's copy is closed, too
        return cls._beside(found, wanted)

    @classmethod
    def of_successor(cls, wanted: Sequence[Wanted], facts: Iterable[object], fds: Mapping[str, int]) -> "Ahead":
        """A successor's.

        Raises ConfigError, ListenError, NotPermitted, HandoverError.
        """
        found = _handed_on(facts, fds)
        _see_that_none_is_in_the_way(wanted, found)
        if not any(kept.is_given for kept in found):
            _see_that_all_can_be(wanted)
        return cls._beside(found, wanted)

    @classmethod
    def _beside(cls, found: list[Kept], wanted: Sequence[Wanted]) -> "Ahead":
        there = [kept.address for kept in found if kept.can_be_reached]
        opened: dict[Address, Kept] = {}
        try:
            for listener in wanted if not any(kept.is_given for kept in found) else ():
                if not any(listener.address.is_one_with(address) for address in there):
                    opened[listener.address] = _open(listener)
        except BaseException:
            for kept in opened.values():
                _take_back(kept)
            raise
        return cls(found, opened)


class Listening:
    """Every listener of one generation, by name, in the order in which they are listed or given."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}
        self._wanted: dict[str, Wanted] = {}  # how ours shall be
        self._opened: list[Kept] = []  # by this generation, and not committed yet
        self._dropped: list[Kept] = []  # closed, not listed; their files and stored copies are left
        self._files_of_successor: list[File] = []
        self._left_lanes: list[Listener] = []
        self._settled = False
        self._ahead: dict[Address, Kept] = {}

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
    def begin(cls, wanted: Sequence[Wanted], notifier: Notifier, ahead: Ahead | None = None) -> "Listening":
        """A first generation's.

        Raises ConfigError, ListenError, NotPermitted; then no file is left that was not there before.
        """
        listening = cls()
        if ahead is not None:
            listening._ahead = ahead.opened
        listening._take_over(wanted, taken_from_systemd() if ahead is None else ahead.found)
        if listening._dropped:
            listening._forget_dropped(notifier)
            notifier.wait_for_barrier(_BARRIER_SECONDS)  # systemd's copy still occupies what is perhaps opened next
        listening._open_missing()
        listening.settle(notifier, alone=True)  # there is no way back, and from now on no crash closes one
        return listening

    @classmethod
    def inherit(
        cls, wanted: Sequence[Wanted], facts: Iterable[object], fds: Mapping[str, int], ahead: Ahead | None = None
    ) -> "Listening":
        """A successor's: what its predecessor says of them in the welcome, and the descriptors beside it.

        Raises ConfigError, ListenError, NotPermitted, HandoverError; then no file is left that was not there before.
        """
        listening = cls()
        if ahead is not None:
            listening._ahead = ahead.opened
        found = _handed_on(facts, fds) if ahead is None else ahead.found
        _see_that_none_is_in_the_way(wanted, found)
        listening._take_over(wanted, found)
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
            _see_that_all_can_be(wanted)
            self._wanted = {listener.name: listener for listener in wanted}
        for listener in self._wanted.values():
            # A path can have had more than one socket, of which one can be reached.
            kept = next(
                (kept for kept in ours if listener.address.is_one_with(kept.address) and kept.can_be_reached), None
            )
            if kept is not None:
                self._kept[listener.name] = kept
                ours.remove(kept)
        for kept in ours:
            kept.close()
            self._dropped.append(kept)

    def _open_missing(self) -> None:
        try:
            for name, listener in self._wanted.items():
                if name not in self._kept:
                    self._kept[name] = kept = self._ahead.pop(listener.address, None) or _open(listener)
                    self._opened.append(kept)
        except BaseException:
            for kept in (*self._opened, *self._ahead.values()):
                _take_back(kept)
            raise
        if self._wanted:
            self._kept = {name: self._kept[name] for name in self._wanted}

    # ------------------------------------------------------------------------------------------------- a reload

    def heirlooms(self) -> dict[str, int]:
        """The descriptors a successor gets."""
        mine = {f"{_HEIRLOOM}{name}": kept.socket.fileno() for name, kept in self._kept.items()}
        others = {name: kept.other.fileno() for name, kept in self._kept.items() if kept.other is not None}
        return mine | {f"{_OTHER_HEIRLOOM}{name}": fd for name, fd in others.items()}

    def for_successor(self) -> list[dict[str, object]]:
        """What it must know of them, in the same order."""
        return [
            {"given": kept.is_given, "label": kept.label, "file": kept.file, "lane": kept.lane if kept.other else None}
            for kept in self._kept.values()
        ]

    def files_made(self) -> list[File]:
        """By this generation: for the predecessor, which removes them if we fail, whatever becomes of us."""
        return [kept.file for kept in self._opened if kept.file is not None]

    def note_files_of_successor(self, files: Sequence[tuple[str, int, int]]) -> None:
        """What a successor's files_made() were."""
        self._files_of_successor = [File(*file) for file in files]

    def undo_successor(self) -> None:
        """The successor failed, and all of its processes are gone."""
        for file in self._files_of_successor:
            file.unlink()
        self._files_of_successor.clear()

    def settle(self, notifier: Notifier, *, alone: bool) -> None:
        """From now on this generation is the one that serves, in systemd's eyes too; alone: nobody of the one before it
        does any more. Once."""
        if self._settled:
            return
        self._settled = True
        self._opened.clear()
        self._forget_dropped(notifier)
        self._adjust()
        for kept in self._kept.values():
            if kept.other is not None:
                lanes.steer(kept.socket, kept.lane)
                if alone:
                    lanes.abandon(kept.other)
            for label, listener in kept.stored if not kept.is_given else ():
                notifier.store(label, listener.fileno())

    def close(self) -> None:
        """Another generation serves: let go of our copies, and of what becomes of files and stored ones."""
        for kept in self._kept.values():
            if kept.other is None:
                kept.close()
            else:
                lanes.steer(kept.other, 1 - kept.lane)  # so that who hears of the commit meets the new code
                self._left_lanes.append(kept.socket)
                kept.other.close()
        for left in (self._kept, self._opened, self._dropped, self._files_of_successor):
            left.clear()

    def leave_lanes(self) -> list[Listener]:
        """Our lanes of those addresses that have two, once another generation serves; the caller closes them."""
        left, self._left_lanes = self._left_lanes, []
        return left

    def end(self, *, files_stay: bool) -> None:
        """The service stops."""
        self.undo_successor()
        for kept in () if files_stay else (*self._kept.values(), *self._dropped):
            if kept.file is not None:
                kept.file.unlink()

    # -------------------------------------------------------------------------------------------------- details

    def _forget_dropped(self, notifier: Notifier) -> None:
        for kept in self._dropped:
            _forget(kept, notifier)
        self._dropped.clear()

    def _adjust(self) -> None:
        """Give those we keep the options that are listed now."""
        for name, listener in self._wanted.items():
            kept = self._kept.get(name)
            if kept is None or kept in self._opened:
                continue
            try:
                for _, each in kept.stored:
                    listener.adjust(each, kept.file)
            except OSError as error:
                _log.warning("%s stays as it is: %s (listen %r)", kept.address, error.strerror, name)


def check_before_start(wanted: Sequence[Wanted]) -> None:
    """Of a first start, before it has touched anything. Raises ConfigError for two that cannot be open at a time."""
    if not _given_by_units():
        _see_that_all_can_be(wanted)


def _given_by_units() -> list[str]:
    return [label for label in listen_fds.announced() if not label.startswith(STORED)]


def _see_that_all_can_be(wanted: Sequence[Wanted]) -> None:
    """Raises ConfigError for two that cannot be open at a time."""
    for place, listener in enumerate(wanted):
        for other in wanted[:place]:
            if why := listener.why_not_beside(other):
                raise ConfigError(why)


def _see_that_none_is_in_the_way(wanted: Sequence[Wanted], found: Sequence[Kept]) -> None:
    """Of the ports that the old generation has until the reload is over.

    Raises ListenError.
    """
    if any(kept.is_given for kept in found):
        return  # then none is opened
    ports = [kept for kept in found if not kept.address.path]
    for listener in wanted:
        for kept in ports if not any(listener.address == kept.address for kept in ports) else ():
            if listener.is_excluded_by(kept.address, kept.shares_port):
                raise ListenError(
                    f"Cannot listen on {listener.address} (listen {listener.name!r}) by a reload: until it is over, "
                    f"the old code listens on {kept.address}, which has that port; restart the service instead."
                )


def expected_names(configured: Sequence[str]) -> list[str]:
    """What a first start will call its listeners; nothing is opened or taken yet.

    Raises ConfigError.
    """
    given = _given_by_units()
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


def _handed_on(facts: Iterable[object], fds: Mapping[str, int]) -> list[Kept]:
    """What a predecessor says of its listeners, with the descriptors beside it.

    Raises HandoverError.
    """
    descriptors = [fd for name, fd in fds.items() if name.startswith(_HEIRLOOM)]
    others = iter([fd for name, fd in fds.items() if name.startswith(_OTHER_HEIRLOOM)])
    try:
        return [inherited(fact, fd, others) for fact, fd in zip(facts, descriptors, strict=True)]
    except (ValueError, TypeError, KeyError, StopIteration) as error:
        raise HandoverError(f"The predecessor's hand-over of its sockets is malformed: {error!r}.") from error


def _open(listener: Wanted) -> Kept:
    """Open one, in both lanes if it has them. Raises ListenError, NotPermitted."""
    opened, file = listener.open()
    kept = Kept(opened, False, name_in_store(listener.name, opened, file), file)
    if listener.lanes:
        lanes.steer(opened, 0)  # before there is a choice
        kept = kept._replace(other=listener.open()[0])
    return kept


def _take_back(kept: Kept) -> None:
    """Close one that we have opened, and remove its file."""
    kept.close()
    if kept.file is not None:
        kept.file.unlink()


def _forget(kept: Kept, notifier: Notifier) -> None:
    """Remove the file of one that is closed, and have systemd close its copies."""
    if kept.file is not None:
        kept.file.unlink()
    for label, _ in kept.stored:
        notifier.forget_stored(label)
