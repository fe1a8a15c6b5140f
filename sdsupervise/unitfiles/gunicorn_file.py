"""The configuration file with which gunicorn reports that it is ready when all its workers serve: gunicorn_ready.py.

gunicorn reads only the last file that is named, and this one loads the file before it.

Rejected: the copy of it in a wheel. Its path contains the version of Python, so gunicorn would not start any more after
an upgrade of Python.
"""

import os
from collections.abc import Iterator, Sequence

from ..input.printable import one_line
from ..linux.writers import who_else_may_write
from .finding import WARNING, Finding
from .launchers import launched
from .line import CommandLine

PLACE = "/usr/share/sdsupervise/gunicorn_ready.py"
"""Where the packages install it."""
_NAME = os.path.basename(PLACE)
_OPTION = ("-c", "--config")


def installed(path: str = PLACE) -> str:
    """The path of the file that a command may name; "" if it does not exist, or if not only root may write it."""
    return path if os.path.isfile(path) and not who_else_may_write(path) else ""


def named(line: CommandLine) -> list[str]:
    """The files of --config, as the command line has them."""
    return line.values(*_OPTION)


def ours(line: CommandLine) -> list[str]:
    """Those that name this file, or a copy of it."""
    return [location for location in named(line) if _is_ours(line, location)]


def yours(line: CommandLine) -> list[str]:
    """Those that name another file. This file loads the last of them."""
    return [location for location in named(line) if not _is_ours(line, location)]


def is_in_force(line: CommandLine) -> bool:
    """Whether gunicorn reads this file, or a copy of it."""
    return _is_ours(line, (named(line) or [""])[-1])


def _is_ours(line: CommandLine, location: str) -> bool:
    return os.path.basename((line.resolved(location) or "").removeprefix("file:")) == _NAME


def name_last(line: CommandLine, path: str) -> None:
    """Add the file behind all other options, also those that are not visible in a $VARIABLE."""
    place = line.arguments.index("--") if "--" in line.arguments else len(line.arguments)
    line.arguments[place:place] = ["--config", path]


def replace(line: CommandLine, location: str) -> None:
    """Let --config name another file, in place of all but this one."""
    last = ours(line)[-1:] if is_in_force(line) else []
    line.take(*_OPTION)
    line.arguments[:0] = ["--config", location]
    for path in last:
        name_last(line, path)


def in_vain(command: Sequence[str]) -> Iterator[Finding]:
    """The finding about a command that names the file, but not last."""
    line = _of_gunicorn(command)
    for location in ours(line)[-1:] if not is_in_force(line) else ():
        last = one_line(named(line)[-1], 200)
        yield Finding(
            "ExecStart",
            f"--config {last} follows --config {location}, and gunicorn reads only the last one: it reports that it is "
            "ready before it starts its workers",
            f"name {location} last; it loads {last}",
            WARNING,
        )


def missing(command: Sequence[str], directory: str) -> Iterator[Finding]:
    """The finding about a command for which this machine has no such file; a relative path is below `directory`."""
    line = _of_gunicorn(command)
    for location in ours(line)[-1:] if is_in_force(line) else ():
        path = os.path.join(directory, location.removeprefix("file:"))
        if path.startswith("/") and "%" not in path and "$" not in path and not os.path.exists(path):
            yield Finding(
                "ExecStart",
                f"{path} does not exist, and gunicorn does not start without it",
                "install it again, or take it out and add --preload",
            )


def _of_gunicorn(command: Sequence[str]) -> CommandLine:
    """The command line of gunicorn; an empty one for another program."""
    found = launched(command, lambda word: os.path.basename(word) == "gunicorn")
    return CommandLine(command, program=found.place) if found is not None else CommandLine(["gunicorn"])
