"""The folders of the package in their layers: the rule from tests/unit/test_layers.py, each folder in its own words."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping
from pathlib import Path

from svg import Box, Picture

from tests.unit.test_layers import LAYERS

PACKAGE = Path(__file__).parents[3] / "sdsupervise"
_WIDTH, _TOP, _ROW, _GAP = 940, 96, 40, 7
_LEFT, _RIGHT = 20, 920

# Which process a folder is for.
SUPERVISOR, WORKER, COMMAND, ANY = (
    "the supervisor",
    "a worker",
    "a command, such as sdsupervise reload",
    "several of them",
)
_COLOURS: Mapping[str, tuple[str, str]] = {
    SUPERVISOR: ("old-soft", "old"),
    WORKER: ("new-soft", "new"),
    COMMAND: ("back-soft", "back"),
    ANY: ("line-soft", "line"),
}
RUNS_IN: Mapping[str, str] = {
    **dict.fromkeys(("supervisor", "handover", "hooks", "workers"), SUPERVISOR),
    **dict.fromkeys(("child",), WORKER),
    **dict.fromkeys(("cli", "checks", "imports", "unitfiles"), COMMAND),
    **dict.fromkeys(("errors", "core", "input", "linux", "settings", "systemd", "code", "sockets"), ANY),
    **dict.fromkeys(("control", "instances", "service"), ANY),
}


def question(folder: str) -> str:
    """What a folder says of itself: the docstring of its __init__, or of the module of that name."""
    path = PACKAGE / folder / "__init__.py"
    tree = ast.parse((path if path.exists() else PACKAGE / f"{folder}.py").read_text())
    return " ".join((ast.get_docstring(tree) or "").partition("\n\n")[0].split())


def draw(theme: str) -> str:
    """The picture, as SVG. Raises KeyError for a folder of which RUNS_IN says nothing."""
    height = _TOP + len(LAYERS) * (_ROW + _GAP) + 8
    picture = Picture(_WIDTH, height, "The folders of the package, in layers", theme)
    picture.text((_LEFT, 38), "The folders of sdsupervise/", size=18, bold=True)
    words = "Each imports only folders before it: those in the rows below. The colour says which process it is for:"
    picture.text((_LEFT, 60), words, colour="faint")
    x = float(_LEFT)
    for process, (fill, stroke) in _COLOURS.items():
        picture.box(Box(x, 71, 12, 12), fill=fill, stroke=stroke, radius=3)
        picture.text((x + 18, 81), process)
        x += 40 + 6 * len(process)
    for number, layer in enumerate(reversed(LAYERS)):
        width = (_RIGHT - _LEFT - _GAP * (len(layer) - 1)) / len(layer)
        for place, folder in enumerate(layer):
            box = Box(_LEFT + place * (width + _GAP), _TOP + number * (_ROW + _GAP), width, _ROW)
            _draw_folder(picture, folder, box)
    return str(picture)


def _draw_folder(picture: Picture, folder: str, box: Box) -> None:
    fill, stroke = _COLOURS[RUNS_IN[folder]]
    picture.box(box, fill=fill, stroke=stroke)
    _, middle = box.middle
    picture.text((box.x + 14, middle + 4.5), folder, size=13, bold=True, code=True)
    lines = textwrap.wrap(question(folder), int((box.width - 122) / 5.9))
    for number, line in enumerate(lines):
        picture.text((box.x + 112, middle + 4 + 13 * (number - (len(lines) - 1) / 2)), line)
