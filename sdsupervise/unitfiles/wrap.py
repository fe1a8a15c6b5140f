"""The drop-in that puts an existing unit under sdsupervise. Settings that it does not name stay as they are."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from ..errors import CannotWrap
from ..input.checked import MOST_COUNT, decimal
from ..linux.program_search import search
from ..settings import background_programs
from . import apparmor, lifecycle, programs, words
from .changes import changes
from .drop_in import DropIn, checksums
from .launchers import name_of
from .line import CommandLine
from .own_reload import kept_signal, notes_of_reload, notes_of_rotation
from .paths import ROOTS, SYSTEM, OwnFiles, is_shown
from .rotation import Rotation
from .sandbox import NOT_FOR_US, needs, not_for_us
from .subject import runs_us
from .text import UnitText
from .versions import PATH

_NONE: Mapping[str, str] = MappingProxyType({})
_MACHINES_OWN = ("systemd-", "dbus")
_MACHINES_PROGRAMS = ("/lib/systemd/", "/usr/lib/systemd/")
_PLACE_HOLDER = re.compile(r"(?<!\$)(\{[\w.-]+\})")  # of `sdsupervise run`


def wrap(
    unit: UnitText,
    *,
    program: str = "/usr/bin/sdsupervise",
    given: Sequence[str] = (),
    listen: Sequence[str] = (),
    handover: str = "",
    variables: Mapping[str, str] | None = _NONE,
    rotations: Sequence[Rotation] = (),
    own: OwnFiles = SYSTEM,
) -> DropIn:
    """The drop-in that puts a unit under sdsupervise.

    `program` is the path of sdsupervise. `given` names the .socket units of the service. `variables` are those of
    EnvironmentFile=; None if they cannot be read. `listen` and `handover` come from the user, and take precedence.
    `own` are the files of sdsupervise.

    Raises CannotWrap, with one sentence, if that cannot work.
    """
    start = _as_systemd_finds_it(unit, _start_of(unit), variables)
    room = [*_room_of(unit, start, variables or _NONE, own)]
    gunicorn_file = own.gunicorn_file if is_shown(unit, own.gunicorn_file) else ""
    line = _line(unit, start, given, listen, variables, gunicorn_file)
    programs.adapt(line)
    if "ready-after" not in line.options:
        apparmor.check(unit.name, line.words)
    if handover:
        line.options["handover"] = handover
    else:
        line.own_signal = kept_signal(unit, line)
    _kill_as_systemd_did(unit, line)
    found = [*changes(unit, start, line), *room, *_commands_beside(unit, line)]
    settings = [setting for setting, _ in found if setting]
    rotated = notes_of_rotation(unit, line, rotations)
    notes = [*line.notes, *(note for _, note in found if note), *rotated, "the switch needs one last restart"]
    lines = (*settings, *_exec_lines(start, line, program))
    return DropIn(unit.name, lines, tuple(notes), made_from=checksums(unit))


def _start_of(unit: UnitText) -> words.Exec:
    """The single command of a unit that a supervisor can run.

    Raises CannotWrap for any other unit.
    """
    name, kind = unit.name, unit.value("Type", "simple")
    starts = [command for value in unit.values("ExecStart") for command in words.commands(value)]
    if any(map(runs_us, starts)):
        raise CannotWrap(f"{name} is under sdsupervise already; sdsupervise unit lint {shlex.quote(name)} checks it.")
    if kind == "oneshot":
        raise CannotWrap(f"{name} is of Type=oneshot: it does its work and ends, so there is nothing to supervise.")
    if kind == "dbus" or unit.value("BusName"):
        raise CannotWrap(f"{name} has a name on D-Bus, which two generations cannot have at once.")
    if not starts:
        raise CannotWrap(f"{name} has no ExecStart=, so there is nothing to supervise.")
    if len(starts) != 1:
        raise CannotWrap(f"{name} has {len(starts)} commands in ExecStart=, but a supervisor runs one.")
    start = starts[0]
    early = not unit.flag("DefaultDependencies", default=True, section="Unit")
    if early or name.startswith(_MACHINES_OWN) or start.words[0].startswith(_MACHINES_PROGRAMS):
        raise CannotWrap(f"{name} is a part of the machine itself, which other services need in order to start.")
    place = programs.find_program(start.words)
    programs.check(start.words)
    if kind == "forking" and not programs.knows(start.words[place]):
        raise CannotWrap(
            f"{name} is of Type=forking. It can be wrapped with Type=simple, if its program stays in the foreground"
            f"{background_programs.in_foreground(start.words[place])}."
        )
    for key in ROOTS:
        if unit.value(key):
            raise CannotWrap(f"{name} has {key}=, and sdsupervise does not exist there.")
    lifecycle.check(unit, name_of(start.words), start.prefixes)
    if "|" in start.prefixes:
        raise CannotWrap(f'{name} has a "|" before its command, which a shell splits; let it be /bin/sh -c and a text.')
    _check_files(unit)
    return start


def _as_systemd_finds_it(unit: UnitText, start: words.Exec, variables: Mapping[str, str] | None) -> words.Exec:
    """The command with the path of its program, where the two would look it up in different places.

    systemd does not look a program up in the PATH of the unit's environment; a supervisor does. Raises CannotWrap.
    """
    name = start.words[0]
    sets_path = "PATH" in {**unit.environment, **(variables or {})} or "PATH" in unit.words("PassEnvironment")
    if "/" in name or not (sets_path or variables is None):
        return start
    places = unit.words("ExecSearchPath") or [PATH]
    path, may = search(name, [place for word in places for place in word.split(":")])
    if may:
        return start._replace(words=(path, *start.words[1:]))
    if not sets_path:
        return start
    raise CannotWrap(
        f"{unit.name} has ExecStart={name}, which systemd looks up in {':'.join(places)}, and not in the PATH of the "
        f"unit; it is not there. Write the path of {name}."
    )


def _check_files(unit: UnitText) -> None:
    """Raise CannotWrap if the unit gives its process files that a supervisor does not pass on."""
    name = unit.name
    given = any(unit.values(key) for key in ("StandardInputText", "StandardInputData"))
    if given or unit.value("StandardInput", "null") != "null":
        raise CannotWrap(f"{name} reads its standard input (StandardInput=), but a supervised program has none.")
    for key in ("StandardOutput", "StandardError"):
        if unit.value(key).partition(":")[0] in ("socket", "fd"):
            raise CannotWrap(f"{name} has {key}={unit.value(key)}, which systemd does not give to a reload.")
    for key in ("OpenFile", "USBFunctionDescriptors", "USBFunctionStrings"):
        if unit.values(key):
            raise CannotWrap(f"{name} has {key}=, and systemd gives these files to a start, but not to a reload.")
    if (decimal(unit.value("RuntimeDirectoryMode"), MOST_COUNT) or 0) % 10 & 2:
        raise CannotWrap(
            f"{name} has RuntimeDirectoryMode={unit.value('RuntimeDirectoryMode')}: every user could replace the "
            "supervisor's socket there; let it be 0755."
        )


def _room_of(
    unit: UnitText, start: words.Exec, variables: Mapping[str, str], own: OwnFiles
) -> Iterator[tuple[str, str]]:
    """The settings that make room for a supervisor in the unit's sandbox, each with its note.

    Raises CannotWrap.
    """
    of_files = (not_for_us(name) for name in NOT_FOR_US if name in variables)
    for need in (*needs(unit, start, own), *of_files):
        if not need.lines:
            raise CannotWrap(f"{unit.name}: {need.problem}; {need.fix}.")
        for place, setting in enumerate(need.lines):
            yield setting, "" if place else need.note


def _kill_as_systemd_did(unit: UnitText, line: CommandLine) -> None:
    """Let the stop signal reach all processes of a program that is not known, if it did so in the unit."""
    if not programs.knows(line.program) and unit.value("KillMode", "control-group") == "control-group":
        line.options.setdefault("kill-mode", "group")


def _line(
    unit: UnitText,
    start: words.Exec,
    given: Sequence[str],
    listen: Sequence[str],
    variables: Mapping[str, str] | None,
    gunicorn_file: str,
) -> CommandLine:
    command = list(start.words)
    if "@" in start.prefixes:
        del command[1:2]
    place = unit.value("WorkingDirectory").removeprefix("-")
    line = CommandLine(
        command,
        program=programs.find_program(command),
        notifies=unit.value("Type").startswith("notify"),
        directory="" if place == "~" else place,
        environment={
            **{name: words.without_variables(value) for name, value in unit.environment.items()},
            **{name: words.literal(value) for name, value in (variables or {}).items()},
        },
        sees_all=variables is not None,
        given=given,
        listen=listen,
        stop_seconds=lifecycle.seconds(unit, "TimeoutStopSec", 90.0),
        at_home=place == "~",
        umask=_octal(unit.value("UMask"), 0o022),
        user=unit.value("User", "root") if not unit.flag("DynamicUser") else "dynamic",
        gunicorn_file=gunicorn_file,
    )
    if "@" in start.prefixes:
        line.note(f'"@" is removed: {line.program} gets its own name')
    if unit.value("WorkingDirectory").startswith("-") and place != "~":
        line.note(f"WorkingDirectory=-{place} must exist now: --directory does not do without it")
    if place == "~":
        line.note("WorkingDirectory=~ stays, and a reload that follows a symlink needs --directory with its path")
    return line


def _octal(text: str, default: int) -> int:
    return int(text, 8) if re.fullmatch("[0-7]{1,4}", text) else default


def _commands_beside(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    yield from (("", note) for note in notes_of_reload(unit, line))
    if line.given:
        hands_on = "" if line.own_signal else ", and a reload hands them on"
        yield "", f"it still gets the sockets of {' and '.join(line.given)}{hands_on}"


def _exec_lines(start: words.Exec, line: CommandLine, program: str) -> list[str]:
    command = [_PLACE_HOLDER.sub(r"{\1}", word) if word in start.words else word for word in line.words]
    name = ["--name", line.program] if os.path.basename(command[0]) != line.program else []
    run = words.joined([program, "run", *line.run_options, *name, "--", *command])
    prefixes = start.prefixes.replace("@", "")
    return ["ExecStart=", f"ExecStart={prefixes}{run}", "ExecReload=", f"ExecReload={start.privileged}{program} reload"]
