"""The generations before this one that still drain. The main supervisor sees to it that they end.

The main supervisor watches all of them, not only its own predecessor. If each generation watched only the one before
it, a single crash would break the chain.
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

_MAX_DESCRIPTORS = 150  # for draining generations, of the 253 that one message can carry


class _Draining(NamedTuple):
    peer: Peer
    due: float  # when it is killed; monotonic time, the same for all processes
    timer: Timer


class DrainingOwner(Protocol):
    """What draining generations report to their owner."""

    def stop_asked(self) -> None:
        """A draining generation was asked to stop: that means the whole service."""

    def peer_tells(self, message: Message) -> None:
        """See PeerOwner."""

    def peer_leaves_caller(self, connection: int) -> None:
        """See PeerOwner."""

    def lock_may_be_free(self) -> None:
        """See PeerOwner."""

    def draining_gone(self) -> None:
        """Nothing of one draining generation is left."""


class DrainingGenerations:
    """The generations that this supervisor watches. A successor keeps here what it needs to watch them later."""

    def __init__(self, loop: EventLoop, owner: DrainingOwner) -> None:
        self._loop, self._owner = loop, owner
        self._generations: dict[int, _Draining] = {}  # by generation
        self._inherited: Sequence[Mapping[str, Any]] = ()
        self._inherited_fds: dict[str, int] = {}

    def __bool__(self) -> bool:
        """Whether any generation still drains."""
        return bool(self._generations)

    def __contains__(self, generation: int) -> bool:
        """Whether something of this generation is left."""
        return generation in self._generations

    def at_work(self) -> str:
        """The generations with workers that still drain, as words; "" if only supervisors are left."""
        at_work = [generation for generation, (peer, _, _) in self._generations.items() if peer.has_workers]
        return " and ".join(f"generation {generation}" for generation in at_work)

    def facts(self) -> list[dict[str, object]]:
        """What status shows of them; times in seconds."""
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
        """Seconds until the last of them must be gone, whether this supervisor or its predecessor watches them."""
        dues = [one.due for one in self._generations.values()] + [each["due"] for each in self._inherited]
        return max(0.0, max(dues, default=0.0) - time.monotonic())

    def watch_until_gone(self, peer: Peer, *, due: float) -> None:
        """Watch a draining supervisor, and kill it and its workers at `due` (monotonic time)."""
        peer.owner = _DrainingPeer(self, self._owner, peer.generation)
        left = min(due - time.monotonic(), MOST_SECONDS)
        timer = self._loop.expect_within(left, lambda: self._overdue(peer))
        self._generations[peer.generation] = _Draining(peer, due, timer)
        self.forget_gone(peer.generation)

    def tell_empty(self) -> None:
        """Send "empty": the service stops and we have no workers left. A draining supervisor may wait for that."""
        self.tell("empty")

    def tell(self, kind: str) -> None:
        """Send a message to each draining supervisor."""
        for one in self._generations.values():
            one.peer.tell(kind)

    def pass_on(self, number: int) -> list[int]:
        """Pass a signal on to those of their workers that have a handler for it. Returns their pids."""
        return [pid for one in self._generations.values() for pid in one.peer.pass_on(number)]

    def kill(self) -> None:
        """SIGKILL all of them and their workers."""
        for one in list(self._generations.values()):
            one.peer.kill()
            one.peer.kill_workers()

    def passed_fds(self) -> tuple[list[dict[str, object]], dict[str, int]]:
        """The facts that a successor needs to watch them after us, and the descriptors by name."""
        facts: list[dict[str, object]] = []
        fds: dict[str, int] = {}
        for generation, (peer, due, _) in self._generations.items():
            mine = peer.passed_fds()
            if len(fds) + len(mine) > _MAX_DESCRIPTORS:  # its own supervisor still watches its workers
                mine = {name: fd for name, fd in mine.items() if not name.startswith(("worker:", "holder:"))}
            if {"pidfd", "channel"} <= set(mine):
                facts.append({"generation": generation, "pid": peer.pid, "stop_timeout": peer.stop_timeout, "due": due})
                fds |= {f"{DRAINING}{generation}:{name}": fd for name, fd in mine.items()}
        return facts, fds

    def inherit(self, facts: Sequence[Mapping[str, Any]], fds: Mapping[str, int]) -> None:
        """Keep what the predecessor's welcome says about them."""
        self._inherited = facts
        self._inherited_fds = {name: fd for name, fd in fds.items() if name.startswith(DRAINING)}

    def take_over(self) -> None:
        """Begin to watch them: this is the main supervisor now."""
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
            _DrainingPeer(self, self._owner, facts["generation"]),
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
        self.watch_until_gone(peer, due=facts["due"])

    def leave_to_successor(self) -> None:
        """Stop to watch them: the successor is the main supervisor now."""
        for one in self._generations.values():
            one.timer.cancel()
            one.peer.forget()
        self._generations.clear()

    def close_in_child(self) -> None:
        """Close a forked worker's copies of the descriptors."""
        for one in self._generations.values():
            one.peer.close_in_child()
        self._drop_inherited()

    def _drop_inherited(self) -> None:
        for fd in self._inherited_fds.values():
            os.close(fd)
        self._inherited_fds = {}

    def put_off(self, generation: int, due: float) -> None:
        """A worker of this generation got more time to finish: kill the generation not before `due`."""
        one = self._generations.get(generation)
        if one is not None and one.due < due:
            one.timer.cancel()
            self.watch_until_gone(one.peer, due=due)

    def forget_gone(self, generation: int) -> None:
        """Forget this generation if nothing of it is left."""
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


class _DrainingPeer:
    """Receives the events of one draining generation. The last one may be the death of a worker or the supervisor."""

    def __init__(self, generations: DrainingGenerations, owner: DrainingOwner, generation: int) -> None:
        self._generations, self._owner, self._generation = generations, owner, generation

    def peer_says(self, event: Event) -> None:
        """See PeerOwner."""
        if event is Event.PEER_STOPS:
            self._owner.stop_asked()

    def peer_tells(self, message: Message) -> None:
        """See PeerOwner."""
        if message.kind == "extends":
            self._generations.put_off(self._generation, time.monotonic() + message.fields["seconds"])
        else:
            self._owner.peer_tells(message)

    def peer_opened(self, message: Message) -> None:
        """See PeerOwner."""
        message.close_fds()

    def peer_leaves_caller(self, connection: int) -> None:
        """See PeerOwner."""
        self._owner.peer_leaves_caller(connection)

    def peer_hung_up(self) -> None:
        """See PeerOwner. Its death follows and is handled then."""

    def lock_may_be_free(self) -> None:
        """See PeerOwner."""
        self._owner.lock_may_be_free()
        self._generations.forget_gone(self._generation)
