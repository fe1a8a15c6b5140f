"""What is looked at in a unit that runs sdsupervise, and how what is found is told."""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ..errors import ConfigError
from ..settings.settings import KINDS, Settings, check_settings
from . import words
from .rotation import Rotation
from .text import UnitText

ERROR, WARNING = "error", "warning"


class Finding(NamedTuple):
    """One thing that is wrong with a unit."""

    key: str  # the setting, without "="
    problem: str  # what goes wrong because of it; a clause without a full stop
    fix: str  # what to write, or to do; a clause without a full stop
    severity: str = ERROR

    def __str__(self) -> str:
        return f"{self.severity}: {self.problem}; {self.fix}"


class Host(NamedTuple):
    """What lint() may know of the systemd that is to run the unit."""

    version: int = 0  # 252; 0 = unknown
    known: frozenset[tuple[str, str]] = frozenset()  # (section, key) that it reads; none = unknown
    runtime_directories: Mapping[str, Sequence[str]] = MappingProxyType({})  # below /run, of each unit it has
    rotations: Sequence[Rotation] = ()  # what logrotate runs


class Subject(NamedTuple):
    """What every rule looks at."""

    unit: UnitText
    start: words.Exec
    settings: Settings | None  # None = not known, as those of a class are
    host: Host
    user: str = ""  # whom the service is to become; "" = nobody else


def runs_us(command: words.Exec) -> bool:
    """It is `sdsupervise run`, or `python -m sdsupervise run`."""
    return _is_ours(command, "run")


def reloads_by_us(command: words.Exec) -> bool:
    """It is `sdsupervise reload`, in one of these ways."""
    return _is_ours(command, "reload")


def _is_ours(command: words.Exec, verb: str) -> bool:
    given = command.words
    for place, word in enumerate(given[:-1]):
        if os.path.basename(word) == "sdsupervise" and given[place + 1] == verb:
            return True
    return False


def reloads(unit: UnitText) -> list[words.Exec]:
    """What a unit does to be reloaded."""
    return [command for value in unit.values("ExecReload") for command in words.commands(value)]


def option(command: words.Exec, name: str) -> list[str]:
    """The values that an option of `sdsupervise run` has on a command line."""
    found = []
    given = command.words[: command.words.index("--")] if "--" in command.words else command.words
    for place, word in enumerate(given):
        if word == name and place + 1 < len(given):
            found.append(given[place + 1])
        elif word.startswith(f"{name}="):
            found.append(word.partition("=")[2])
    return found


def settings_in(command: words.Exec) -> Settings | None:
    """What options say of a command's settings; of a class we know nothing."""
    if "--" not in command.words:
        return None
    values: dict[str, object] = {}
    names = ["stop_timeout", "start_timeout", "reload_timeout", "takeover_timeout"]
    if "overlap" in option(command, "--handover"):
        names.append("before_commit")  # by which it has two sockets of an address
    for name in names:
        for text in option(command, f"--{name.replace('_', '-')}"):
            try:
                values[name] = KINDS[name].read(text)
            except ValueError:
                return None  # a specifier, or a mistake that `run` will tell
    listen: dict[str, object] = {}
    for text in option(command, "--listen"):
        listen |= KINDS["listen"].read(text)
    try:
        return check_settings("ExecStart", {**values, "listen": listen, "handover": "overlap"})
    except ConfigError:
        return None
