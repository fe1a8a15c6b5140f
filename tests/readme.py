"""What of README.md is made from elsewhere: `python -m tests.readme` writes it anew, test_readme.py holds it.

Tables and quoted files stand between `<!-- NAME -->` and `<!-- /NAME -->`. A console block behind `<!-- run -->` is a
session: its commands are run in a fresh machine, one after the other, and what they print is put below each.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from sdsupervise.config import KINDS, Settings, in_words
from sdsupervise.errors import ExitStatus
from tests.ground.machine import Machine

CLONE = Path(__file__).parents[1]
README = CLONE / "README.md"
EXAMPLE = "units/example/counter.py"
UNIT = "units/example/counter.service"

SESSION = re.compile(r"(?<=<!-- run -->\n```console\n)(.*?)(?=```\n)", re.DOTALL)
STATUS_LINES = ("●", "Active:", "Process:", "Main PID:", "Status:")

# What differs from one run to the next.
VARIABLE = (
    (re.compile(r"\b[0-9a-f]{16}\b"), "FINGERPRINT"),
    (re.compile(r"since \w+ \d.*"), "since WHEN"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "SECONDS"),
    (re.compile(r"\b\d+\.\d+\b"), "SECONDS"),
    (re.compile(r" +"), " "),
    (re.compile(r"(?<= MB) -(?= )"), " SECONDS"),  # no ping yet
    (re.compile(r"\b\d{2,}\b"), "PID"),
)


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
    """Every exit status, with what it means."""
    rows = [f"| {status.value} | {status.meaning} |" for status in ExitStatus]
    return "\n".join(["| status | meaning |", "|---|---|", *rows])


MADE: dict[str, Callable[[], str]] = {
    "example": example,
    "unit": unit,
    "exit-statuses": exit_status_table,
    "settings": settings_table,
}


def put(text: str, name: str, content: str) -> str:
    """The text with this content between the marks of this name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"README.md lacks {begin} … {end}.")
    return f"{before}{begin}\n{content}\n{end}{after}"


def with_tables(text: str) -> str:
    """README.md as its parts made from elsewhere make it; sessions as they are."""
    for name, make in MADE.items():
        text = put(text, name, make())
    return text


def with_sessions(text: str, machine: Machine) -> str:
    """README.md with every session run anew, in the order of the text, on a machine that has the product."""
    for path in (EXAMPLE, UNIT):
        machine.write(f"/root/clone/{path}", (CLONE / path).read_text())
    return SESSION.sub(lambda session: run_session(session[1], machine), text)


def run_session(session: str, machine: Machine) -> str:
    lines: list[str] = []
    for prompt_line in commands(session):
        command = prompt_line.removeprefix("# ")
        done = machine.run("bash", "-c", f"cd /root/clone && {{ {command}\n}} 2>&1", check=False)
        output = done.stdout.splitlines()
        if command.startswith("systemctl status"):
            output = [line for line in output if line.strip().startswith(STATUS_LINES)]
        lines += [prompt_line, *(line.rstrip() for line in output if line.strip())]
    return "\n".join(lines) + "\n"


def commands(session: str) -> list[str]:
    return [line for line in session.splitlines() if line.startswith("# ")]


def comparable(text: str) -> str:
    """The text without what differs from one run to the next."""
    for pattern, name in VARIABLE:
        text = pattern.sub(name, text)
    return text


def main() -> int:
    """Write README.md anew; 0."""
    with Machine() as machine:
        README.write_text(with_sessions(with_tables(README.read_text()), machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
