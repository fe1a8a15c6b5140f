#!/usr/bin/env python3
"""Draw the pictures of packaging/doc anew: `make made`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE), str(HERE.parents[1] / "man")]

import folders  # noqa: E402 (the line above finds them)
import statechart  # noqa: E402
import timeline  # noqa: E402
from svg import THEMES  # noqa: E402

PICTURES: Mapping[str, Callable[[str], str]] = {
    "folders": folders.draw,
    "reload": timeline.draw,
    "states": statechart.draw,
}


def made() -> Mapping[str, str]:
    """Every picture, by the name of its file."""
    return {f"{name}-{theme}.svg": draw(theme) for name, draw in PICTURES.items() for theme in THEMES}


def main() -> int:
    """Write the pictures; 0."""
    for name, text in made().items():
        (HERE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
