"""The listeners of one generation: opened or given, handed over in a reload, kept in systemd's fd store, closed.

A listener that we opened is identified by its address, not by its name, so a reload may rename it. Systemd's listeners
are identified by their names, because the .socket unit determines their addresses.

    first start      take what systemd gives (from a .socket unit, or ours from the fd store), open what is missing
    lanes            at an address that has two, each generation has its own, and the old generation leaves its lane
                     when that is empty; sockets/successor_listeners.py decides which gets new clients meanwhile
    reload           the successor keeps what both codes list, opens what is new, and tells the predecessor which
                     files it makes, and which sockets it has beside the predecessor's; nothing is removed yet, so a
                     rollback has nothing to restore
    commit           the old main supervisor closes all its copies; the new one stores what is new, and removes what
                     its code does not list
    rollback         the successor's own sockets die with it, and the predecessor removes their files
    stop             our files are removed, except under systemd: a restart takes the sockets back from the fd store,
                     and a socket without its file cannot be reached (the files of a .socket unit stay as well)
"""

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.phases import Clients
from ..errors import ConfigError, ListenError, NotPermitted
from ..linux import lanes
from ..linux.lanes import Steering
from ..systemd.notify import Notifier
from . import check_reach
from .early import BARRIER_SECONDS, Ahead, check_compatible, check_ports_are_free, handed_over
from .given_names import agreed
from .open_listener import OpenListener, opened, remove_left_behind, restored, second, taken_from_systemd
from .opening import File, Listener, WantedListener
from .passed_fds import LISTENER, OTHER_LANE
from .successor_listeners import SuccessorListeners

_log = logging.getLogger("sdsupervise")


