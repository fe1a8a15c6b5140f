"""The drop-in that puts an existing unit under sdsupervise. Settings that it does not name stay as they are."""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ..errors import CannotWrap
from ..input.checked import MOST_COUNT, decimal
from ..input.printable import one_line
from ..settings import background_programs
from ..settings.settings import STOP_SIGNALS
from . import programs, words
from .line import CommandLine
from .own_reload import notes_of_reload, notes_of_rotation
from .rotation import Rotation
from .rules import allows_unix
from .subject import runs_us
from .text import UnitText

_FILE = "sdsupervise.conf"
_MARK = "# Written by `sdsupervise unit wrap`; `sdsupervise unit unwrap {}` removes it."
STORE = 64
_LEAST_SECONDS = 10  # that are left to the supervisor where the unit says how long it may take
GRACE_SECONDS = 20  # that systemd gives the supervisor beyond what that gives its workers
_ENDS_LINE = re.compile(r"[\n\r\0]")  # to systemd
_NONE: Mapping[str, str] = MappingProxyType({})
_MACHINES_OWN = ("systemd-", "dbus")
_MACHINES_PROGRAMS = ("/lib/systemd/", "/usr/lib/systemd/")
_DEAF = (
    "NotifyAccess was wider: pings from another process than the main one no longer count for the watchdog, so restart "
    "at once"
)
_PLACE_HOLDER = re.compile(r"(?<!\$)(\{[\w.-]+\})")  # of `sdsupervise run`


class DropIn(NamedTuple):
    """A file in a unit's drop-in directory."""

    unit: str
    settings: tuple[str, ...]  # its lines in [Service]
    notes: tuple[str, ...]  # what it changes, and why
    others: tuple[str, ...] = ()  # its lines in [Unit]

    @property
    def is_empty(self) -> bool:
        """Whether it has no lines."""
        return not (self.settings or self.others)

    @property
    def path(self) -> str:
        """Its path."""
        return os.path.join("/etc/systemd/system", f"{self.unit}.d", _FILE)

    @property
    def text(self) -> str:
        """The drop-in to print.

        Raises CannotWrap if a value contains an end of line.
        """
        unit = ["[Unit]", *self.others] if self.others else []
        lines = [f"# {self.unit}.d/{_FILE}", *unit, "[Service]", *self.settings]
        if any(map(_ENDS_LINE.search, lines)):
            raise CannotWrap(f"What {self.unit} and its files say contains a line break; change it there.")
        return "\n".join([*lines, ""])

    @property
    def file(self) -> str:
        """The drop-in to write: the text, a mark, and the notes as comments."""
        first, rest = self.text.split("\n", 1)
        return "\n".join([first, mark(self.unit), *(f"# note: {one_line(note)}" for note in self.notes), rest])


def mark(unit: str) -> str:
    """The line that marks a file as ours."""
    return _MARK.format(unit)


def wrap(
    unit: UnitText,
    *,
    program: str = "/usr/bin/sdsupervise",
    given: Sequence[str] = (),
    listen: Sequence[str] = (),
    handover: str = "",
    variables: Mapping[str, str] | None = _NONE,
    rotations: Sequence[Rotation] = (),
) -> DropIn:
    """The drop-in that puts a unit under sdsupervise.

    `program` is the path of sdsupervise. `given` names the .socket units of the service. `variables` are those of
    EnvironmentFile=; None if they cannot be read. `listen` and `handover` come from the user, and take precedence.

    Raises CannotWrap, with one sentence, if that cannot work.
    """
    start = _start_of(unit)
    line = _line(unit, start, given, listen, variables)
    programs.adapt(line)
    if handover:
        line.options["handover"] = handover
    changes = [*_changes(unit, line)]
    settings = [setting for setting, _ in changes if setting]
    rotated = notes_of_rotation(unit, line, rotations)
    notes = [*line.notes, *(note for _, note in changes if note), *rotated, "the switch needs one last restart"]
    return DropIn(unit.name, (*settings, *_exec_lines(start, line, program)), tuple(notes))


