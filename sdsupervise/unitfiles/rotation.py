"""Finds commands of logrotate that signal a service after a rotation.

They were written for the program as main process. Under a supervisor the main process is the supervisor, which passes
such signals on.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .text import UnitText, for_systemctl

_DIRECTORY = "/etc/logrotate.d"
_MOST_CHARACTERS = 65536  # read of one file
_SCRIPTS = frozenset({"prerotate", "postrotate", "firstaction", "lastaction", "preremove"})
_SIGNAL = re.compile(r"\bkill\b[^|;&]*?\s(?:-s\s*|--signal[\s=]|-)(?:SIG)?(HUP|USR1|USR2|WINCH)\b")


class Rotation(NamedTuple):
    """One line of a script in a logrotate configuration."""

    place: str  # FILE:LINE
    command: str


def read(directory: str = _DIRECTORY) -> list[Rotation]:
    """All lines of scripts in this directory, as far as the files are readable."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [rotation for name in names for rotation in _read_file(os.path.join(directory, name))]


def _read_file(path: str) -> Iterator[Rotation]:
    try:
        with open(path, errors="replace") as file:
            lines = file.read(_MOST_CHARACTERS).splitlines()
    except OSError:
        return
    inside = False
    for number, line in enumerate(map(str.strip, lines), 1):
        inside = (inside or line in _SCRIPTS) and line != "endscript"
        if inside and line not in _SCRIPTS and not line.startswith("#"):
            yield Rotation(f"{path}:{number}", line)


def about(unit: UnitText, rotations: Iterable[Rotation]) -> list[Rotation]:
    """The lines that name a unit or its pid file."""
    named = [unit.name.removesuffix(".service"), *unit.values("PIDFile")]
    pattern = re.compile("|".join(rf"(?<![\w.-]){re.escape(name)}(?![\w-])" for name in named))
    return [rotation for rotation in rotations if pattern.search(rotation.command)]


def signal_in(command: str) -> str:
    """The signal in a command, if it is one of those for log rotation, such as "USR1"; "" if there is none."""
    found = _SIGNAL.search(command)
    return found[1] if found else ""


def instead(unit: UnitText, signal: str) -> str:
    """The command that sends the signal to the program through its supervisor."""
    return f"systemctl kill --kill-whom=main --signal={signal} {for_systemctl(unit.name)}"