class Listening:
    """All listeners of one generation, by name, in the order in which they are listed or given."""

    def __init__(self, notifier: Notifier, *, checked: bool = False) -> None:
        """With `checked`, before_commit must reach this generation alone while the previous one serves."""
        self._notifier, self._checked = notifier, checked
        self._by_name: dict[str, OpenListener] = {}
        self._wanted: dict[str, WantedListener] = {}  # the configured state of ours
        self._opened: list[OpenListener] = []  # by this generation, and not committed yet
        self._dropped: list[OpenListener] = []  # closed, not listed any more; their files and stored copies remain
        self._beside: dict[str, tuple[str, bool]] = {}  # the predecessor's label of its socket, and whether ours is new
        self._successor = SuccessorListeners(notifier)
        self._files_of_successor: list[File] = []
        self._left_lanes: list[Listener] = []
        self._settled = False
        self._ahead = Ahead([], {}, {})

    @property
    def sockets(self) -> dict[str, socket.socket]:
        """The sockets by name, close-on-exec."""
        return {name: existing.socket for name, existing in self._by_name.items()}

    def facts(self) -> list[dict[str, object]]:
        """Return what status shows about the listeners."""
        return [
            {"name": name, "address": str(existing.address), "from": "systemd" if existing.is_given else "sdsupervise"}
            for name, existing in self._by_name.items()
        ]

    def places(self) -> dict[str, str]:
        """Return where each can be reached from this host now: HOST:PORT, or a path."""
        return {name: existing.place for name, existing in self._by_name.items()}

    # ---------------------------------------------------------------------------------------- how they come to us

    @classmethod
    def begin(
        cls,
        wanted: Sequence[WantedListener],
        notifier: Notifier,
        ahead: Ahead | None = None,
        *,
        checked: bool,
        drops: bool,
    ) -> "Listening":
        """Return the listeners of a first generation. With `drops`, it drops its rights afterwards.

        Raises ConfigError, ListenError, NotPermitted; then every file that was made is removed.
        """
        listening = cls(notifier, checked=checked)
        listening._ahead = ahead or Ahead(taken_from_systemd(), {}, {})
        if drops:
            listening._ahead = listening._ahead.only_at(wanted)
        listening._take_over(wanted)
        if listening._dropped:
            listening._forget_dropped()
            notifier.wait_for_barrier(BARRIER_SECONDS)  # systemd's copy may occupy what is opened next
        for listener in wanted:
            remove_left_behind(listener)
        listening._open_missing(beside=False)
        listening.settle(alone=True)  # there is no way back, and from now on a crash closes none of them
        return listening

    @classmethod
    def inherit(
        cls,
        wanted: Sequence[WantedListener],
        facts: Iterable[object],
        fds: Mapping[str, int],
        notifier: Notifier,
        ahead: Ahead | None = None,
        *,
        beside: bool,
        checked: bool,
        drops: bool,
    ) -> "Listening":
        """Return the listeners of a successor, from the predecessor's welcome and the descriptors in it.

        With `beside`, the predecessor serves until the commit. With `drops`, this process drops its rights afterwards.
        Raises ConfigError, ListenError, NotPermitted, HandoverError; then every file that was made is removed.
        """
        listening = cls(notifier, checked=checked)
        listening._ahead = ahead or Ahead(handed_over(facts, fds), {}, {})
        if drops:
            listening._ahead = listening._ahead.only_at(wanted)
        check_ports_are_free(wanted, listening._ahead.found)
        listening._take_over(wanted)
        listening._open_missing(beside=beside)
        return listening

    def _take_over(self, wanted: Sequence[WantedListener]) -> None:
        """Keep the found listeners that are listed, and close the others."""
        found = self._ahead.found
        given = [existing for existing in found if existing.is_given]
        ours = [existing for existing in found if not existing.is_given]
        if given:
            if self._checked:
                raise ConfigError(check_reach.SHARED)
            named = agreed([listener.name for listener in wanted], [existing.label for existing in given])
            self._by_name = {name: given[place] for name, place in named.items()}
        else:
            check_compatible(wanted)
            self._wanted = {listener.name: listener for listener in wanted}
        for listener in self._wanted.values():
            # A path may have had several sockets, of which one can be reached.
            there = [existing for existing in ours if listener.address.is_one_with(existing.address)]
            existing = next((existing for existing in there if existing.can_be_reached), None) or restored(there)
            if existing is not None:
                self._by_name[listener.name] = existing
                ours.remove(existing)
        for existing in ours:
            self._drop(existing)

    def _drop(self, existing: OpenListener) -> None:
        existing.close()
        self._dropped.append(existing)

    def _open_missing(self, *, beside: bool) -> None:
        # If one address has two lanes, all get two: while the old generation serves in its lane there, it must get no
        # new clients elsewhere.
        all_have = beside and any(existing.other is not None for existing in self._by_name.values())
        try:
            for name, listener in self._wanted.items():
                existing = self._by_name.get(name)
                if existing is None:
                    self._by_name[name] = self._open(listener)
                    self._opened.append(self._by_name[name])
                elif existing.other is not None:
                    self._by_name[name] = self._change_lane(name, existing, is_new=False) if beside else existing
                elif listener.lanes or (all_have and existing.can_have_lanes):
                    self._make_lane(name, existing, listener, beside=beside)
            self._ahead.take_back()
        except BaseException:
            for existing in self._opened:
                existing.take_back()
            self._ahead.take_back()
            raise
        if self._wanted:
            self._by_name = {name: self._by_name[name] for name in self._wanted}

    def _open(self, listener: WantedListener) -> OpenListener:
        existing = self._ahead.opened.pop(listener.address, None) or opened(listener)
        if existing.other is not None and not listener.lanes:
            lanes.stop_listening(existing.other)
            existing.other.close()
            existing = existing._replace(other=None)
        return existing

    def _change_lane(self, name: str, existing: OpenListener, *, is_new: bool) -> OpenListener:
        """Return the listener in the lane that the predecessor does not use."""
        self._beside[name] = existing.label, is_new
        return existing.in_other_lane()

    def _make_lane(self, name: str, existing: OpenListener, listener: WantedListener, *, beside: bool) -> None:
        """Open a socket of our own at an address that had only one."""
        if existing.file is not None and not beside:
            return  # it has the path, and the next generation gets one beside it
        try:
            made = self._ahead.seconds.pop(listener.address, None) or second(existing, listener)
        except (ListenError, NotPermitted) as error:
            if beside and self._checked and existing.file is not None:
                raise
            if beside and self._checked:
                why = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
                raise ListenError(
                    f"before_commit needs a second socket at {existing.address} (listen {name!r}), which the kernel "
                    f"refuses ({why}): usually because another user opened the first socket. Restart the service once."
                ) from error
            _log.info("%s has only one lane: %s", existing.address, error)
            return
        self._opened.append(made)
        if existing.file is not None:
            self._beside[name] = existing.label, True
            self._by_name[name] = made
            self._drop(existing)
            return
        existing = existing._replace(other=made.socket)
        self._by_name[name] = self._change_lane(name, existing, is_new=True) if beside else existing

    # ------------------------------------------------------------------------------------------------- a reload

    def passed_fds(self) -> dict[str, int]:
        """The descriptors for a successor, by name."""
        mine = {f"{LISTENER}{name}": existing.socket.fileno() for name, existing in self._by_name.items()}
        others = {
            name: existing.other.fileno() for name, existing in self._by_name.items() if existing.other is not None
        }
        return mine | {f"{OTHER_LANE}{name}": fd for name, fd in others.items()}

    def for_successor(self) -> list[dict[str, object]]:
        """Return what a successor must know about the listeners, in the same order."""
        return [
            {
                "given": existing.is_given,
                "label": existing.label,
                "file": existing.file,
                "lane": existing.lane if existing.other else None,
            }
            for existing in self._by_name.values()
        ]

    def for_predecessor(self) -> tuple[list[dict[str, object]], list[int]]:
        """Return what the predecessor must know about our sockets beside its own, and the descriptors of the new
        ones."""
        beside = [(self._by_name[name], label, is_new) for name, (label, is_new) in self._beside.items()]
        facts: list[dict[str, object]] = [
            {"beside": label, "new": is_new, "label": existing.label, "file": existing.file}
            for existing, label, is_new in beside
        ]
        return facts, [existing.socket.fileno() for existing, _, is_new in beside if is_new]

    def files_made(self) -> list[File]:
        """Return the files that this generation made. The predecessor removes them if we fail, in whatever way."""
        return [existing.file for existing in self._opened if existing.file is not None]

    def note_successor(
        self, files: Sequence[tuple[str, int, int]], lanes: Sequence[Mapping[str, Any]], fds: Sequence[int]
    ) -> None:
        """Take what the successor's files_made() and for_predecessor() returned."""
        self._successor.note(self._by_name.values(), lanes, fds)
        self._files_of_successor = [File(*file) for file in files]

    def steer(self, clients: Clients) -> None:
        """Choose which generation gets new clients, where this one and its successor both have a socket."""
        self._successor.steer(clients)

    def undo_successor(self) -> None:
        """Undo the successor's sockets, after it failed and all its processes are gone."""
        self._successor.undo()
        for file in self._files_of_successor:
            file.unlink()
        self._files_of_successor.clear()

    def settle(self, *, alone: bool) -> None:
        """Make this generation's sockets final: it serves, and systemd knows it. Does so once.

        With `alone`, no worker of the previous generation serves any more.
        """
        if self._settled:
            return
        self._settled = True
        self._opened.clear()
        self._take_paths()
        self._forget_dropped()
        self._adjust()
        for existing in self._by_name.values():
            if existing.other is not None:
                lanes.steer(existing.socket, Steering(existing.lane))
                if alone:
                    lanes.abandon(existing.other)
            for label, listener in existing.stored if not existing.is_given else ():
                self._notifier.store(label, listener.fileno())

    def close(self) -> None:
        """Close our copies, because another generation serves. The files and stored copies are its own now."""
        self._left_lanes = self._successor.commit()
        for existing in self._by_name.values():
            if existing.socket not in self._left_lanes:
                existing.close()
        for left in (self._by_name, self._opened, self._dropped, self._files_of_successor):
            left.clear()

    def close_in_child(self) -> None:
        """In a forked worker, close its copies of sockets that only a supervisor needs."""
        self._successor.close_in_child()
        for existing in self._by_name.values():
            if existing.other is not None:
                existing.other.close()

    def leave_lanes(self) -> list[Listener]:
        """Return our lanes of addresses with two, once another generation serves. The caller closes them."""
        left, self._left_lanes = self._left_lanes, []
        return left

    def end(self, *, files_stay: bool) -> None:
        """End at a stop of the service. The files are removed, unless `files_stay`."""
        self.undo_successor()
        for existing in () if files_stay else (*self._by_name.values(), *self._dropped):
            if existing.file is not None:
                existing.file.unlink()

    # -------------------------------------------------------------------------------------------------- details

    def _take_paths(self) -> None:
        """Take the paths from a predecessor that died. A living one has moved them already."""
        for name in self._beside:
            existing = self._by_name[name]
            try:
                if existing.file is not None:
                    existing.file.take_path()
            except OSError as error:
                _log.error(
                    "%s still leads to the socket of the predecessor: %s (listen %r)",
                    existing.address,
                    error.strerror,
                    name,
                )

    def _forget_dropped(self) -> None:
        for existing in self._dropped:
            existing.forget(self._notifier)
        self._dropped.clear()

    def _adjust(self) -> None:
        """Give the kept sockets the options that are listed now."""
        for name, listener in self._wanted.items():
            existing = self._by_name.get(name)
            if existing is None or existing in self._opened:
                continue
            try:
                for _, each in existing.stored:
                    listener.adjust(each, existing.file, has_lanes=existing.other is not None)
            except OSError as error:
                _log.warning("%s keeps its present options: %s (listen %r)", existing.address, error.strerror, name)
