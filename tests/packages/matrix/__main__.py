"""Try the installed package on each systemd, and print a table of the results, in Markdown.

python -m tests.packages.matrix [--row NAME] [--write] [SUITE ...]
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.docs import systemd_page
from tests.packages.matrix import results
from tests.packages.matrix.ground import Ground, packages
from tests.packages.matrix.results import Column
from tests.packages.matrix.rows import ROWS, Row
from tests.support.failures import journal_tail
from tests.support.machine import Machine

SUITES = {
    "bookworm": "Debian 12",
    "trixie": "Debian 13",
    "bookworm-backports": "Debian 12, backports",
    "sid": "Debian sid",
}


def tried(suite: str, rows: list[Row]) -> Column:
    """Try all rows on a fresh machine of this suite."""
    with Machine(suite, bare=True, shown=packages()) as machine:
        systemd = machine.systemd_version
        say(f"{suite}: systemd {systemd}")
        ground = Ground(machine)
        cells = {row.name: cell(ground, row) for row in rows}
    return Column(suite, f"systemd {systemd.partition('.')[0].partition('~')[0]} ({SUITES[suite]})", cells)


def cell(ground: Ground, row: Row) -> str:
    """Try one row, and return its cell of the table."""
    began = time.monotonic()
    try:
        told = row.run(ground)
    except Exception:
        traceback.print_exc()
        say(journal_tail(ground.machine))
        told = "**failed**"
    say(f"  {row.name}: {told or 'ok'} ({time.monotonic() - began:.1f} s)")
    return told or "ok"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Exit status 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.packages.matrix", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", choices=[*SUITES, []], default=["bookworm", "trixie"])
    parser.add_argument("--row", action="append", help="only this one, after the installation")
    parser.add_argument("--write", action="store_true", help="keep the results, and put them into systemd.md")
    parsed = parser.parse_args()
    rows = [row for row in ROWS if not parsed.row or row is ROWS[0] or row.name in parsed.row]
    columns = [tried(suite, rows) for suite in parsed.suites]
    print(results.table(columns))
    if parsed.write:
        results.keep(columns)
        systemd_page.main()
    return int(any("**failed**" in column.cells.values() for column in columns))


if __name__ == "__main__":
    sys.exit(main())
