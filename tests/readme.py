"""What of README.md is made from elsewhere: `python -m tests.readme` writes it anew, test_readme.py holds it.

Tables and quoted files stand between `<!-- NAME -->` and `<!-- /NAME -->`. Sessions are run in a fresh machine, see
documents.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from sdsupervise.config import KINDS, Settings, in_words
from sdsupervise.errors import ExitStatus
from tests.documents import CLONE, put, with_sessions
from tests.ground.machine import Machine

README = CLONE / "README.md"
EXAMPLE = "units/example/counter.py"
UNIT = "units/example/counter.service"


def example() -> str:
    """The example, whole."""
    return f"```python\n{(CLONE / EXAMPLE).read_text()}```"


def unit() -> str:
    """The example's unit from [Service] to [Install], without its comments."""
    service = (CLONE / UNIT).read_text().partition("\n[Service]")[2].partition("\n\n[Install]")[0]
    settings = [line for line in service.splitlines() if line and not line.startswith("#")]
    return "\n".join(["```ini", "[Service]", *settings, "```"])


def settings_table() -> str:
    """Every setting with its default and meaning."""
    rows = [
        f"| `{name}` | {in_words(Settings._field_defaults[name])} | {kind.meaning} |" for name, kind in KINDS.items()
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def exit_status_table() -> str:
    """Every exit status with its meaning."""
    rows = [f"| {status.value} | {status.meaning} |" for status in ExitStatus]
    return "\n".join(["| status | meaning |", "|---|---|", *rows])


MADE: dict[str, Callable[[], str]] = {
    "example": example,
    "unit": unit,
    "exit-statuses": exit_status_table,
    "settings": settings_table,
}


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
