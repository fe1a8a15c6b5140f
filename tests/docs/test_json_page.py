"""packaging/doc/json.md can be followed. That it is current and complete is in tests/unit/test_whole_changes.py."""

from __future__ import annotations

import re
from typing import get_args

from sdsupervise.cli.ask import Condition
from tests.docs import json_page
from tests.support.varlink_idl import Enum


def test_every_field_is_a_type_that_is_there() -> None:
    """What a table points to stands on the page."""
    text = json_page.PAGE.read_text()
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= headings


def test_every_reason_for_no_answer_is_there() -> None:
    """The page has each condition that the commands know."""
    assert json_page.PRINTED.types["NoState"] == Enum(get_args(Condition)[1:])


def test_a_wrong_line_is_seen() -> None:
    """A field too many, too few, or of another type is a complaint."""
    (version,) = (output for output in json_page.outputs() if output.name == "Version")
    good = {"version": "1", "package": "/", "python": "3"}
    assert json_page.complaints(version, good) == []
    for wrong in ({**good, "more": 1}, {"version": "1", "package": "/"}, {**good, "python": 3}):
        assert len(json_page.complaints(version, wrong)) == 1
