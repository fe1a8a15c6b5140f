"""The results of the last `make matrix`, which stand in results.json; packaging/doc/systemd.md shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.packages.matrix.rows import ROWS

KEPT = Path(__file__).with_name("results.json")


class Column(NamedTuple):
    """The results on one suite."""

    suite: str
    heading: str
    cells: dict[str, str]
    """By the name of the row; `**failed**` where a row failed."""


def kept() -> list[Column]:
    """The results in the tree."""
    return [Column(**column) for column in json.loads(KEPT.read_text())]


def keep(new: Sequence[Column]) -> None:
    """Write these results into the tree. A suite that is not among them keeps its results, and so does a row."""
    columns = {column.suite: column for column in kept()}
    for column in new:
        cells = {**columns.get(column.suite, column).cells, **column.cells}
        columns[column.suite] = column._replace(cells={row.name: cells[row.name] for row in ROWS if row.name in cells})
    text = json.dumps([column._asdict() for column in columns.values()], indent=2, ensure_ascii=False)
    KEPT.write_text(f"{text}\n")


def table(columns: Sequence[Column]) -> str:
    """The table in Markdown, padded so that a terminal shows it, too."""
    lines = [["", *(column.heading for column in columns)]]
    lines += [[name, *(column.cells[name] for column in columns)] for name in columns[0].cells]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns) + 1)]
    lines.insert(1, ["-" * width for width in widths])
    padded = ([text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
