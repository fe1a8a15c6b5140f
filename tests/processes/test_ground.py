"""The ground of the other tests: it says at once that a report cannot come any more."""

from __future__ import annotations

import pytest

from tests.support import harness
from tests.support.harness import PYTHON, Ground
from tests.support.running import Deadline, Missed


@pytest.fixture(autouse=True)
def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[Deadline]:
    """Those of all waits for a report."""
    made: list[Deadline] = []

    def make() -> Deadline:
        made.append(Deadline())
        return made[-1]

    monkeypatch.setattr(harness, "Deadline", make)
    return made


def test_no_process_is_left(ground: Ground, deadlines: list[Deadline]) -> None:
    """Nothing is left that could report, whether it ends in the wait or before it."""
    ended = ground.run(PYTHON, "-c", "raise SystemExit('a wrong default')")
    with pytest.raises(Missed, match="a wrong default"):
        ground.expect("serves")
    assert ended.wait() == 1
    with pytest.raises(Missed):
        ground.expect("serves")
    assert not any(deadline.passed for deadline in deadlines)


def test_last_words_are_read(ground: Ground) -> None:
    """What a process reported before its end is found after its end."""
    ended = ground.run(PYTHON, "-c", "from told import report; report('serves')")
    assert ended.wait() == 0
    assert ground.expect("serves").pid == ended.pid


def test_an_orphan_may_report(ground: Ground) -> None:
    """A process whose starter has ended is waited for."""
    ground.make_gate()
    script = "import os\nfrom told import *\nif os.fork() == 0: wait_at_gate('waits'); report('serves')"
    assert ground.run(PYTHON, "-c", script).wait() == 0
    orphan = ground.expect("waits").pid
    ground.open_gate()
    assert ground.expect("serves").pid == orphan