def _start_of(unit: UnitText) -> words.Exec:
    """The single command of a unit that a supervisor can run.

    Raises CannotWrap for any other unit.
    """
    name, kind = unit.name, unit.value("Type", "simple")
    starts = [command for value in unit.values("ExecStart") for command in words.commands(value)]
    if any(map(runs_us, starts)):
        raise CannotWrap(f"{name} is under sdsupervise already; sdsupervise unit lint {name} checks it.")
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
    if kind == "forking" and not programs.knows(start.words[place]):
        raise CannotWrap(
            f"{name} is of Type=forking. It can be wrapped with Type=simple, and with its program in the foreground"
            f"{background_programs.in_foreground(start.words[place])}."
        )
    for key in ("RootDirectory", "RootImage"):
        if unit.value(key):
            raise CannotWrap(f"{name} has {key}=, and sdsupervise does not exist there.")
    if "|" in start.prefixes:
        raise CannotWrap(f'{name} has a "|" before its command, which a shell splits; let it be /bin/sh -c and a text.')
    if unit.value("StandardInput", "null") != "null":
        raise CannotWrap(f"{name} reads its standard input (StandardInput=), but a supervised program has none.")
    return start


def _line(
    unit: UnitText,
    start: words.Exec,
    given: Sequence[str],
    listen: Sequence[str],
    variables: Mapping[str, str] | None,
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
        stop_seconds=_seconds(unit, "TimeoutStopSec", 90.0),
        at_home=place == "~",
        umask=_octal(unit.value("UMask"), 0o022),
        user=unit.value("User", "root") if not unit.flag("DynamicUser") else "dynamic",
    )
    if "@" in start.prefixes:
        line.note(f'"@" is removed: {line.program} gets its own name')
    if place == "~":
        line.note("WorkingDirectory=~ stays, and a reload that follows a symlink needs --directory with its path")
    return line


def _octal(text: str, default: int) -> int:
    return int(text, 8) if re.fullmatch("[0-7]{1,4}", text) else default


def _seconds(unit: UnitText, key: str, default: float) -> float:
    """A time-out in seconds; math.inf for none."""
    return unit.seconds(key, unit.seconds("TimeoutSec", default)) or math.inf


