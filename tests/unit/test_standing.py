"""STATUS is a true sentence: in every state, whatever is missing, however long or foreign its words."""

from __future__ import annotations

import pytest

from sdsupervise.core.phases import PHASES
from sdsupervise.core.takeover import State
from sdsupervise.supervisor.status_text import StatusText
from sdsupervise.systemd.notify import status

FINE = StatusText(
    state=State.SERVING,
    generation=2,
    peer_generation=3,
    code="/srv/new.py (b)",
    peer_code="/srv/newer.py (c)",
    serving=2,
    workers=2,
    trouble="",
    last_reload="",
    gave_up_because="",
)
CRASH = "worker 1 was killed by SIGSEGV, the next starts 8 s later"


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_every_state(state: State) -> None:
    """One line, no blanks left, no word of a code that does not serve."""
    for trouble, serving in (("", 2), (CRASH, 1), (CRASH, 0)):
        sentence = FINE._replace(state=state, trouble=trouble, serving=serving).sentence()
        assert sentence and "{" not in sentence and "\n" not in sentence and sentence == sentence.strip()
        if PHASES[state].main_state in ("starting", "stopping"):
            assert "/srv/" not in sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Generation 2 serves /srv/new.py (b)"),
        (
            {"last_reload": "Reload 14:05:03 failed: no disk"},
            "Generation 2 serves /srv/new.py (b). Reload 14:05:03 failed: no disk",
        ),
        ({"serving": 1}, "Generation 2 serves /srv/new.py (b) with 1 of 2 workers: others are starting"),
        ({"serving": 1, "trouble": CRASH}, f"Generation 2 serves /srv/new.py (b) with 1 of 2 workers: {CRASH}"),
        ({"serving": 0}, "Nobody serves (generation 2): a worker is starting"),
        ({"serving": 0, "trouble": CRASH}, f"Nobody serves (generation 2): {CRASH}"),
        # What is missing is ours, not the new generation's.
        ({"state": State.STARTING_SUCCESSOR}, "Generation 2 serves, generation 3 is starting"),
        (
            {"state": State.STARTING_SUCCESSOR, "serving": 1, "trouble": CRASH},
            f"Generation 2 serves with 1 of 2 workers: {CRASH}; generation 3 is starting",
        ),
        (
            {"state": State.STARTING_SUCCESSOR, "serving": 0, "trouble": CRASH},
            f"Nobody serves (generation 2): {CRASH}; generation 3 is starting",
        ),
        (
            {"state": State.CANCELLING, "serving": 0},
            "Nobody serves (generation 2): a worker is starting; generation 3 was too slow",
        ),
        ({"state": State.OPENING, "serving": 0, "trouble": CRASH}, f"Generation 2 is starting: {CRASH}"),
        ({"state": State.COMMITTING}, "Generation 3 serves /srv/newer.py (c)"),
        ({"state": State.DRAINING, "serving": 0}, "Generation 3 serves /srv/newer.py (c)"),
        (
            {"state": State.STOPPING, "serving": 0, "gave_up_because": "Gave up after 3 crashes."},
            "Gave up after 3 crashes.",
        ),
    ],
)
def test_sentences(changes: dict[str, object], sentence: str) -> None:
    """What serves comes first, then what is missing and why, then what else goes on."""
    assert FINE._replace(**changes).sentence() == sentence  # type: ignore[arg-type]


def test_status_is_ascii_on_one_line() -> None:
    """sdnotify encodes Latin-1, of which systemd would drop what is not UTF-8: everything else is escaped."""
    assert status("für\n zwei  € \ud800") == "STATUS=f\\xfcr zwei \\u20ac \\ud800"


def test_a_long_status_says_that_it_is_cut() -> None:
    """A reason may be as long as a traceback's last line; the end of it stands in the journal."""
    told = status("é" * 5000)
    assert told.endswith(" ...") and len(told) < 1100
    assert status("x" * 900) == "STATUS=" + "x" * 900
