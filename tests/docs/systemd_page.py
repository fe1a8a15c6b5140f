"""What of packaging/doc/systemd.md is made from data in the tree: `python -m tests.docs.systemd_page` writes it.

The sources are tests/support/applies.py, each row of which a test holds, sdsupervise/unitfiles/handling.py, and the
results of the last `make matrix`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from sdsupervise.unitfiles.handling import HANDLED, Handling
from tests.docs.documents import CLONE, put
from tests.packages.matrix import results
from tests.support import applies

PAGE = CLONE / "packaging" / "doc" / "systemd.md"


def handled() -> str:
    """The table of what `unit wrap` does with the settings that do not simply stay."""
    rows = ["| settings | `unit wrap` | |", "|---|---|---|"]
    for handling, sections, names, what in HANDLED:
        if handling is not Handling.STAYS:
            where = "" if "Service" in sections else f" in [{sections[0]}]"
            rows.append(f"| {', '.join(f'`{name}=`' for name in names)}{where} | {handling} | {what} |")
    return "\n".join(rows)


MADE: Mapping[str, Callable[[], str]] = {
    "reload-applies": applies.table,
    "wrap-handles": handled,
    "matrix": lambda: results.table(results.kept()),
}


def main() -> int:
    """Write the page; 0."""
    text = PAGE.read_text()
    for name, make in MADE.items():
        text = put(text, name, make())
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
