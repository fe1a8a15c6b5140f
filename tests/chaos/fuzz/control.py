"""The control socket: what callers send, and what our commands are answered."""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import pytest

from sdsupervise.cli import tree
from sdsupervise.cli.ask import Asked
from sdsupervise.cli.list import _row
from sdsupervise.cli.reload_output import success
from sdsupervise.cli.terminal import Screen
from sdsupervise.control import answers, varlink
from sdsupervise.control.server import Call, ControlServer
from sdsupervise.core.takeover import State
from sdsupervise.errors import ProtocolError
from sdsupervise.handover.reload import Reload
from sdsupervise.input.checked import Unfit
from sdsupervise.input.printable import printable
from sdsupervise.linux.event_loop import EventLoop
from sdsupervise.supervisor.requests import Requests
from sdsupervise.supervisor.scaling import PoolSize

from .chance import Chance, as_json
from .surface import Surface

_CALLS: tuple[Mapping[str, Any], ...] = (
    {"method": "io.sdsupervise.Status"},
    {"method": "io.sdsupervise.Code", "parameters": {}},
    {"method": "io.sdsupervise.Scale", "parameters": {"workers": 3}},
    {"method": "io.sdsupervise.Scale", "parameters": {"by": -1}, "more": False},
    {"method": "io.sdsupervise.Reload", "parameters": {"exec_reload": True, "spawns": True}, "more": True},
    {"method": "io.sdsupervise.Reload", "parameters": {}, "oneway": True},
    {"method": "io.sdsupervise.Follow", "more": True},
    {"method": "org.varlink.service.GetInfo"},
    {"method": "org.varlink.service.GetInterfaceDescription", "parameters": {"interface": "io.sdsupervise"}},
    {"method": "org.varlink.service.GetInterfaceDescription", "parameters": {"interface": "../x"}},
    {"method": "io.sdsupervise.Fly", "parameters": {"a": [1, {"b": None}]}},
)


class _Pool:
    """As much of a pool as a call can ask for."""

    size = 2
    workers: ClassVar[Mapping[int, object]] = {}

    @staticmethod
    def has_room_for(size: int) -> bool:
        return size < 100

    def scale(self, size: int) -> None:
        assert 1 <= size <= 10_000
        self.size = size


class _Owner:
    """Serves, and fails each reload."""

    state, is_main, reload_waits = State.SERVING, True, False

    def facts(self) -> dict[str, object]:
        return {"text": "ü\udc80", "numbers": [1, 2.5]}

    def code(self) -> dict[str, object]:
        return {"argv": ["x"] * 100}

    def stop(self) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def pass_on(self, number: int) -> list[int]:
        return []

    def reload(self, reload: Reload) -> None:
        reload.enter("starting_successor", "it starts", at_most=1.0)
        reload.fail("no good", "", {})

    def refuse(self, reload: Reload, why: str) -> None:
        reload.refuse(why, stops=False)

    def scaled(self) -> None:
        pass

    def ask_control_pid(self, on_answer: Callable[[int], None]) -> None:
        on_answer(os.getpid())


class _Requests(Requests):
    """Those of a supervisor, but for signals."""

    def __init__(self) -> None:
        self._pool = _Pool()  # type: ignore[assignment]
        self._pool_size = PoolSize(2, False, 100, "that is all")
        self._why_never, self._is_nobody = "", False
        self._followers = []
        self._owner = _Owner()

    def _take_follower(self, call: Call) -> None:
        """The reload comes at once."""
        super()._take_follower(call)
        self._reload(Reload("nobody", None, by_systemd=False, spawn_there=False))


class ControlSurface(Surface):
    """Callers, each of whom sends several things at once and hangs up."""

    name = "control"

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._loop: EventLoop | None = None

    def rest(self) -> None:
        if self._loop is not None:
            self._server.close()
            self._loop.close()
            self._loop = None

    def make(self) -> object:
        chance, data = self.chance, b""
        for _ in range(chance.choice((1, 1, 2, 4))):
            call = chance.choice(_CALLS)
            data += as_json(chance.spoilt(call) if not chance.one_in(4) else call) + b"\0"
        if chance.one_in(5):
            data = chance.bytes(data, [b"\0", b"\0\0", b"{}", b"[" * 2000, b"\xff", b'{"method":', b" " * 5000])
        return data[: 4 * varlink.MAX_CALL_BYTES]

    def feed(self, given: object) -> None:
        assert isinstance(given, bytes)
        if self._loop is None:
            self._loop, listener = EventLoop(), socket.socket(socket.AF_UNIX)
            self._server = ControlServer(
                self._loop, listener, on_call=_Requests().take_call, privileged=(os.geteuid(),)
            )
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            sent = theirs.send(given)
            theirs.shutdown(socket.SHUT_WR)
            assert sent == len(given) or sent > 65536
            self._server.adopt(ours.detach())
            self._run_until_gone(theirs)

    def _run_until_gone(self, theirs: socket.socket) -> None:
        """Turn for turn, and read what is answered: everything that comes is a message."""
        loop, data = self._loop, b""
        assert loop is not None
        while self._server._connections:
            loop.call_later(0, loop.stop)
            loop.run()
            try:
                data += theirs.recv(1 << 20)
            except (BlockingIOError, ConnectionResetError):
                pass
        varlink.MessageReader().feed(data[-varlink.MAX_MESSAGE_BYTES :].partition(b"\0")[2])


