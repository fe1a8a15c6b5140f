"""Finds code that root executes for a unit, and that another user may write.

Unlike the other rules of lint() this one reads the files of this machine.
"""

import glob
import re
from collections.abc import Iterator

from ..instances.code_of_root import CodePlace, Writable, of_class, of_command, of_program, written_by_others
from ..linux.root_environment import is_used, sources
from ..systemd.own_programs import PLACES
from . import words
from .finding import ERROR, WARNING, Finding
from .rules import expanded
from .subject import option, runs_us
from .text import UnitText

_EXECUTED = ("ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost")
_TARGET = re.compile(r"[\w./-]+:[A-Za-z_]\w*|\S+\.py")
_ROOT = ("", "root", "0")
_FIX_OF_VARIABLE = (
    "take it out of the unit, or let only root write there, or set User= in the unit and no user in the file"
)
FIX = "let only root write it, or run it as another user (User= in the unit, or user in the instance's file)"


def of_unit(unit: UnitText, user: str | None) -> Iterator[Finding]:
    """Findings about what the unit itself names; `user` is the user of its instance's file, if there is one."""
    for key in _EXECUTED:
        for value in unit.values(key):
            for command in words.commands(value):
                if _is_of_root(unit, key, command):
                    yield from _findings(key, _of_program(unit, command))
                    if key == "ExecStart" and runs_us(command):
                        yield from _findings(key, _of_service(unit, command, user))
    if starts_as_root(unit):
        files = (CodePlace("root's processes get their environment from it", path) for path in _environment_files(unit))
        yield from _findings("EnvironmentFile", files)
        yield from dict.fromkeys(_of_environment(unit, user))


def finding(key: str, writable: Writable) -> Finding:
    """The finding for a writable file."""
    return Finding(key, str(writable), FIX, WARNING)


def starts_as_root(unit: UnitText) -> bool:
    """Whether the supervisor of the unit starts as root."""
    return unit.value("User") in _ROOT and not unit.flag("DynamicUser")


def _is_of_root(unit: UnitText, key: str, command: words.Exec) -> bool:
    before_user = unit.flag("PermissionsStartOnly") and key != "ExecStart"
    return starts_as_root(unit) or bool(command.privileged) or before_user


def _of_program(unit: UnitText, command: words.Exec) -> Iterator[CodePlace]:
    return of_program(expanded(unit.name, command.words[0]), "/", PLACES, "root executes it")


def _of_service(unit: UnitText, command: words.Exec, user: str | None) -> Iterator[CodePlace]:
    """The code that `sdsupervise run` loads as root: root stays, or only the class names another user."""
    for path in option(command, "--config"):
        if not unit.name.startswith("sdsupervise@"):  # whose file is looked at as the instance's
            yield CodePlace("root follows it", expanded(unit.name, path))
    if (user or (option(command, "--user") or [""])[-1]) not in _ROOT:
        return
    place = (option(command, "--directory") or [unit.value("WorkingDirectory").lstrip("-!")])[-1]
    directory = expanded(unit.name, place) if place.startswith("/") else "/"
    if "--" in command.words:
        yield from of_command(command.words[command.words.index("--") + 1 :], directory, PLACES)
        return
    given = command.words[command.words.index("run") + 1 :]
    target = next(filter(_TARGET.fullmatch, given), "")
    if target:
        yield from of_class(target, directory, (option(command, "--python") or [""])[-1], PLACES)


def _of_environment(unit: UnitText, user: str | None) -> Iterator[Finding]:
    variables = {name: expanded(unit.name, value) for name, value in unit.environment.items()}
    for variable, path in sources(variables, expanded(unit.name, unit.value("WorkingDirectory", "/").lstrip("-!"))):
        place = CodePlace(f"root's processes execute code from there ({variable})", path, may_be_made=True)
        is_refused = (user or "") not in _ROOT and is_used(variable)  # by a start
        for found in written_by_others([place]):
            yield Finding("Environment", str(found), _FIX_OF_VARIABLE, ERROR if is_refused else WARNING)
    for path in variables.get("PATH", "").split(":"):
        if path.startswith("/") and path not in PLACES:
            place = CodePlace("root's processes look programs up there (PATH)", path, may_be_made=True)
            for found in written_by_others([place]):
                yield Finding("Environment", str(found), _FIX_OF_VARIABLE, WARNING)


def _environment_files(unit: UnitText) -> Iterator[str]:
    for value in unit.values("EnvironmentFile"):
        path = expanded(unit.name, value.removeprefix("-"))
        yield from glob.glob(path) if glob.has_magic(path) else [path]


def _findings(key: str, places: Iterator[CodePlace]) -> Iterator[Finding]:
    return (finding(key, writable) for writable in written_by_others(places))
