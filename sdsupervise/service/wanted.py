"""Which service class `sdsupervise run` is to run, and how."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

_TEXTS = ("pid_file", "user", "group")
_FLAGS = ("no_pid_file", "no_warn")


class WantedService(NamedTuple):
    """What the command line says of a service class; see cli/run.py, and other_python.py if it has its own Python."""

    target: str
    arguments: Sequence[str]
    attributes: Mapping[str, object]
    listen: Mapping[str, object]
    foreground: bool
    instance: str = ""  # what it is called, where it is called by its file


def own_options(said: Mapping[str, object]) -> list[str]:
    """What a command line, or a file, says of a class that the options of the class itself are for."""
    texts = {name: said.get(name) for name in _TEXTS}
    words = [f"--{name.replace('_', '-')}={text}" for name, text in texts.items() if text is not None]
    return words + [f"--{name.replace('_', '-')}" for name in _FLAGS if said.get(name)]
