"""Every key that the file of an instance may have: the settings, and what else a command line says about a service.

This is apart from settings/settings.py, because a supervisor that has only a command line needs none of it.
"""

from collections.abc import Mapping

from ..settings import kinds
from ..settings.kinds import Kind
from ..settings.settings import KINDS, ONLY_FOR_COMMANDS, Settings

__all__ = ["DEFAULTS", "EXAMPLES", "FILE_KEYS", "ONLY_FOR_CLASSES", "ONLY_FOR_COMMANDS"]

_KEYS: Mapping[str, Kind] = {
    "service": kinds.text(
        *(
            "TARGET",
            "the class to run: package.module:Class, or path/to/file.py:Class with the path relative to directory",
        ),
        example="myapp.service:MyApp",
    ),
    "command": kinds.command(
        "the program to run instead of a class, and its arguments; {NAME} in them stands for the descriptor number "
        "of the listener with that name",
        example=["venv/bin/gunicorn", "--preload", "myapp.wsgi"],
    ),
    "arguments": kinds.words("the options of the class itself", only_for="class", example=["--verbose"]),
    "directory": kinds.text(
        *(
            "DIR",
            "the directory where the service runs, relative to that of this file; each reload follows a symlink again",
        ),
        example="/srv/myapp/current",
    ),
    "python": kinds.text(
        *("PATH", "the interpreter of the virtual environment of the class, which need not contain sdsupervise"),
        only_for="class",
        example="venv/bin/python",
    ),
    "user": kinds.account("USER", "user to run as; only root can change it", example="myapp"),
    "group": kinds.account("GROUP", "group to run as; only root can change it", example="myapp"),
    "pid_file": kinds.text(
        *("PATH", "the pid file; default: NAME.pid in the runtime directory of the instance"),
        example="/run/myapp.pid",
    ),
    "no_warn": kinds.flag("print no warnings"),
}
FILE_KEYS: Mapping[str, Kind] = {**_KEYS, **KINDS}
ONLY_FOR_CLASSES = frozenset(key for key, kind in FILE_KEYS.items() if kind.only_for == "class")

# None: the key has no default.
DEFAULTS: Mapping[str, object] = {
    **{**dict.fromkeys(_KEYS), "arguments": (), "no_warn": False},
    **{**Settings._field_defaults, "listen": {}},  # as a file has it
}

# An example for each key that has no default, or whose default is no good example.
EXAMPLES: Mapping[str, object] = {key: kind.example for key, kind in FILE_KEYS.items() if kind.example is not None}
