"""The takeover table keeps its promises in every state two supervisors can reach, and the original's does not."""

from collections.abc import Callable

import pytest

from .original import Original
from .walk import walk
from .worlds import STANDARD, Walked, never_met, total_line, walk_all


@pytest.fixture(scope="module")
def walks() -> list[Walked]:
    return list(walk_all(STANDARD))


def test_no_promise_is_broken(walks: list[Walked], record_property: Callable[[str, object], None]) -> None:
    """No interleaving of crashes, hangs, deadlines and stops breaks an invariant of the takeover."""
    record_property("summary", "\n".join([*(walked.line() for walked in walks), total_line(walks)]))
    for walked in walks:
        assert not walked.outcome.broken, f"{walked.world}\n    {walked.outcome.report()}"


def test_every_rule_and_every_ignored_pair_occurs(walks: list[Walked]) -> None:
    """The table holds nothing that cannot happen (and the walk reaches all of it)."""
    assert never_met(walks) == ([], [])


def test_the_originals_rules_lose_the_service() -> None:
    """SIGQUIT from the new side crosses the 60 s SIGKILL from the old one: both go, and nobody serves."""
    outcome = walk(Original(slow_workers=False))
    assert outcome.broken.startswith("2: somebody serves")
    killed = _line_with("RAISING + TIME_IS_UP: SIGKILL to the new one", outcome.path)
    asked = _line_with("SIGQUIT to the old one", outcome.path)
    obeyed = _line_with("SERVING + QUIT: SIGTERM to the worker", outcome.path)
    died = _line_with("new: dies of SIGKILL", outcome.path)
    assert killed < asked < obeyed < died


def test_the_originals_rules_give_up_on_a_slow_worker() -> None:
    """A worker that takes longer than 5 + 5 s to stop keeps the lock it shares, and the new side aborts."""
    outcome = walk(Original(slow_workers=True))
    assert outcome.broken.startswith("2: somebody serves")
    assert _line_with("FORCING + TIME_IS_UP: exits", outcome.path)


def _line_with(words: str, path: tuple[str, ...]) -> int:
    return next(number for number, line in enumerate(path) if words in line)
