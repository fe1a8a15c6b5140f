"""Counts over generations, and crash loops, without processes."""

from __future__ import annotations

import pytest

from sdsupervise.handover.counters import Counters
from sdsupervise.handover.messages import COUNTERS
from sdsupervise.input.checked import Unfit
from sdsupervise.linux.event_loop import EventLoop
from sdsupervise.workers.crash_loops import LOOP, CrashLoops


def test_counts_of_a_successor_are_on_top() -> None:
    """What the predecessor tells, again and again, is added to what we have counted ourselves."""
    old, new = Counters(), Counters()
    old.count("crashes", "SIGSEGV")
    new.count("crashes", "hung")
    new.inherit(old.facts())
    old.count("crashes", "SIGSEGV")
    old.count_reload({"verdict": "done", "seconds": 0.5, "phases": {"starting_successor": 0.4}})
    new.inherit(old.facts())
    assert new.facts() == {
        "crashes": {"SIGSEGV": 2, "hung": 1},
        "reloads": {"done": 1},
        "reload_seconds": {"done": 0.5},
        "phases": {"starting_successor": 1},
        "phase_seconds": {"starting_successor": 0.4},
    }


def test_what_cannot_be_counts_is_refused() -> None:
    """Another release may count what this one does not know, but not by what is no number."""
    new = Counters()
    new.count("crashes", "SIGSEGV")
    nonsense: tuple[object, ...] = (
        None,
        7,
        [],
        {"crashes": 7},
        {"crashes": {"SIGSEGV": "many"}},
        {"crashes": {"x": -1}},
    )
    for told in nonsense:
        with pytest.raises(Unfit):
            COUNTERS(told, "counts")
    new.inherit(COUNTERS({"wonders": {"all": 3}}, "counts"))
    assert new.facts() == {"wonders": {"all": 3}, "crashes": {"SIGSEGV": 1}}


def test_a_reload_that_never_began_took_no_time() -> None:
    """Refused reloads are counted, and nothing else of them."""
    counters = Counters()
    counters.count_reload({"verdict": "refused", "seconds": 0.1, "phases": {"waiting": 0.1}})
    assert counters.facts() == {"reloads": {"refused": 1}}


def test_a_crash_loop_is_said_once() -> None:
    """From the fourth crash in a row in one slot on, to the end of the last of the slots that crash."""
    said: list[str] = []
    loops = CrashLoops(EventLoop(), 1000.0, say=said.append)
    for slot in (0, 1):
        for crash in range(1, LOOP + 3):
            loops.crashed(slot, crash, f"crash {crash} of {slot}")
            loops.serves(slot)
    assert said == [f"crash {LOOP} of 0"]
    loops.cured(0)
    loops.cured(0)
    assert len(said) == 1
    loops.crashed(1, 1, "the first after a long life")
    assert said[1:] == [""]


def test_a_crash_loop_is_over_after_a_while() -> None:
    """When the worker has lived so long: the clock says so by itself."""
    loop = EventLoop()
    said: list[str] = []

    def say(why: str) -> None:
        said.append(why)
        if not why:
            loop.stop()

    loops = CrashLoops(loop, 0.01, say=say)
    loops.crashed(0, LOOP, "no disk")
    loops.serves(0)
    loop.run()
    assert said == ["no disk", ""]
