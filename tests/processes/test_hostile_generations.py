"""A generation that says what none says: the other one drops it, names it once, and serves."""

from __future__ import annotations

import os

import pytest

from tests.chaos.fuzz.chance import Chance, as_json
from tests.support.harness import Ground, service
from tests.support.running import Deadline

# In the supervisor of a generation, before it says anything: what it says is otherwise, or comes with more.
SAYS = """
import json, socket, sdsupervise.linux.channel
from sdsupervise.linux.channel import Channel
_send = Channel.send

def _say(self, say, fds=(), **fields):
    say, fds, fields = otherwise(self, say, list(fds), fields)
    return _send(self, say, fds, **fields)

def raw(channel, data, fds=()):
    try:
        socket.send_fds(channel._socket, [data], list(fds))
    except OSError:
        pass  # it listens no more

def replaced(fds, place, fd):
    return [*fds[:place], fd, *fds[place + 1:]]

def a_pipe():
    return os.pipe()[0]

def null():
    return os.open("/dev/null", os.O_RDWR)

def otherwise(channel, say, fds, fields):
{otherwise}
    return say, fds, fields

Channel.send = _say
"""


def says(*statements: str) -> str:
    """What a service module has at its top; statements see say, fds, fields and the channel."""
    return SAYS.replace("{otherwise}", "\n".join(f"    {statement}" for statement in statements))


WELCOMES = {
    "not a number": 'fields |= {"stop_timeout": float("nan")} if say == "welcome" else {}',
    "no end": 'fields |= {"barrier_timeout": float("inf")} if say == "welcome" else {}',
    "a huge number": 'fields |= {"generation": 10 ** 4000} if say == "welcome" else {}',
    "a text": 'fields |= {"generation": "2"} if say == "welcome" else {}',
    "one that drains and has no number": 'fields |= {"draining": [{"generation": "x"}]} if say == "welcome" else {}',
    "listeners that are none": 'fields |= {"listeners": [7]} if say == "welcome" else {}',
    "a name twice": 'fields |= {"carries": ["lock"] * len(fds)} if say == "welcome" else {}',
    "names that are none": 'fields |= {"carries": [[]] * len(fds)} if say == "welcome" else {}',
    "fewer descriptors": 'fds = fds[:-1] if say == "welcome" else fds',
    "a pid that is another's": 'fields |= {"pid": 1} if say == "welcome" else {}',
    "no pidfd": 'fds = replaced(fds, fields["carries"].index("predecessor"), null()) if say == "welcome" else fds',
    "no pipe": 'fds = replaced(fds, fields["carries"].index("token"), null()) if say == "welcome" else fds',
    "no file": 'fds = replaced(fds, fields["carries"].index("lock"), a_pipe()) if say == "welcome" else fds',
    "no control socket": 'fds = replaced(fds, fields["carries"].index("control"), null()) if say == "welcome" else fds',
    "no object": 'raw(channel, b"[1]") if say == "welcome" else None',
    "deep": 'raw(channel, b\'{"say": "welcome", "x":\' + b"[" * 50_000) if say == "welcome" else None',
}


@pytest.mark.parametrize("spoilt", WELCOMES.values(), ids=WELCOMES)
def test_a_welcome_that_is_none(ground: Ground, spoilt: str) -> None:
    """A successor that finds such a hand-over leaves with one sentence, the caller of the reload reads it, and the old
    generation serves on."""
    ground.deploy(1, service(before=says(spoilt)))
    ground.serving()
    workers = ground.worker_pids()
    ground.deploy(2)
    reloaded = ground.reload()
    assert reloaded.returncode == 1
    assert "Traceback" not in reloaded.stderr and "hand-over" in reloaded.stderr, reloaded.stderr
    assert ground.status()["generation"] == 1 and ground.worker_pids() == workers
    ground.deploy(3)


MESSAGES = {
    "numbers that are none": 'fields |= {"stop_timeout": float("nan"), "probation": 1e308} if say == "hello" else {}',
    "pids that are none": 'fields |= {"pids": ["x"] * len(fds)} if say == "workers" else {}',
    "pids that are none of its": 'fields |= {"pids": [1] * len(fds)} if say == "workers" else {}',
    "no pidfds": 'fds = [null() for _ in fds] if say == "workers" else fds',
    "descriptors beside a word": 'fds = [null() for _ in range(200)] if say == "warm" else fds',
    "a caller that is none": 'raw(channel, b\'{"say": "caller"}\', [null()]) if say == "warm" else 0',
    "no counts": 'raw(channel, b\'{"say": "counters", "counts": {"": {"": 1e9999}}}\') if say == "warm" else 0',
    "no files": 'raw(channel, b\'{"say": "opened", "files": [["", 1e400, 7]]}\') if say == "warm" else 0',
    "a word that is none": 'raw(channel, b\'{"say": [1], "x": 7}\') if say == "warm" else 0',
    "a year from now": 'raw(channel, b\'{"say": "extends", "seconds": 1e300}\') if say == "warm" else 0',
    "too many": '[raw(channel, b\'{"say": "warm", "ready": "many"}\') for _ in range(100)] if say == "warm" else 0',
}


@pytest.mark.parametrize("spoilt", MESSAGES.values(), ids=MESSAGES)
def test_a_successor_that_says_what_none_says(ground: Ground, spoilt: str) -> None:
    """The predecessor lives, with no descriptor more than before; another reload, of good code, goes well."""
    ground.deploy(1)
    running = ground.serving()
    before = descriptors_of(running.pid)
    ground.deploy(2, service(before=says(spoilt)))
    reload = ground.reload()
    assert "Traceback" not in reload.stderr
    if reload.returncode != 0:
        assert ground.status()["generation"] == 1
        wait_for_descriptors(running.pid, before)
    ground.deploy(3)
    assert ground.reload().returncode == 0
    assert running.wait() == 0
    assert "bug" not in running.err and "Traceback" not in running.err
    assert running.err.count("ignoring it\n") <= 2  # once for each channel


def test_a_successor_that_talks_nonsense(ground: Ground) -> None:
    """Two hundred messages by chance, and then nothing: the reload fails, and the predecessor serves."""
    chance = Chance("a successor")
    words = [
        {"say": "hello", "version": 1, "stop_timeout": 3, "code": "x"},
        {"say": "workers", "pids": [7, 8]},
        {"say": "reason", "text": "x", "traceback": "y"},
        {"say": "counters", "counts": {"a": {"b": 1}}},
        {"say": "warm", "ready": 1, "workers": 2},
    ]
    said = [as_json(chance.spoilt(chance.choice(words)))[:100_000] for _ in range(200)]
    (ground.directory / "said").write_text("\n".join(data.hex() for data in said))
    lines = "[bytes.fromhex(line) for line in open(os.environ['GROUND'] + '/said')]"
    talk = f"[raw(channel, data, [null()] * (number % 3)) for number, data in enumerate({lines}) if data]"
    ground.deploy(1)
    running = ground.serving()
    before = descriptors_of(running.pid)
    ground.deploy(2, service(before=says(f'({talk}, os._exit(3)) if say == "hello" else None')))
    for _ in range(3):
        assert ground.reload().returncode == 1
        assert ground.status()["generation"] == 1
    wait_for_descriptors(running.pid, before)
    assert "bug" not in running.err


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_for_descriptors(pid: int, number: int) -> None:
    """The verdict comes before the last of the failed generation is dead."""
    deadline = Deadline()
    while descriptors_of(pid) != number:
        assert not deadline.passed, os.listdir(f"/proc/{pid}/fd")
        os.sched_yield()
