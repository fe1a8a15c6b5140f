"""Every key that the file of an instance may have: what a command line says of a service beside its settings, and the
settings themselves.

It stands apart from settings/settings.py because a supervisor that runs by its command line alone needs none of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..settings.settings import KINDS, ONLY_FOR_COMMANDS, Command, Flag, Kind, Number, Settings, Size

__all__ = ["DEFAULTS", "EXAMPLES", "FILE_KEYS", "ONLY_FOR_CLASSES", "ONLY_FOR_COMMANDS", "unit"]


class Text(NamedTuple):
    """A text that is not empty: a path, or a name."""

    metavar: str
    meaning: str

    @property
    def wanted(self) -> str:
        """As Kind."""
        return "a text that is not empty"

    def check(self, value: Any) -> Any:  # noqa: ANN401 (as Kind)
        """As Kind."""
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(self.wanted)
        return value

    def read(self, text: str) -> Any:  # noqa: ANN401
        """As Kind."""
        return text


class Account(NamedTuple):
    """A user or a group: its name, or its number."""

    metavar: str
    meaning: str

    @property
    def wanted(self) -> str:
        """As Kind."""
        return "a name, or a number from 0 on"

    def check(self, value: Any) -> Any:  # noqa: ANN401
        """As Kind: always a text."""
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32:
            value = str(value)
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(self.wanted)
        return value

    def read(self, text: str) -> Any:  # noqa: ANN401
        """As Kind."""
        return text


class Words(NamedTuple):
    """A list of words."""

    meaning: str

    @property
    def wanted(self) -> str:
        """As Kind."""
        return "a list of words"

    @property
    def metavar(self) -> str:
        """As Kind."""
        return "WORDS"

    def check(self, value: Any) -> Any:  # noqa: ANN401
        """As Kind."""
        words = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not words or not all(isinstance(word, str) and "\0" not in word for word in value):
            raise ValueError(self.wanted)
        return tuple(value)

    def read(self, text: str) -> Any:  # noqa: ANN401
        """As Kind: split as a shell would."""
        import shlex

        return shlex.split(text)


_KEYS: Mapping[str, Kind] = {
    "service": Text(
        "TARGET", "the class to run: package.module:Class or path/to/file.py:Class, the path from directory"
    ),
    "command": Command(
        "the program to run instead of a class, and its arguments, in which {NAME} is the number of the descriptor at "
        "which it finds the listener of that name"
    ),
    "arguments": Words("the class's own options"),
    "directory": Text(
        "DIR", "where the service runs, from where this file stands; a symlink is followed anew by each reload"
    ),
    "python": Text("PATH", "the interpreter of the class's own virtual environment; needs nothing of ours"),
    "user": Account("USER", "user to run as; only root can change it"),
    "group": Account("GROUP", "group to run as; only root can change it"),
    "pid_file": Text("PATH", "the pid file; else NAME.pid in the directory where the instance runs"),
    "no_warn": Flag("say nothing"),
}
FILE_KEYS: Mapping[str, Kind] = {**_KEYS, **KINDS}

# None: there is no value until one is given.
DEFAULTS: Mapping[str, object] = {
    **{**dict.fromkeys(_KEYS), "arguments": (), "no_warn": False},
    **{**Settings._field_defaults, "listen": {}},  # as a file has it
}

# Of what has no default, or one that shows nothing.
EXAMPLES: Mapping[str, object] = {
    "service": "myapp.service:MyApp",
    "command": ["venv/bin/gunicorn", "--preload", "myapp.wsgi"],
    "arguments": ["--verbose"],
    "directory": "/srv/myapp/current",
    "python": "venv/bin/python",
    "user": "myapp",
    "group": "myapp",
    "pid_file": "/run/myapp.pid",
    "listen": {"http": "127.0.0.1:8000", "admin": {"address": "/run/myapp/admin.sock", "mode": "0660", "group": "adm"}},
    "before_commit": ["curl", "-fsS", "--local-port", "61000-61999", "http://127.0.0.1:8000/health"],
}

ONLY_FOR_CLASSES = frozenset({"arguments", "python"})


def unit(kind: Kind) -> str:
    """What a value is counted in: "seconds", "bytes", or nothing, ""."""
    if isinstance(kind, Size):
        return "bytes"
    return "seconds" if isinstance(kind, Number) and not kind.whole else ""
