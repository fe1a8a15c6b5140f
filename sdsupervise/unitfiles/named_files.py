"""Finds files that the command of a unit needs, and that this machine does not have.

Unlike the rules of lint(), this one reads the files of this machine.
"""

from collections.abc import Iterator

from . import gunicorn_file, words
from .finding import Finding
from .rules import expanded
from .subject import option, runs_us
from .text import UnitText


def of_unit(unit: UnitText) -> Iterator[Finding]:
    """Findings about what a unit names for `sdsupervise run`."""
    for value in unit.values("ExecStart"):
        for start in filter(runs_us, words.commands(value)):
            if "--" in start.words:
                place = (option(start, "--directory") or [unit.value("WorkingDirectory", "/").lstrip("-!")])[-1]
                command = [expanded(unit.name, word) for word in start.words[start.words.index("--") + 1 :]]
                yield from gunicorn_file.missing(command, expanded(unit.name, place))
