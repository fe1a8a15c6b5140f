"""What of README.md is made from elsewhere: `python -m tests.docs.readme` writes it anew, test_readme.py holds it.

Tables and quoted files stand between `<!-- NAME -->` and `<!-- /NAME -->`. Sessions are run in a fresh machine, see
documents.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.docs.documents import CLONE, put, with_sessions
from tests.support.machine import Machine

README = CLONE / "README.md"
EXAMPLE = "units/example/counter.py"


def example() -> str:
    """The example, whole."""
    return f"```python\n{(CLONE / EXAMPLE).read_text()}```"


MADE: dict[str, Callable[[], str]] = {"example": example}


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