def _changes(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    """The settings to write, each with its note; "" if there is no note."""
    kind = unit.value("Type", "simple")
    yield "Type=notify", f"Type was {kind}: a supervisor reports when it serves" if kind == "idle" else ""
    others_ping = unit.value("NotifyAccess") in ("all", "exec") and unit.seconds("WatchdogSec", 0.0)
    yield "NotifyAccess=main", _DEAF if others_ping else ""
    yield "KillMode=mixed", ""
    for key in ("KillSignal", "RestartKillSignal"):
        yield from _kill_signal(unit, line, key)
    restart = unit.value("Restart")
    said = f"Restart was {restart}: a supervisor must start again after any failure"
    yield "Restart=always", said if restart not in ("", "always") else ""
    yield "RestartPreventExitStatus=78", ""
    yield "SuccessExitStatus=SIGTERM", ""
    yield from _timeouts(unit, line)
    yield from _watchdog(unit, line)
    yield "OOMPolicy=continue", ""
    had = " ".join(unit.words("RuntimeDirectory"))
    yield (
        "RuntimeDirectory=sdsupervise/%N",
        f"$RUNTIME_DIRECTORY names two directories now, {had} and that of sdsupervise" if had else "",
    )
    yield "RuntimeDirectoryPreserve=restart", ""
    if (decimal(unit.value("FileDescriptorStoreMax"), MOST_COUNT) or 0) < STORE:
        yield f"FileDescriptorStoreMax={STORE}", ""
    yield from _obstacles(unit)
    yield from _commands_beside(unit, line)


def _kill_signal(unit: UnitText, line: CommandLine, key: str) -> Iterator[tuple[str, str]]:
    number = unit.value(key)
    name = f"SIG{number.removeprefix('SIG')}"
    if not number or name in ("SIGTERM", "SIG15"):
        return
    yield f"{key}=SIGTERM", f"{key} was {number}, and a supervisor is stopped by SIGTERM"
    if key == "KillSignal" and name in STOP_SIGNALS:
        line.options.setdefault("stop-signal", name)
        line.note(f"--stop-signal {line.options['stop-signal']}: how the supervisor then stops the command")


def _timeouts(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    stop = int(line.options.get("stop-timeout", "30"))
    had = _seconds(unit, "TimeoutStopSec", 90.0)
    needed = max(60, stop + GRACE_SECONDS)
    if math.isinf(had):
        yield f"TimeoutStopSec={needed}", "TimeoutStopSec had no limit, so a supervisor that hangs would run for ever"
    elif had < stop + _LEAST_SECONDS:
        said = unit.value("TimeoutStopSec") or unit.value("TimeoutSec")
        yield f"TimeoutStopSec={needed}", f"TimeoutStopSec was {said}, too short to drain" if said else ""
    start = _seconds(unit, "TimeoutStartSec", 90.0)
    if start < 90:
        yield "TimeoutStartSec=90", f"TimeoutStartSec was {start:g}, too short for a reload"
    elif start > 90 and line.notifies:
        allowed = "3600" if math.isinf(start) else str(int(start) - GRACE_SECONDS)
        if math.isinf(start):
            yield "TimeoutStartSec=3630", "TimeoutStartSec had no limit, so a reload that hangs would never end"
        line.options |= {"start-timeout": allowed, "reload-timeout": allowed}
        line.note(f"--start-timeout and --reload-timeout {allowed}: the unit let it take so long to start")


def _watchdog(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    had = unit.seconds("WatchdogSec", 0.0)
    if had:
        line.options["worker-timeout"] = f"{had:g}"
        yield "", f"--worker-timeout {had:g}: WatchdogSec= now watches the supervisor, which watches the command"
    else:
        yield "WatchdogSec=30", ""


def _obstacles(unit: UnitText) -> Iterator[tuple[str, str]]:
    """The settings that replace those under which a supervisor does not work, each with its note."""
    if unit.value("PIDFile"):
        yield "PIDFile=", "PIDFile is removed: the supervisor itself tells systemd which process is the main one"
    if unit.flag("RemainAfterExit"):
        yield "RemainAfterExit=no", "RemainAfterExit was yes, which shows a dead service as active"
    if unit.value("ExitType") == "cgroup":
        yield "ExitType=main", "ExitType was cgroup, which hides a dead supervisor"
    if not unit.flag("SendSIGKILL", default=True):
        yield "SendSIGKILL=yes", "SendSIGKILL was no, which leaves hanging processes behind"
    if unit.flag("PrivatePIDs"):
        yield "PrivatePIDs=no", "PrivatePIDs was yes: systemd would not know the new supervisor by its pid"
    if not allows_unix(unit.values("RestrictAddressFamilies")):
        yield "RestrictAddressFamilies=AF_UNIX", "AF_UNIX is allowed: systemd and the supervisor communicate through it"


def _commands_beside(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    for key in ("ExecStartPre", "ExecStartPost"):
        if unit.values(key):
            yield "", f"{key} runs at a start, but not at a reload"
    stops = unit.values("ExecStop")
    if stops:
        yield "ExecStop=", f"ExecStop was {stops[-1]}: the supervisor stops the command, by --stop-signal"
    yield from (("", note) for note in notes_of_reload(unit, line))
    if line.given:
        yield "", f"its sockets still come from {', '.join(line.given)}, and a reload hands them on"


def _exec_lines(start: words.Exec, line: CommandLine, program: str) -> list[str]:
    command = [_PLACE_HOLDER.sub(r"{\1}", word) if word in start.words else word for word in line.words]
    name = ["--name", line.program] if os.path.basename(command[0]) != line.program else []
    run = words.joined([program, "run", *line.run_options, *name, "--", *command])
    prefixes = start.prefixes.replace("@", "")
    return ["ExecStart=", f"ExecStart={prefixes}{run}", "ExecReload=", f"ExecReload={start.privileged}{program} reload"]
