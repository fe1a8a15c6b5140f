"""Sessions in documents: console blocks whose commands are run in a machine, and what they print is put below each.

In Markdown such a block stands behind `<!-- run -->`, in reStructuredText behind `.. run`. A command begins with "# "
and goes on in lines with "> ", as a shell shows them.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent, indent

from tests.support.machine import Machine

CLONE = Path(__file__).parents[2]

SESSION = re.compile(r"(?<=<!-- run -->\n```console\n)(.*?)(?=```\n)", re.DOTALL)
PAGE_SESSION = re.compile(r"(?<=\.\. run\n\n::\n\n)((?:  .*\n|\n(?=  ))+)")
STATUS_LINES = ("●", "Active:", "Process:", "Main PID:", "Status:")

# What differs from one run to the next.
VARIABLE = (
    (re.compile(r"\b0x[0-9a-f]+\b"), "ADDRESS"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "FINGERPRINT"),
    (re.compile(r"since \w+ \d.*"), "since WHEN"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "SECONDS"),
    (re.compile(r"\b\d+\.\d+\b"), "SECONDS"),
    (re.compile(r" +"), " "),
    (re.compile(r"(?<= MB) -(?= )"), " SECONDS"),  # no ping yet
    (re.compile(r"\b\d{2,}\b"), "PID"),
)


def put(text: str, name: str, content: str) -> str:
    """The text with this content between the marks of this name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"The text lacks {begin} … {end}.")
    return f"{before}{begin}\n{content}\n{end}{after}"


def with_sessions(text: str, machine: Machine) -> str:
    """The text with every session run anew, in its order, on a machine that has the product."""
    prepare(machine)
    text = SESSION.sub(lambda session: run_session(session[1], machine), text)
    return PAGE_SESSION.sub(lambda session: indent(run_session(dedent(session[1]), machine), "  "), text)


def prepare(machine: Machine) -> None:
    """Have a clone's units/ there, and the templates where the package has them."""
    for path in (CLONE / "units").rglob("*"):
        if path.is_file():
            machine.write(f"/root/clone/{path.relative_to(CLONE)}", path.read_text())
    for path in (CLONE / "units").glob("sdsupervise*"):
        machine.write(f"/usr/lib/systemd/system/{path.name}", path.read_text())
    machine.run("systemctl", "daemon-reload")


def number_of_sessions(text: str) -> int:
    """How many there are, by their marks; each must have a block behind it."""
    found = len(SESSION.findall(text)) + len(PAGE_SESSION.findall(text))
    assert found == len(re.findall(r"^(<!-- run -->|\.\. run)$", text, re.MULTILINE))
    return found


def run_session(session: str, machine: Machine) -> str:
    lines: list[str] = []
    for typed in commands(session):
        command = re.sub(r"^[#>] ?", "", typed, flags=re.MULTILINE)
        if "journalctl" in command:
            machine.run("journalctl", "--sync")  # what was written a moment ago
        done = machine.run("bash", "-c", f"cd /root/clone && {{ {command}\n}} 2>&1", check=False)
        output = done.stdout.splitlines()
        if command.startswith("systemctl status"):
            output = [line for line in output if line.strip().startswith(STATUS_LINES)]
        lines += [typed, *(line.rstrip() for line in output if line.strip())]
    return "\n".join(lines) + "\n"


def commands(session: str) -> list[str]:
    """As they are typed, prompts and all."""
    return re.findall(r"^# .*(?:\n>.*)*", session, re.MULTILINE)


def comparable(text: str) -> str:
    """The text without what differs from one run to the next."""
    for pattern, name in VARIABLE:
        text = pattern.sub(name, text)
    return text
