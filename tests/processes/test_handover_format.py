"""What supervisors of two releases say to each other in a reload, kept in tests/support/fixtures: a service is moved to
a new sdsupervise by a reload, in which the old release speaks first.

`python -m tests.processes.test_handover_format` writes the fixture of HANDOVER_VERSION anew. A release may add a field
or a message. What it must not do is take one away, or change its type: then HANDOVER_VERSION rises, both versions have
to be understood for a while, and the old fixture stays.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import sdsupervise
from sdsupervise.handover.messages import HANDOVER_VERSION
from tests.processes.test_overlap import deploy, let_drain, reload
from tests.support.descriptions import FIXTURES, HANDOVER_FIXTURES
from tests.support.harness import Ground

# In the supervisor of each generation, before it says or hears anything: note what it says; if there is a fixture to
# speak as, leave out what that does not have.
EAR = """
import json, sdsupervise.linux.channel
_send = sdsupervise.linux.channel.Channel.send
_words = {words!r}

def _as_then(now, then):
    if isinstance(then, dict) and isinstance(now, dict):
        return {{name: _as_then(now[name], then[name]) for name in then if name in now}}
    if isinstance(then, list) and isinstance(now, list):
        return [_as_then(item, then[0]) for item in now] if then else now
    return now

def _say(self, say, fds=(), **fields):
    with open(os.environ["GROUND"] + "/said", "a") as said:
        said.write(json.dumps([say, len(fds), fields]) + "\\n")
    if _words is not None:
        if say not in _words:
            return True  # it had no such message
        fields = _as_then(fields, _words[say]["fields"])
    return _send(self, say, fds, **fields)

sdsupervise.linux.channel.Channel.send = _say
"""
SOCKET = 'listen = {"http": os.environ["GROUND"] + "/http.sock"}\nhandover = "overlap"\n'


def converse(ground: Ground, words: Mapping[str, Any] | None) -> dict[str, Any]:
    """Three generations, of which the first drains to the end, and a fourth that fails; the longest of each message."""
    ear = EAR.format(words=words)
    deploy(ground, 1, SOCKET, drains=True, before=ear)
    running = ground.serving()
    for release in (2, 3):
        deploy(ground, release, SOCKET, before=ear)
        reload(ground, release)
    deploy(ground, 4, SOCKET + "def supervised_process(self): raise RuntimeError('no good')", before=ear)
    assert "no good" in ground.reload().stderr
    os.kill(int(str(ground.status()["pid"])), signal.SIGTERM)
    ground.expect("drained", release=3)
    let_drain(ground, 1)
    assert running.wait() == 0
    ground.expect_nothing_left()
    said: dict[str, Any] = {}
    for line in sorted((ground.directory / "said").read_text().splitlines(), key=len):
        say, fds, fields = json.loads(line)
        said[say] = {"fds": fds, "fields": fields}
    return said


def shape(value: object) -> object:
    """Types instead of values."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def missing(then: object, now: object, at: str) -> list[str]:
    """What was said then and is not now, or is of another type."""
    if isinstance(then, dict) and isinstance(now, dict):
        return [what for name in then for what in missing(then[name], now.get(name, "nothing"), f"{at}.{name}")]
    if isinstance(then, list) and isinstance(now, list):
        return missing(then[0], now[0], f"{at}[]") if then and now else []
    return [] if then == now else [f"{at} was {then} and is {now}"]


def test_this_version_has_a_fixture() -> None:
    """What HANDOVER_VERSION names was recorded."""
    assert FIXTURES / f"handover-v{HANDOVER_VERSION}.json" in HANDOVER_FIXTURES


@pytest.mark.parametrize("fixture", HANDOVER_FIXTURES, ids=lambda path: path.stem)
def test_an_older_release_understands_what_we_say(ground: Ground, fixture: Path) -> None:
    """Each message of the fixture is still said, with all of its fields, of the same types, and as many descriptors."""
    then, now = json.loads(fixture.read_text())["said"], converse(ground, None)
    assert missing({say: shape(message) for say, message in then.items()}, shape(now), "said") == []


@pytest.mark.parametrize("fixture", HANDOVER_FIXTURES, ids=lambda path: path.stem)
def test_we_understand_what_an_older_release_says(ground: Ground, fixture: Path) -> None:
    """Reloads succeed, and one that fails is undone, between supervisors that say only what is in the fixture."""
    said = json.loads(fixture.read_text())["said"]
    assert set(converse(ground, said)) >= set(said)


def main() -> None:
    """Record."""
    with Ground() as ground:
        said = converse(ground, None)
        said = json.loads(json.dumps(said).replace(str(ground.directory), "/GROUND"))
    path = FIXTURES / f"handover-v{HANDOVER_VERSION}.json"
    text = json.dumps({"release": sdsupervise.__version__, "said": said}, indent=1, sort_keys=True)
    path.write_text(text + "\n")


if __name__ == "__main__":
    main()
