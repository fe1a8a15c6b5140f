"""Reload each program again and again under load, and print what its clients saw."""

from __future__ import annotations

import argparse
import sys

from tests.load.client import Result
from tests.load.ground import MODES, PROGRAMS, reload_under_load, shown
from tests.support.machine import Machine

COLUMNS = ("program", "mode", "reloads", "requests", "failed", "retried", "longest pause", "p99.9", "p50")


WIDTHS = (11, 11, 8, 9, 7, 8, 14, 10, 10)


def row(program: str, reloads: int, result: Result) -> tuple[str, ...]:
    """What is told of it."""
    times = (result.longest_pause, result.p999, result.p50)
    counts = (reloads, result.requests, result.failed, result.retried)
    return (program, result.mode, *map(str, counts), *(f"{time:.1f} ms" for time in times))


def line(cells: tuple[str, ...]) -> str:
    """A line of a table in Markdown, which is also how a terminal shows it."""
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))} |"


def main() -> int:
    """Exit status 1 if any request failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--reloads", type=int, default=50, help="of each program in each mode (default 50)")
    parser.add_argument("--rate", type=float, default=500, help="requests per second (default 500)")
    parser.add_argument("--mode", choices=MODES, action="append", help="instead of both")
    parser.add_argument(
        "--only", choices=[program.name for program in PROGRAMS], action="append", help="instead of all programs"
    )
    parsed = parser.parse_args()
    failures = []
    print(line(COLUMNS), line(tuple("-" * width for width in WIDTHS)), sep="\n", flush=True)
    with Machine(shown=shown()) as machine:
        for program in PROGRAMS:
            for mode in parsed.mode or MODES:
                if parsed.only and program.name not in parsed.only:
                    continue
                result = reload_under_load(machine, program, mode, parsed.reloads, rate=parsed.rate)
                print(line(row(program.name, parsed.reloads, result)), flush=True)
                failures += [f"{program.name}, {mode}: {failure}" for failure in result.failures]
    print(*failures, sep="\n", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
