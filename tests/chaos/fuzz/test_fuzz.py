"""Nothing that others say, however wrongly, is more than an error that is declared: by the same inputs each time."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdsupervise.control import answers, varlink
from sdsupervise.handover.messages import SHAPES
from tests.support.harness import Ground
from tests.support.running import Deadline

from .chance import Chance, as_json
from .control import _ANSWERS, _CALLS, ControlSurface
from .handover import _MESSAGES, _with_pids
from .surface import Find, Surface, fuzz, seeded
from .surfaces import SURFACES
from .things import Crowd, opened
from .workers import NotifySurface, _Datagram

SEED = 2026
NULL = {"credentials_directory"}  # is null in what is answered
INPUTS = 10_000
INPUTS_OF_A_LIVING_ONE = 1_500


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is wrong is logged, 10,000 times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: str(surface.name))
def test_surface(surface: type[Surface]) -> None:
    """All inputs are taken in or refused as declared; no descriptor is left open, and no one takes long."""
    finds = list(fuzz(surface, SEED, range(INPUTS)))
    assert not finds, "\n".join(map(str, finds))


class _Broken(Surface):
    """What can be found."""

    name = "broken"
    declared = (ValueError,)
    is_half_done = False

    def make(self) -> object:
        return self.chance.randrange(4)

    def rest(self) -> None:
        self.is_half_done = False

    def feed(self, given: object) -> None:
        assert not self.is_half_done
        if given == 0:
            raise ValueError
        if given == 1:
            self.is_half_done = True
            raise KeyError("found")
        if given == 2:
            os.open(os.devnull, os.O_RDONLY)


def test_something_can_be_found() -> None:
    """An exception that is not declared, and a descriptor that stays open, once each, and nothing that follows
    from them; the input can be made again."""
    before = set(os.listdir("/proc/self/fd"))
    finds = list(fuzz(_Broken, SEED, range(500)))
    for fd in set(os.listdir("/proc/self/fd")) - before:
        if os.path.lexists(f"/proc/self/fd/{fd}"):
            os.close(int(fd))
    assert [type(find) for find in finds] == [Find, Find]
    assert "KeyError in feed" in finds[0].what and "descriptors are open" in finds[1].what
    again = _Broken(seeded(_Broken, SEED, finds[0].number)).make()
    assert repr(again) == finds[0].given


def test_what_is_spoilt_is_good_before() -> None:
    """What the inputs are made of is taken as it is: else all of them would be refused at their beginning."""
    for method, message in _ANSWERS:
        found = answers.read(method, dict(message), [], None).parameters.keys()
        assert found - {"reason"} == message["parameters"].keys() - {"reason"} - NULL
    for fields, _ in _MESSAGES:
        said = {name: _with_pids(field, {"PID": 7, "DEAD": 8}) for name, field in fields.items() if name != "say"}
        if fields["say"] in SHAPES:
            assert SHAPES[fields["say"]](json.loads(json.dumps(said)), "").keys() == said.keys(), fields
    for call in _CALLS:
        assert varlink.read_call(as_json(call))["method"] == call["method"]


def test_a_living_supervisor(ground: Ground) -> None:
    """A supervisor that runs takes the same from callers, and as notifications with descriptors, and serves on with the
    same worker, and no descriptor more."""
    ground.program(1, 'notify("READY=1"); report("serves"); wait()')
    running = ground.run_command("current/program", options=("--handover", "overlap"))
    ground.expect("serves")
    (worker,) = ground.worker_pids()
    environment = Path(f"/proc/{worker}/environ").read_text().split("\0")
    path = next(pair.partition("=")[2] for pair in environment if pair.startswith("NOTIFY_SOCKET="))
    before = len(os.listdir(f"/proc/{running.pid}/fd"))
    crowd = Crowd()
    control, notify = ControlSurface(Chance(0)), NotifySurface(Chance(0))
    try:
        for number in range(INPUTS_OF_A_LIVING_ONE):
            control.chance = seeded(ControlSurface, SEED, number)
            notify.chance = seeded(NotifySurface, SEED, number)
            _call(ground.control, control.make())
            _notify(path, notify.make(), crowd)
    finally:
        notify.close()
        crowd.close()
    assert ground.status()["state"] == "serving" and ground.worker_pids() == [worker]
    deadline = Deadline()
    while len(os.listdir(f"/proc/{running.pid}/fd")) > before + 4:  # some that ask to be answered are kept
        assert not deadline.passed
        os.sched_yield()
    assert "bug" not in running.err


def _call(path: str, data: object) -> None:
    assert isinstance(data, bytes)
    if any(word in data for word in (b"Reload", b"Scale", b"Follow")):
        return  # it would do so, and tell of it for as long as that takes
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)
        caller.settimeout(Deadline().left)
        try:
            caller.sendall(data)
            caller.shutdown(socket.SHUT_WR)
            while caller.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was hung up on in the middle of it


def _notify(path: str, datagram: object, crowd: Crowd) -> None:
    assert isinstance(datagram, _Datagram)
    if any(word in datagram.data for word in (b"trigger", b"STOPPING=1", b"WATCHDOG=1")):
        return  # it would be believed
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, opened(crowd, datagram.things) as fds:
        sender.connect(path)
        socket.send_fds(sender, [datagram.data], fds)
