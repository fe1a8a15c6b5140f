"""The pictures of packaging/doc are as the code and the recorded reloads make them."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from sdsupervise.core.takeover import RULES, Event, Rule, State

PICTURES = Path(__file__).parents[2] / "packaging" / "doc" / "pictures"
sys.path.append(str(PICTURES))
import draw  # noqa: E402 (the line above finds them)
import folders  # noqa: E402
import statechart  # noqa: E402
import timeline  # noqa: E402
from svg import COLOURS, THEMES  # noqa: E402

from tests.unit.test_layers import APART, LAYERS  # noqa: E402

MADE = draw.made()


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_picture_is_current(name: str) -> None:
    """Each is as `make made` draws it."""
    assert (PICTURES / name).read_text() == MADE[name], f"{name} is old: run make made"


def test_there_is_no_other_picture() -> None:
    """Every file is one that is drawn."""
    assert {path.name for path in PICTURES.glob("*.svg")} == set(MADE)


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_picture_shows_everything(name: str) -> None:
    """It is well-formed, and no text begins or ends outside of it, as far as that is known without its font."""
    root = ElementTree.fromstring(MADE[name])
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        text, x, y = element.text or "", float(element.attrib["x"]), float(element.attrib["y"])
        room = float(element.attrib["font-size"]) * 0.56 * len(text)
        left = x - {"start": 0.0, "middle": room / 2, "end": room}[element.attrib["text-anchor"]]
        assert left > 0 and left + room < width and 0 < y < height, text


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read(theme: str) -> None:
    """Whatever is written in a colour has a contrast of 4.5 to what lies below it (WCAG 2, AA)."""
    number = THEMES.index(theme)
    below = {"text": ("page", "band", "old-soft", "new-soft", "back-soft", "line-soft"), "page": ("old", "new")}
    below |= {"faint": ("page", "band", "old-soft", "new-soft", "back-soft", "line-soft")}
    below |= {"old": ("band",), "new": ("band",), "back": ("page", "band")}
    for ink, papers in below.items():
        for paper in papers:
            lights = sorted((brightness(COLOURS[ink][number]), brightness(COLOURS[paper][number])))
            assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5, f"{ink} on {paper}"


def brightness(colour: str) -> float:
    """The relative luminance of #rrggbb."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_state_and_way_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A way that the table gains, or loses, is missed."""
    monkeypatch.setattr(statechart, "RULES", {**RULES, State.SERVING: {Event.NO_WORKER: Rule(State.GONE)}})
    with pytest.raises(statechart.Missing, match="no line from SERVING to GONE"):
        statechart.check()
    rules = {**RULES[State.SERVING], Event.CHECK_PASSED: Rule(State.STARTING_SUCCESSOR)}
    monkeypatch.setattr(statechart, "RULES", {**RULES, State.SERVING: rules})
    with pytest.raises(statechart.Missing, match="no words for CHECK_PASSED"):
        statechart.check()
    monkeypatch.setattr(statechart, "RULES", {**RULES, State.DRAINING: {}})
    with pytest.raises(statechart.Missing, match="a line from DRAINING to GONE, the table has none"):
        statechart.check()


def test_what_was_recorded_is_in_the_tables_words() -> None:
    """Each state that a recorded reload names is a state still; else record.py has to record it anew."""
    for reload in timeline.reloads():
        names = [name for name, _, _ in reload.phases]
        assert set(names) <= {state.name.lower() for state in State}, "run packaging/doc/pictures/record.py"
        assert ("yielding" in names) == (reload.handover == "exclusive")


def test_every_folder_is_drawn() -> None:
    """A new folder of the package is missed, and so is one that says nothing of itself."""
    there = {path.parent.name for path in folders.PACKAGE.glob("*/__init__.py")} - set(APART)
    assert there | {"errors"} == folders.RUNS_IN.keys() == {folder for layer in LAYERS for folder in layer}
    assert all(map(folders.question, folders.RUNS_IN))
