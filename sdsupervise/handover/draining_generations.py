"""The generations before ours that still drain. Nobody asks them for anything; the main supervisor sees that they end.

The main supervisor watches all of them, not only its own predecessor: a chain in which each watches the one before
would be cut by a single crash in its middle.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..core.takeover import Event
from ..input.checked import MOST_SECONDS
from ..linux.channel import Channel, Message
from ..linux.event_loop import EventLoop, Timer
from ..systemd.catalog import CatalogEntry, entry_fields
from .messages import DRAINING
from .peer import Peer

_log = logging.getLogger("sdsupervise")

_MAX_DESCRIPTORS = 150  # of the 253 that a message can carry


class _Draining(NamedTuple):
    peer: Peer
    due: float  # when it is killed, on the monotonic clock, which all processes share
    timer: Timer


class DrainingOwner(Protocol):
    """Whoever watches generations drain."""

    def stop_asked(self) -> None:
        """Somebody sent a stop to a generation that drains: it means the service."""

    def peer_tells(self, message: Message) -> None:
        """As PeerOwner has it."""

    def peer_leaves_caller(self, connection: int) -> None:
        """As PeerOwner has it."""

    def lock_may_be_free(self) -> None:
        """As PeerOwner has it."""

    def draining_gone(self) -> None:
        """Nothing is left of one of them."""


class DrainingGenerations:
    """Those we watch, and, in a successor that is not the main one yet, what it needs to do so later."""

    def __init__(self, loop: EventLoop, owner: DrainingOwner) -> None:
        self._loop, self._owner = loop, owner
        self._generations: dict[int, _Draining] = {}  # by generation
        self._inherited: Sequence[Mapping[str, Any]] = ()
        self._inherited_fds: dict[str, int] = {}

    def __bool__(self) -> bool:
        """Somebody still drains."""
        return bool(self._generations)

    def __contains__(self, generation: int) -> bool:
        """Something of this generation is still there."""
        return generation in self._generations

    def at_work(self) -> str:
        """The generations of which a worker still drains, in words; "" if only supervisors are on their way out."""
        at_work = [generation for generation, (peer, _, _) in self._generations.items() if peer.has_workers]
        return " and ".join(f"generation {generation}" for generation in at_work)

    def facts(self) -> list[dict[str, object]]:
        """What status shows of them; seconds."""
        return [
            {
                "generation": peer.generation,
                "pid": peer.pid,
                "workers": peer.worker_pids,
                "at_most": round(min(max(0.0, due - time.monotonic()), MOST_SECONDS), 3),
            }
            for peer, due, _ in self._generations.values()
        ]

    def seconds_left(self) -> float:
        """Until the last of them is gone at the latest, be it ours to watch or the predecessor's still."""
        dues = [one.due for one in self._generations.values()] + [each["due"] for each in self._inherited]
        return max(0.0, max(dues, default=0.0) - time.monotonic())

    def see_out(self, peer: Peer, *, due: float) -> None:
        """Watch a supervisor that drains. If it is not gone by then it is killed, with its workers."""
        peer.owner = _PeerThatDrains(self, self._owner, peer.generation)
        left = min(due - time.monotonic(), MOST_SECONDS)
        timer = self._loop.expect_within(left, lambda: self._overdue(peer))
        self._generations[peer.generation] = _Draining(peer, due, timer)
        self.forget_gone(peer.generation)

    def tell_empty(self) -> None:
        """The service stops and we have no workers left: one that was told to stop by hand waits to hear it."""
        self.tell("empty")

    def tell(self, kind: str) -> None:
        """Say it to each."""
        for one in self._generations.values():
            one.peer.tell(kind)

    def pass_on(self, number: int) -> list[int]:
        """A signal to those of their workers that have a handler for it; their pids."""
        return [pid for one in self._generations.values() for pid in one.peer.pass_on(number)]

    def kill(self) -> None:
        """SIGKILL to all of them."""
        for one in list(self._generations.values()):
            one.peer.kill()
            one.peer.kill_workers()

    def passed_fds(self) -> tuple[list[dict[str, object]], dict[str, int]]:
        """What a successor has to know to watch them after us, and the descriptors for it, by name."""
        facts: list[dict[str, object]] = []
        fds: dict[str, int] = {}
        for generation, (peer, due, _) in self._generations.items():
            mine = peer.passed_fds()
            if len(fds) + len(mine) > _MAX_DESCRIPTORS:  # its supervisor knows its workers, and the kernel tells them
                mine = {name: fd for name, fd in mine.items() if not name.startswith(("worker:", "holder:"))}
            if {"pidfd", "channel"} <= set(mine):
                facts.append({"generation": generation, "pid": peer.pid, "stop_timeout": peer.stop_timeout, "due": due})
                fds |= {f"{DRAINING}{generation}:{name}": fd for name, fd in mine.items()}
        return facts, fds

    def inherit(self, facts: Sequence[Mapping[str, Any]], fds: Mapping[str, int]) -> None:
        """Keep what the predecessor's welcome says of them."""
        self._inherited = facts
        self._inherited_fds = {name: fd for name, fd in fds.items() if name.startswith(DRAINING)}

    def take_over(self) -> None:
        """We are the main supervisor: they are ours to watch now."""
        fds = self._inherited_fds
        for facts in self._inherited:
            start = f"{DRAINING}{facts['generation']}:"
            mine = {name.removeprefix(start): fds.pop(name) for name in list(fds) if name.startswith(start)}
            if {"channel", "token", "pidfd"} <= mine.keys():
                self._take_over_one(facts, mine)
            else:
                _log.error(
                    "Cannot watch generation %d while it drains: the hand-over lacks its descriptors",
                    facts["generation"],
                )
                for fd in mine.values():
                    os.close(fd)
        self._inherited = ()
        self._drop_inherited()

    def _take_over_one(self, facts: Mapping[str, Any], fds: Mapping[str, int]) -> None:
        peer = Peer(
            self._loop,
            Channel.from_fd(fds["channel"]),
            fds["token"],
            _PeerThatDrains(self, self._owner, facts["generation"]),
            generation=facts["generation"],
            stop_timeout=facts["stop_timeout"],
        )
        for name, fd in fds.items():
            kind, _, pid = name.partition(":")
            if kind == "worker":
                peer.note_worker(int(pid), fd)
            elif kind == "holder":
                peer.note_holder(int(pid), fd)
        peer.meet(facts["pid"], fds["pidfd"])
        self.see_out(peer, due=facts["due"])

    def leave_to_successor(self) -> None:
        """The successor is the main supervisor and watches them."""
        for one in self._generations.values():
            one.timer.cancel()
            one.peer.forget()
        self._generations.clear()

    def close_in_child(self) -> None:
        """In a forked worker, its copies."""
        for one in self._generations.values():
            one.peer.close_in_child()
        self._drop_inherited()

    def _drop_inherited(self) -> None:
        for fd in self._inherited_fds.values():
            os.close(fd)
        self._inherited_fds = {}

    def put_off(self, generation: int, due: float) -> None:
        """A worker of this generation was given more time to finish."""
        one = self._generations.get(generation)
        if one is not None and one.due < due:
            one.timer.cancel()
            self.see_out(one.peer, due=due)

    def forget_gone(self, generation: int) -> None:
        """Forget this generation, if nothing of it is left."""
        one = self._generations.get(generation)
        if one is not None and one.peer.left_nothing:
            del self._generations[generation]
            one.timer.cancel()
            one.peer.forget()
            self._owner.draining_gone()

    def _overdue(self, peer: Peer) -> None:
        extra = entry_fields(CatalogEntry.GENERATION_KILLED, generation=peer.generation)
        _log.warning("Generation %d did not leave in time; killing what is left of it", peer.generation, extra=extra)
        peer.kill()
        peer.kill_workers()


class _PeerThatDrains:
    """Hears one of them: its worker's death, or its own, may be the last there is to see of it."""

    def __init__(self, generations: DrainingGenerations, owner: DrainingOwner, generation: int) -> None:
        self._generations, self._owner, self._generation = generations, owner, generation

    def peer_says(self, event: Event) -> None:
        """As PeerOwner has it."""
        if event is Event.PEER_STOPS:
            self._owner.stop_asked()

    def peer_tells(self, message: Message) -> None:
        """As PeerOwner has it."""
        if message.kind == "extends":
            self._generations.put_off(self._generation, time.monotonic() + message.fields["seconds"])
        else:
            self._owner.peer_tells(message)

    def peer_opened(self, message: Message) -> None:
        """As PeerOwner has it."""
        message.close_fds()

    def peer_leaves_caller(self, connection: int) -> None:
        """As PeerOwner has it."""
        self._owner.peer_leaves_caller(connection)

    def peer_hung_up(self) -> None:
        """Its death follows."""

    def lock_may_be_free(self) -> None:
        """As PeerOwner has it."""
        self._owner.lock_may_be_free()
        self._generations.forget_gone(self._generation)
