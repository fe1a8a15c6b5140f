"""What supervisors say to each other, and what a successor finds in its welcome."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sdsupervise.code.code_version import CodeVersion
from sdsupervise.core.takeover import Event
from sdsupervise.errors import ConfigError, HandoverError
from sdsupervise.handover.counters import Counters
from sdsupervise.handover.draining_generations import DrainingGenerations
from sdsupervise.handover.handover import Handover
from sdsupervise.handover.lock import Lock
from sdsupervise.handover.messages import HANDOVER_VERSION
from sdsupervise.handover.peer import NotifySetting, Peer, make_token
from sdsupervise.handover.reload import Reload
from sdsupervise.handover.started import Started
from sdsupervise.handover.welcome import receive_welcome
from sdsupervise.handover.words_search import WordsSearch
from sdsupervise.linux.channel import Channel, Message
from sdsupervise.linux.event_loop import EventLoop
from sdsupervise.linux.inheritance import Invocation
from sdsupervise.linux.pid_file import PidFile
from sdsupervise.settings.settings import Settings
from sdsupervise.sockets.listeners import Listening
from sdsupervise.supervisor.scaling import PoolSize, first_size
from sdsupervise.systemd.catalog import CatalogEntry
from sdsupervise.systemd.notify import Notifier
from sdsupervise.workers.pool import Pool
from sdsupervise.workers.worker import Worker, WorkerOwner

from .chance import Chance, as_json
from .surface import Surface
from .things import Crowd, opened
from .workers import WorkersOwner

_FACTS = {
    **{"asked_at": 1.7e9, "asked_by": "pid 7, uid 0", "verdict": "done", "reason": "", "not_applied": ""},
    **{"seconds": 1.5, "phases": {}},
}
_HOOK = {"notify_command": ["/bin/true", "x"], "notify_timeout": 30.0}
_FILES = [["/run/x.sock", 24, 7], ["/run/y.sock", 24, 8]]
_MESSAGES: Sequence[tuple[Mapping[str, Any], Sequence[str]]] = (
    ({"say": "spawned", "pid": "PID"}, ["pidfd"]),
    ({"say": "workers", "pids": ["PID"]}, ["pidfd"]),
    ({"say": "holders", "pids": ["PID", "DEAD"]}, ["pidfd", "dead pidfd"]),
    ({"say": "starts", "place": "/srv/app", **_HOOK}, []),
    ({"say": "starts", "place": "", "reload_timeout": 90.0}, []),
    ({"say": "hello", "version": 1, "stop_timeout": 30.0, "code": "/x (0)", "overlaps": True, "probation": 1}, []),
    (
        {"say": "hello", "version": 1, "stop_timeout": 3, "code": "/x (0)", "check_timeout": 0.0, "start_allowance": 0},
        [],
    ),
    ({"say": "hello", "version": 1, "stop_timeout": 3, "code": "/x (0)", "reload_timeout": 90.0, **_HOOK}, []),
    ({"say": "code", "code": "/x (1)"}, []),
    ({"say": "opened", "files": _FILES}, []),
    ({"say": "reason", "text": "no good", "traceback": "Traceback\n  x"}, []),
    ({"say": "reason", "text": "it died", "silent": "PID"}, []),
    ({"say": "extends", "seconds": 20.0}, []),
    ({"say": "warm", "ready": 1, "workers": 2}, []),
    ({"say": "counters", "counts": {"crashes": {"SIGSEGV": 2}, "reload_seconds": {"done": 0.5}}}, []),
    ({"say": "reloaded", "facts": {**_FACTS, "phases": {"starting_successor": 0.5}}}, []),
    ({"say": "caller"}, ["connection"]),
    *(({"say": word}, []) for word in ("naming", "lane", "yield", "serving", "checked", "failed", "committed")),
    *(({"say": word}, []) for word in ("stop", "empty", "unlocked", "of another release")),
)


class _Message(NamedTuple):
    data: bytes
    things: list[str]


def _nothing(*_: object) -> Any:  # noqa: ANN401
    return {}


def _started() -> Started:
    invocation = Invocation(["/usr/bin/python3", "service.py"], "", {})
    code_version, lock = CodeVersion("/srv/app", "0" * 16), PidFile.nameless()
    notifier = Notifier()
    return Started(notifier, invocation, code_version, lock, None, Listening(notifier), None)


class _Owner:
    """Hears all that a handover says, and does nothing."""

    def happen(self, event: Event) -> None:
        pass

    def reconsider(self) -> None:
        pass

    def lock_may_be_free(self) -> None:
        pass

    def peer_wants_no_successor(self) -> None:
        pass

    def main_pid_is_named(self) -> None:
        pass

    def put_off_deadline(self, seconds: float) -> None:
        pass

    def bind_deadline(self, seconds: float) -> None:
        pass

    def let_successor_leave(self, seconds: float) -> None:
        pass

    def lane_is_needed(self) -> None:
        pass

    def reload_ended(
        self, entry: CatalogEntry, facts: Mapping[str, object], notify_setting: NotifySetting | None
    ) -> None:
        pass

    def stop_asked(self) -> None:
        pass

    def peer_tells(self, message: Message) -> None:
        pass

    def peer_leaves_caller(self, connection: int) -> None:
        os.close(connection)

    def draining_gone(self) -> None:
        pass


class _NoWorkers(WorkersOwner):
    """The owner of a pool that starts none."""

    def start_worker(self, owner: WorkerOwner, *, index: int, spare: bool) -> Worker:
        raise AssertionError("no worker is wanted")

    def workers_forked(self, workers: list[Worker]) -> None:
        pass

    def cannot_start_worker(self, why: str) -> None:
        pass

    def pool_gave_up(self, why: str, worker: Worker) -> None:
        pass

    def crash_loop(self, why: str) -> None:
        pass


class _WordsSearch(WordsSearch):
    """That of a handover, but for what it asks the journal."""

    def look(self, peer: Peer, reload: Reload, silent: object) -> None:
        assert silent is None or isinstance(silent, int)


class HandoverSurface(Surface):
    """The channel, at its supervisor's end, with all that hears what comes through it."""

    name = "handover"

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._crowd = Crowd()
        self._handover: Handover | None = None

    def close(self) -> None:
        super().close()
        self._crowd.close()

    def rest(self) -> None:
        if self._handover is not None:
            peer = self._handover.peer
            assert peer is not None
            peer.forget()
            self._theirs.close()
            os.close(self._lock.path_fd())
            self._started.pid_file.close()
            self._loop.close()
            self._handover = None

    def make(self) -> object:
        chance = self.chance
        fields, things = chance.choice(_MESSAGES)
        pids = {"PID": self._crowd.alive(), "DEAD": self._crowd.dead_pid}
        fields = {name: _with_pids(field, pids) for name, field in fields.items()}
        if not chance.one_in(5):
            fields = chance.spoilt(fields)
        data = as_json(fields)
        if chance.one_in(8):
            data = chance.bytes(data, [b"{", b'"', b"\0", b"\xff", b"null", b"[" * 2000])
        kinds = list(self._crowd.makers)
        if chance.one_in(3):
            things = chance.choices(kinds, k=chance.choice((0, 1, 1, 2, 7)) if not chance.one_in(50) else 253)
        return _Message(data[: 128 * 1024 + 1], list(things))

    def feed(self, given: object) -> None:
        assert isinstance(given, _Message)
        self._begin()
        assert self._handover is not None and self._handover.peer is not None
        with opened(self._crowd, given.things) as fds:
            socket.send_fds(self._theirs, [given.data or b"{}"], fds)
        self._handover.peer.hear()
        if self._handover.peer._channel is None or self._handover.peer.gone:
            self.rest()  # bytes that are no message end a channel

    def _begin(self) -> None:
        if self._handover is not None:
            return
        self._loop, self._started = EventLoop(), _started()
        self._lock = Lock(self._started.pid_file)
        self._handover = Handover(
            *(self._loop, self._started, Settings(), Counters(), _Owner()),
            pool=Pool(self._loop, Settings(), _NoWorkers(), generation=1, size=1, forks=False),
            configured_workers=1,
            lock=self._lock,
            control=None,
        )
        self._handover._words = _WordsSearch(self._loop, executes=False, on_end=_Owner().reconsider)
        self._handover.reloads.running = Reload("pid 7, uid 0", None, by_systemd=False, spawn_there=False)
        ours, theirs = Channel.pair()
        self._theirs = socket.socket(fileno=os.dup(theirs.fileno()))
        theirs.close()
        self._handover.peer = self._handover._new_peer(ours, make_token(), 2, 30.0)


