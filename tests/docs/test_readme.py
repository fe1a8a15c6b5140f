"""README.md is true."""

from __future__ import annotations

import re
import tomllib

import pytest

from sdsupervise.instances.keys import FILE_KEYS
from tests.docs import readme
from tests.docs.documents import comparable, number_of_sessions, put, with_sessions
from tests.support.machine import Machine

TEXT = readme.README.read_text()
WRITE_ANEW = "README.md is no longer true: look at what changed, then run `.venv/bin/python -m tests.docs.readme`."


@pytest.mark.parametrize("name", readme.MADE)
def test_what_is_made_from_elsewhere_is_up_to_date(name: str) -> None:
    """Tables and quoted files are those of the code; `python -m tests.docs.readme` writes them."""
    assert put(TEXT, name, readme.MADE[name]()) == TEXT, WRITE_ANEW


def test_its_sessions_go_as_they_are_shown(fresh_machine: Machine) -> None:
    """Each command of the marked console blocks prints what stands below it, but for times, pids and fingerprints."""
    assert number_of_sessions(TEXT) > 0
    ran = with_sessions(TEXT, fresh_machine)
    assert comparable(ran).splitlines() == comparable(TEXT).splitlines(), WRITE_ANEW


def test_its_settings_are_right() -> None:
    """Each block of settings has only keys that a file may have, with values that they take."""
    blocks = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for key, value in (pair for block in blocks for pair in tomllib.loads(block).items()):
        FILE_KEYS[key].check(value)


def test_it_can_be_read_in_one_go() -> None:
    """It has at most 150 lines, and none but those that commands print is longer than 120 characters."""
    assert len(TEXT.splitlines()) <= 150
    prose = re.sub(r"(?<=<!-- run -->\n)```.*?```", "", TEXT, flags=re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > 120] == []


def test_it_quotes_three_numbers_at_most() -> None:
    """The table is in packaging/doc/benchmarks.md; the numbers of this page are numbers of that table."""
    assert len(readme.QUOTED) <= 3
    others = re.sub(r"```.*?```", "", put(TEXT, "numbers", ""), flags=re.DOTALL)
    assert re.findall(r"\d[\d.]* (?:ms|µs|s|MB|%|requests)\b", others) == []
