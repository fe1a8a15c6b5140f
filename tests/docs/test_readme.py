"""README.md says what is so."""

from __future__ import annotations

import re

import pytest

from tests.docs import readme
from tests.docs.documents import CLONE, comparable, number_of_sessions, put, with_sessions
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


def test_its_links_lead_somewhere() -> None:
    """Every file that is linked to is there."""
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    assert [target for target in targets if not (CLONE / target).exists()] == []


def test_it_can_be_read_in_one_go() -> None:
    """It stays within 360 lines of at most 120 characters, but for what commands print, such as `make bench`."""
    assert len(re.sub(r"<!-- bench -->.*<!-- /bench -->", "", TEXT, flags=re.DOTALL).splitlines()) <= 360
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")] == []
