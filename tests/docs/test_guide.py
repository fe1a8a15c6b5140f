"""The guide says what is so; it is here for the machine with other people's programs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.docs import guide
from tests.docs.documents import comparable, number_of_sessions, put, with_sessions
from tests.support.machine import Machine

TEXT = guide.GUIDE.read_text()
WRITE_ANEW = "The guide is no longer true: look at what changed, then run `.venv/bin/python -m tests.docs.guide`."


@pytest.fixture
def machine_of_an_operator() -> Iterator[Machine]:
    """Where its commands are run."""
    with guide.machine_of_an_operator() as machine:
        yield machine


@pytest.mark.parametrize("name", guide.MADE)
def test_what_is_made_from_elsewhere_is_up_to_date(name: str) -> None:
    """The diagrams and the walk are those of the takeover table."""
    assert put(TEXT, name, guide.MADE[name]()) == TEXT, WRITE_ANEW


def test_its_sessions_go_as_they_are_shown(machine_of_an_operator: Machine) -> None:
    """Each command prints what stands below it, but for times, pids and fingerprints."""
    assert number_of_sessions(TEXT) > 0
    ran = with_sessions(TEXT, machine_of_an_operator)
    assert comparable(ran).splitlines() == comparable(TEXT).splitlines(), WRITE_ANEW


def test_whatever_goes_wrong_is_shown() -> None:
    """Each symptom of the table stands in what a command of the guide prints."""
    rows = re.findall(r"^\| `(.+?)` \|", TEXT, re.MULTILINE)
    lines = [line for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    printed = "\n".join(line for line in lines if not line.startswith(("#", ">")))
    assert len(rows) >= 10
    assert [symptom for symptom in rows if symptom not in printed] == []
