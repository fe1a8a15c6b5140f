"""What lint() checks, and the form of its findings."""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ..errors import ConfigError
from ..settings.settings import KINDS, Settings, check_settings
from . import words
from .paths import SYSTEM, OwnFiles
from .rotation import Rotation
from .text import UnitText


class Host(NamedTuple):
    """What lint() may know about the machine that runs the unit."""

    version: int = 0  # of systemd, such as 252; 0 is unknown
    known: frozenset[tuple[str, str]] = frozenset()  # (section, key) that systemd reads; empty is unknown
    runtime_directories: Mapping[str, Sequence[str]] = MappingProxyType({})  # by unit, below /run
    rotations: Sequence[Rotation] = ()  # what logrotate runs after a rotation
    own: OwnFiles = SYSTEM


class Subject(NamedTuple):
    """What every rule gets."""

    unit: UnitText
    start: words.Exec
    settings: Settings | None  # None if unknown, as for a class
    host: Host
    user: str = ""  # the user that the service becomes; "" if it does not change


def runs_us(command: words.Exec) -> bool:
    """Whether the command is `sdsupervise run` or `python -m sdsupervise run`."""
    return _is_ours(command, "run")


def reloads_by_us(command: words.Exec) -> bool:
    """Whether the command is `sdsupervise reload` or `python -m sdsupervise reload`."""
    return _is_ours(command, "reload")


def _is_ours(command: words.Exec, verb: str) -> bool:
    given = command.words
    for place, word in enumerate(given[:-1]):
        if os.path.basename(word) == "sdsupervise" and given[place + 1] == verb:
            return True
    return False


def reloads(unit: UnitText) -> list[words.Exec]:
    """The commands of ExecReload=."""
    return [command for value in unit.values("ExecReload") for command in words.commands(value)]


def option(command: words.Exec, name: str) -> list[str]:
    """The values of an option of `sdsupervise run` in a command line."""
    found = []
    given = command.words[: command.words.index("--")] if "--" in command.words else command.words
    for place, word in enumerate(given):
        if word == name and place + 1 < len(given):
            found.append(given[place + 1])
        elif word.startswith(f"{name}="):
            found.append(word.partition("=")[2])
    return found


def settings_in(command: words.Exec) -> Settings | None:
    """The settings from the options of a command; None for a class, or if they are invalid."""
    if "--" not in command.words:
        return None
    values: dict[str, object] = {}
    names = ["stop_timeout", "start_timeout", "reload_timeout", "takeover_timeout", "restart", "restart_prevent"]
    if "overlap" in option(command, "--handover"):
        names.append("before_commit")  # it adds a second socket for each address
    for name in names:
        for text in option(command, f"--{name.replace('_', '-')}"):
            try:
                values[name] = KINDS[name].read(text)
            except ValueError:
                return None  # a specifier, or an error that `run` reports
    listen: dict[str, object] = {}
    for text in option(command, "--listen"):
        listen |= KINDS["listen"].read(text)
    try:
        return check_settings("ExecStart", {**values, "listen": listen, "handover": "overlap"})
    except ConfigError:
        return None