_WORKER = {
    "index": 0,
    "pid": 7,
    "state": "serving",
    "age": 1.5,
    "last_ping": None,
    "status": "",
    "crashes": 0,
    "retiring": "",
}
_RELOAD = {
    "asked_at": 1.7e9,
    "asked_by": "pid 7, uid 0",
    "verdict": "done",
    "reason": "",
    "not_applied": "x",
    "seconds": 1.5,
}
_STATUS: Mapping[str, Any] = {
    **{"name": "web", "version": "0.1.0", "state": "serving", "status": "Generation 2 serves", "serves": True},
    **{
        "healthy": True,
        "generation": 2,
        "since": 1.7e9,
        "pid": 7,
        "handover": "overlap",
        "code": {"path": "/srv/x", "fingerprint": "0"},
    },
    **{
        "argv": ["python3", "app.py"],
        "directory": "/srv",
        "credentials_directory": None,
        "pid_file": "/run/x.pid",
        "can_reload": True,
    },
    **{"sockets": [{"name": "http", "address": "127.0.0.1:8000", "from": "sdsupervise"}], "crashes": 3},
    **{
        "pool": {"workers": 2, "serving": 1, "max_workers": 9, "automatic": True},
        "workers": [_WORKER, {**_WORKER, "index": 1, "last_ping": 0.5, "shim": 8}],
    },
    **{"spare": 9, "successor": {"generation": 3, "pid": None, "code": "", "workers": [8], "ready": 0}},
    "draining": [{"generation": 1, "pid": 5, "workers": [6], "at_most": 3.5}],
    "last_reload": {**_RELOAD, "phases": {"starting_successor": 0.5, "yielding": 0.1}},
    "counters": {"crashes": {"SIGSEGV": 3}},
}
_DONE = {"verdict": "done", "seconds": 1.5, "phases": {}, "generation": 2, "pid": 7, "code": "/srv/x (0)", "old_pid": 5}
_ANSWERS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("Status", {"parameters": _STATUS}),
    ("Status", {"error": "org.varlink.service.PermissionDenied", "parameters": {}}),
    ("Reload", {"parameters": {"phase": "starting_successor", "message": "x", "at_most": 65.0}, "continues": True}),
    ("Reload", {"parameters": {"phase": "starting_successor", "ready": 1, "workers": 2}, "continues": True}),
    ("Follow", {"parameters": {"at_most": 3600.0}, "continues": True}),
    ("Reload", {"parameters": {**_DONE, "old_generation": 1, "same_code": False, "drains_at_most": 30}}),
    (
        "Reload",
        {"error": "io.sdsupervise.ReloadFailed", "parameters": {"reason": "x", "traceback": "a\nb", "serves": True}},
    ),
    ("Scale", {"parameters": {"workers": 2}}),
)


class _Answer(NamedTuple):
    method: str
    data: bytes


class AnswerSurface(Surface):
    """What our commands are answered, and make lines of, none of which may move a cursor."""

    name = "answers"
    declared = (ProtocolError, Unfit)

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._meter, self._screen = tree.Meter(os.getpid(), uid=os.getuid()), Screen()

    def make(self) -> object:
        chance = self.chance
        method, message = chance.choice(_ANSWERS)
        data = as_json(chance.spoilt(copy.deepcopy(message)) if not chance.one_in(8) else message)
        data = data[: 2 * varlink.MAX_MESSAGE_BYTES]
        return _Answer(method, data if not chance.one_in(8) else chance.bytes(data, [b"\xff", b"NaN", b"\0"]))

    def feed(self, given: object) -> None:
        assert isinstance(given, _Answer)
        for message in varlink.MessageReader().feed(given.data + b"\0"):
            answer = answers.read(given.method, message, [], None)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(self._meter.processes, "connections", lambda _: 3)  # a busy machine has many
                shown = self._shown(given.method, answer)
            assert all(printable(text) == text for text in shown), shown

    def _shown(self, method: str, answer: answers.Answer) -> list[str]:
        facts = answer.parameters
        if answer.error:
            return [facts["reason"], facts.get("traceback", "")]
        if method in ("Reload", "Follow"):
            return [success(facts), facts.get("message", ""), facts.get("phase", "")]
        if method != "Status":
            return []
        found = tree.lines("web", facts, answer.sender, self._meter, self._screen, full=False)
        return [*(line.text for line in found), *_row(Asked("web", "", facts))[0]]
