"""The list of what `unit wrap` does with each setting has all of systemd's settings, each once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sdsupervise.unitfiles.handling import HANDLED, Handling, handling_of
from tests.unit.test_wrap_directives import REFUSED

LISTED = Path(__file__).with_name("systemd_settings.txt")


def settings() -> list[tuple[str, str]]:
    """Each (section, setting) of the stored list."""
    found, section = [], ""
    for line in LISTED.read_text().splitlines()[1:]:
        if line.startswith("["):
            section = line.strip("[]")
        else:
            found += [(section, name) for name in line.split()]
    return found


def test_none_is_forgotten() -> None:
    """wrap() has an answer for each setting that systemd knows."""
    assert [each for each in settings() if handling_of(*each) is None] == []


def test_each_has_one_answer() -> None:
    """And for no setting two, nor for one that systemd does not know."""
    named = [(section, name) for _, sections, names, _ in HANDLED for section in sections for name in names]
    assert [name for name, times in Counter(named).items() if times > 1] == []
    assert {each for each in named if each[0] != "Install"} <= set(settings())
    assert all(what.endswith(".") for *_, what in HANDLED)


@pytest.mark.parametrize("lines", [lines for lines, _ in REFUSED])
def test_what_is_refused_is_no_setting_that_stays(lines: str) -> None:
    """The list agrees with what wrap() does."""
    assert handling_of("Service", lines.partition("=")[0]) is not Handling.STAYS
