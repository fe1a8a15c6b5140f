"""An instance: what its file, NAME.toml, says of a service; see file_keys.py for what may stand there.

The file is read where somebody runs, checks or looks at an instance by its name, by this one function.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import places
from .config import KINDS
from .errors import ConfigError, UsageError
from .file_keys import FILE_KEYS

_SUFFIX = ".toml"
# systemd's for the instance of a unit, without what is escaped there, or means something to us; it becomes the name of
# a directory with a socket in it, whose address has 107 bytes.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)


class Instance(NamedTuple):
    """What a file says, checked."""

    name: str
    file: str
    values: Mapping[str, Any]  # of the keys that stand there, in the order of FILE_KEYS

    @property
    def listen(self) -> dict[str, object]:
        """What stands at `listen`, by name."""
        return dict(self.values.get("listen", {}))

    @property
    def settings(self) -> dict[str, object]:
        """Those that are settings, but for `listen`."""
        return {key: value for key, value in self.values.items() if key in KINDS and key != "listen"}


class BadFile(ConfigError):
    """A file that is wrong: the text is its first mistake, `mistakes` has all of them."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        more = f" ({len(mistakes)} mistakes in all; this is the first.)" if len(mistakes) > 1 else ""
        super().__init__(mistakes[0] + more)
        self.mistakes = tuple(mistakes)


def is_name(text: str) -> bool:
    """An instance can be called that."""
    return _NAME.fullmatch(text) is not None and not text.endswith((_SUFFIX, ".service"))


def name_of(file: str) -> str:
    """What the instance is called that a file describes.

    Raises UsageError for a file whose name is no instance's.
    """
    name = os.path.basename(file).removesuffix(_SUFFIX)
    if not is_name(name):
        raise UsageError(
            f"{file}: an instance cannot be called {name!r}; a name has letters, digits, '_', '.' and '-', "
            "at most 64, and begins with none of the last two."
        )
    return name


def read(file: str) -> Instance:
    """The instance that a file describes.

    Raises UsageError for a file whose name is no instance's, BadFile.
    """
    name = name_of(file)
    values = _parse(file)
    mistakes = []
    checked: dict[str, Any] = {}
    for key, value in values.items():
        kind = FILE_KEYS.get(key)
        if kind is None:
            mistakes.append(f"{file}: there is no key {key!r}.")
            continue
        try:
            checked[key] = value if key == "listen" and kind.check(value) else kind.check(value)
        except ConfigError as error:
            mistakes.append(f"{file}: {error}")
        except ValueError:
            mistakes.append(f"{file}: {key} is {value!r}; it must be {kind.wanted}.")
    if ("service" in values) == ("command" in values):
        mistakes.append(f"{file}: write either service or command.")
    if mistakes:
        raise BadFile(mistakes)
    if "directory" in checked:
        checked["directory"] = os.path.join(os.path.dirname(os.path.abspath(file)), checked["directory"])
    return Instance(name, file, {key: checked[key] for key in FILE_KEYS if key in checked})


def _parse(file: str) -> Mapping[str, object]:
    import tomllib

    try:
        with open(file, "rb") as content:
            return tomllib.load(content)
    except OSError as error:
        raise BadFile([f"Cannot read {file}: {error.strerror}."]) from error
    except ValueError as error:
        raise BadFile([f"{file}: {error}."]) from error


def places_of(name: str) -> str:
    """Where its file may stand, for people."""
    return " or ".join(os.path.join(directory, f"{name}{_SUFFIX}") for directory in places.config_directories())
