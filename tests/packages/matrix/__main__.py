"""Try the installed package on each systemd, and print a table of how it went, in Markdown.

python -m tests.packages.matrix [--row NAME] [SUITE ...]
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

from tests.packages.matrix.ground import Ground, packages
from tests.packages.matrix.rows import ROWS, Row
from tests.support.failures import journal_tail
from tests.support.machine import Machine

README = Path(__file__).parents[3] / "README.md"
BLOCK = re.compile(r"(?<=<!-- matrix -->\n).*(?=<!-- /matrix -->)", re.DOTALL)

SUITES = {
    "bookworm": "Debian 12",
    "trixie": "Debian 13",
    "bookworm-backports": "Debian 12, backports",
    "sid": "Debian sid",
}


class Column(NamedTuple):
    """How it went on one suite: a cell for each row."""

    heading: str
    cells: list[str]


def tried(suite: str, rows: list[Row]) -> Column:
    """Try all rows on a fresh machine of this suite."""
    with Machine(suite, bare=True, shown=packages()) as machine:
        systemd = machine.systemd_version
        say(f"{suite}: systemd {systemd}")
        ground = Ground(machine)
        cells = [cell(ground, row) for row in rows]
    return Column(f"systemd {systemd.partition('.')[0].partition('~')[0]} ({SUITES[suite]})", cells)


def cell(ground: Ground, row: Row) -> str:
    """Try one row; what the table says of it."""
    began = time.monotonic()
    try:
        told = row.run(ground)
    except Exception:
        traceback.print_exc()
        say(journal_tail(ground.machine))
        told = "**failed**"
    say(f"  {row.name}: {told or 'ok'} ({time.monotonic() - began:.1f} s)")
    return told or "ok"


def table(columns: list[Column], rows: list[Row]) -> str:
    """A table in Markdown, which is also how a terminal shows it."""
    lines = [["", *(column.heading for column in columns)]]
    lines += [[row.name, *(column.cells[number] for column in columns)] for number, row in enumerate(rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns) + 1)]
    lines.insert(1, ["-" * width for width in widths])
    padded = ([text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Exit status 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.packages.matrix", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", choices=[*SUITES, []], default=["bookworm", "trixie"])
    parser.add_argument("--row", action="append", help="only this one, after the installation")
    parser.add_argument("--write", action="store_true", help="put the table into README.md, too")
    parsed = parser.parse_args()
    rows = [row for row in ROWS if not parsed.row or row is ROWS[0] or row.name in parsed.row]
    columns = [tried(suite, rows) for suite in parsed.suites]
    made = table(columns, rows)
    print(made)
    if parsed.write:
        README.write_text(BLOCK.sub(lambda _: f"{made}\n", README.read_text()))
    return int(any("**failed**" in column.cells for column in columns))


if __name__ == "__main__":
    sys.exit(main())
