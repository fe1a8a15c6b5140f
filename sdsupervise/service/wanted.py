"""Which service class `sdsupervise run` runs, and how."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

_TEXTS = ("pid_file", "user", "group")
_FLAGS = ("no_pid_file", "no_warn")


class WantedService(NamedTuple):
    """What the command line says about a service class; see cli/run.py, and other_python.py for --python."""

    target: str
    arguments: Sequence[str]
    attributes: Mapping[str, object]
    listen: Mapping[str, object]
    foreground: bool
    instance: str = ""  # its name, if it is named by its file


def own_options(said: Mapping[str, object]) -> list[str]:
    """The options for the class's own command line, from the command line of `sdsupervise run` or a file."""
    texts = {name: said.get(name) for name in _TEXTS}
    words = [f"--{name.replace('_', '-')}={text}" for name, text in texts.items() if text is not None]
    return words + [f"--{name.replace('_', '-')}" for name in _FLAGS if said.get(name)]
