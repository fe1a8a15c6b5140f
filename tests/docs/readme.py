"""What of README.md is made from other files: `python -m tests.docs.readme` writes it, test_readme.py holds it.

Quoted files and numbers stand between `<!-- NAME -->` and `<!-- /NAME -->`. Sessions are run in a fresh machine, see
documents.py.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable

from tests.bench import report
from tests.docs.documents import CLONE, put, with_sessions
from tests.support.machine import Machine

README = CLONE / "README.md"
QUOTED = (
    "Requests failed in 5 reloads at 500/s: a class",
    "Reload asked, to the new code's first answer: a class",
    "Resident memory of a supervisor",
)
EXAMPLE = "units/example/poller.py"


def example() -> str:
    """The example from its imports to the end of its class."""
    text = (CLONE / EXAMPLE).read_text()
    return f"```python\n{text[text.index('from ') : text.index('if __name__')].strip()}\n```"


def numbers() -> str:
    """Three numbers of the benchmark's table: our median of a row."""
    failed, answer, memory = map(median, QUOTED)
    text = (
        f"In the [benchmarks](packaging/doc/benchmarks.md), five reloads under load lose {failed}. The new code gives "
        f"its first answer {answer} after the call for a reload. A supervisor uses {memory} of memory."
    )
    return textwrap.fill(text, 120)


def median(what: str) -> str:
    """Our median in the first row of this name, with its unit."""
    row = next(line for line in report.PAGE.read_text().splitlines() if line.startswith(f"| {what} "))
    return row.split("|")[2].partition("(")[0].strip()


MADE: dict[str, Callable[[], str]] = {"example": example, "numbers": numbers}


def with_tables(text: str) -> str:
    """README.md as its parts made from elsewhere make it; sessions as they are."""
    for name, make in MADE.items():
        text = put(text, name, make())
    return text


def main() -> int:
    """Write README.md anew; 0."""
    with Machine() as machine:
        README.write_text(with_sessions(with_tables(README.read_text()), machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
