"""Every command that a document, a comment of a unit or a usage statement shows; test_shown_commands.py runs them.

In a block of a console each line behind a prompt is one, "# " of root or "$ " of anybody; beside blocks, whatever is
set as code and begins with a program's name. What stands in a session is run where that is written, see documents.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from unittest import mock

from sdsupervise.cli import commands
from tests.docs.documents import CLONE, PAGE_SESSION, SESSION

MARKDOWN = (
    *("README.md", "packaging/doc/guide.md", "packaging/README.md", "units/example/README.md"),
    *("packaging/doc/benchmarks.md", "packaging/doc/systemd.md", "packaging/doc/security.md"),
    "packaging/doc/recipes.md",
    "packaging/doc/coming-from.md",
)
_WITH_SESSIONS = MARKDOWN[:2]  # which are run where they stand
# What a command begins with; a word alone, such as `curl`, names the program.
PROGRAMS = (
    *("sdsupervise", "systemctl", "systemd-analyze", "systemd-run", "journalctl", "varlinkctl", "curl", "kill", "rm"),
    *("apt", "apt-get", "dnf", "rpm", "rpmbuild", "mock", "pip", "python", "python3", "make", "man", "ss", "ip"),
    *("fedora-review", "setenforce", "ausearch", "gunicorn", "hypercorn", "uvicorn", "celery", "haproxy", "dpkg"),
    *("sudo", "nohup", "timeout", "git", "docker", "cd", "cp", "sed", "./counter.py", "chmod"),
)
_BEGINS = rf"(?:{'|'.join(map(re.escape, PROGRAMS))}) "
_FENCED = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_LITERAL = re.compile(r"^(?:::|\.\. code-block::.*)\n\n((?:  .*\n|\n(?=  ))+)", re.MULTILINE)
_PROMPT = re.compile(r"^\s*[#$] (.*(?:\n\s*>.*)*)", re.MULTILINE)
_CODE = re.compile(r"``([^`]+)``|`([^`]+)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_QUOTED = re.compile(rf"'({_BEGINS}[^']+)'")


def all_of_them() -> Mapping[str, str]:
    """Each command, its blanks made one, and the first document that has it."""
    found: dict[str, str] = {}
    for name, text in texts():
        for command in shown(name, text):
            found.setdefault(command, name)
    return found


def texts() -> Iterator[tuple[str, str]]:
    """Every document's name and text."""
    for name in MARKDOWN:
        yield name, (CLONE / name).read_text()
    for page in sorted((CLONE / "packaging" / "man").glob("*.rst")):
        yield page.name, page.read_text()
    for unit in sorted((CLONE / "units").rglob("*")):
        if unit.is_file() and unit.suffix in (
            ".service",
            ".socket",
            ".target",
            ".conf",
            ".toml",
            ".cfg",
            ".catalog",
            ".py",
        ):
            yield f"units/{unit.relative_to(CLONE / 'units')}", unit.read_text()
    with mock.patch.dict(os.environ, {"COLUMNS": "1000"}):
        for parser in commands.parser().each():
            yield f"{parser.prog} --help", parser.format_help()


def shown(name: str, text: str) -> Iterator[str]:
    """The commands of one document, but for those of its sessions."""
    if name.endswith(".md"):
        text = SESSION.sub("", text) if name in _WITH_SESSIONS else text
        yield from _in_blocks(
            block for language, block in _FENCED.findall(text) if language in ("console", "sh", "bash", "")
        )
        yield from _in_prose(_CODE, _FENCED.sub("", text))
    elif name.endswith(".rst"):
        text = PAGE_SESSION.sub("", text)
        yield from _in_blocks(_LITERAL.findall(text))
        # An argument that is to be replaced is set in italics: **systemctl edit sdsupervise@**\ *NAME*
        prose = re.sub(
            r"\*\*\\ \*(\w+)\*(?:\\ \*\*)?", r"\1**", re.sub(r"^::\n\n(?:  .*\n|\n(?=  ))+", "", text, flags=re.M)
        )
        yield from _in_prose(_BOLD, prose.replace("****", ""))
        yield from _in_prose(_CODE, prose)
    elif name.endswith("--help"):
        yield from (clean(command) for command in _QUOTED.findall(text))
        yield from _in_prose(_CODE, text)
    else:
        comments = [line.lstrip("# ") if line.startswith("#") else "" for line in text.splitlines()]
        yield from _in_prose(_CODE, re.sub(r"\n(?!\n)", " ", "\n".join(comments)))
        if name.endswith(".py"):
            yield from map(clean, re.findall(r"^Ask it: +(.*)$", text, re.MULTILINE))
        indented = re.findall(rf"^#  +({_BEGINS}.*)$", text, re.MULTILINE)
        yield from map(clean, indented)
        if name.endswith(".catalog"):
            yield from map(clean, re.findall(rf"^ +({_BEGINS}.*)$", text, re.MULTILINE))


def _in_blocks(blocks: Iterator[str] | list[str]) -> Iterator[str]:
    for block in blocks:
        for command in _PROMPT.findall(block):
            yield clean(re.sub(r"\n\s*> ?", "\n", command).partition("  #")[0])


def _in_prose(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    for groups in pattern.findall(text):
        code = clean("".join(groups))
        if re.match(_BEGINS, code) and not re.match(r"\w+ = ", code):  # that is a setting
            yield code


def clean(command: str) -> str:
    """With one blank where a line may have been broken."""
    return " ".join(command.split())
