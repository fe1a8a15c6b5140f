"""Measure everything and print the table; `make bench` runs this."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence

from . import ground, report, rows
from .effort import QUICK, Effort
from .measure import Row


def main() -> int:
    """Exit status 0 also where a goal is missed, for the machine may be busy: the table says so."""
    names = ", ".join(measure.__name__ for measure in rows.ALL)
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few samples each, to see that it works")
    parser.add_argument("--only", metavar="NAME", action="append", help=f"one of: {names}")
    parser.add_argument("--write", action="store_true", help=f"put the table into {report.PAGE.name}")
    parser.add_argument("--note", default="", help="a note on this run, for the line below the table")
    arguments = parser.parse_args()
    if arguments.write and (arguments.quick or arguments.only):
        parser.error("--write keeps a whole run: leave out --quick and --only")
    effort = QUICK if arguments.quick else Effort()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is measured is not left behind
    ground.adopt_orphans()
    load = os.getloadavg()[0]  # before we add to it
    try:
        measured = list(_measure(arguments.only, effort))
    except ground.BenchError as error:
        print(error, file=sys.stderr)
        return 69
    text = f"{report.table(measured)}\n\n{report.machine(load, arguments.note)}\n\n{report.NOTES}"
    print(text)
    if arguments.write and not report.write_page(text):
        print(f"{report.PAGE} has no {report.BEGIN} … {report.END} to put the table into.", file=sys.stderr)
        return 1
    return 0


def _measure(only: Sequence[str] | None, effort: Effort) -> Iterator[Row]:
    for measure in rows.ALL:
        if not only or measure.__name__ in only:
            print(f"measuring {measure.__name__} …", file=sys.stderr)
            yield from measure(effort)
            ground.reap_orphans()


if __name__ == "__main__":
    sys.exit(main())