def _with_pids(value: object, pids: Mapping[str, int]) -> object:
    if isinstance(value, list):
        return [_with_pids(each, pids) for each in value]
    return pids.get(value, value) if isinstance(value, str) else value


class WelcomeSurface(Surface):
    """The welcome: a successor may still be root when it reads it, and its predecessor not any more."""

    name = "welcome"
    declared = (HandoverError, ConfigError)

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._crowd = Crowd()

    def close(self) -> None:
        self._crowd.close()

    def make(self) -> object:
        chance = self.chance
        pid = self._crowd.alive()
        carried = {"predecessor": "pidfd", "token": "pipe to read", "lock": "place"}
        listeners: list[dict[str, Any]] = []
        if chance.one_in(2):
            carried["control"] = "control"
        if chance.one_in(2):
            carried["listener:http"] = "listener"
            listeners.append({"given": False, "label": "sdsupervise/http/1f", "file": None, "lane": None})
        if chance.one_in(3):
            carried["listener:admin"] = "control"
            file = ["/run/x.sock", 24, 7]
            listeners.append({"given": chance.one_in(2), "label": "sdsupervise/a/1.2.3", "file": file, "lane": None})
        draining: list[dict[str, Any]] = []
        for generation in range(3, 3 + chance.choice((0, 0, 1, 2))):
            draining.append({"generation": generation, "pid": pid, "stop_timeout": 30.0, "due": time.monotonic() + 30})
            of_draining = {"pidfd": "pidfd", "token": "pipe to read", "channel": "channel", f"worker:{pid}": "pidfd"}
            carried |= {f"draining:{generation}:{name}": kind for name, kind in of_draining.items()}
        if chance.one_in(4):
            name = chance.choice(
                ("draining:3:", "draining:x:pidfd", "of another release", "", "listener:", "draining:3:worker:x")
            )
            carried[name] = chance.choice(list(self._crowd.makers))
        fields: Any = {
            **{"say": "welcome", "version": HANDOVER_VERSION, "generation": 6, "predecessor_generation": 5, "pid": pid},
            **{"stop_timeout": 30.0, "pid_file": "/run/x.pid", "overlaps": True, "barrier_timeout": 15.0},
            **{"listeners": listeners, "draining": draining, "pool": {"configured": 4, "workers": 5}},
            "carries": list(carried),
        }
        things = list(carried.values())
        if not chance.one_in(5):
            fields = chance.spoilt(fields)
        if chance.one_in(3):
            things[chance.randrange(len(things))] = chance.choice(list(self._crowd.makers))
        if chance.one_in(8):
            things = chance.sample(things, k=chance.randrange(len(things)))
        return _Message(as_json(fields)[: 128 * 1024], things)

    def feed(self, given: object) -> None:
        assert isinstance(given, _Message)
        ours, theirs = Channel.pair()
        loop = EventLoop()
        try:
            with opened(self._crowd, given.things) as fds:
                socket.send_fds(theirs._socket, [given.data], fds)
            self._take_in(loop, ours)
        finally:
            ours.close()
            theirs.close()
            loop.close()

    @staticmethod
    def _take_in(loop: EventLoop, channel: Channel) -> None:
        welcome = receive_welcome(channel, timeout_seconds=1.0)
        fds = dict(welcome.fds)
        draining = DrainingGenerations(loop, _Owner())
        draining.inherit(welcome.draining, fds)
        for name in [name for name in fds if name.startswith("draining:")]:
            del fds[name]
        try:
            listening = Listening.inherit(
                *([], welcome.listeners, fds, Notifier()), beside=True, checked=False, drops=False
            )
            listening.files_made()
            for name in [name for name in fds if name.startswith("listener")]:
                del fds[name]  # nothing is listed, so all are closed
            first_size(PoolSize(4, False, 10, "that is all"), welcome)
            draining.take_over()
            draining.facts()
            draining.seconds_left()
        finally:
            draining.leave_to_successor()
            for fd in fds.values():
                os.close(fd)
