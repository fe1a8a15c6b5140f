"""The settings that a drop-in of ours changes, and notes about those that mean something else under a supervisor."""

import os
import re
from collections.abc import Iterator

from ..input.checked import MOST_COUNT, decimal
from . import lifecycle, words
from .line import CommandLine
from .rotation import instead
from .text import UnitText

STORE = 64
_IDENTIFIER = re.compile(r"[\w.+-]+", re.ASCII)


def changes(unit: UnitText, start: words.Exec, line: CommandLine) -> Iterator[tuple[str, str]]:
    """The settings to write, each with its note; "" if there is no note. They set options of `line`, too."""
    yield from _type(unit, line)
    yield from lifecycle.stops(unit, line)
    yield from lifecycle.restarts(unit, line)
    yield from lifecycle.timeouts(unit, line)
    yield from _watchdog(unit, line)
    policy = unit.value("OOMPolicy", "continue")
    why = f"OOMPolicy was {policy}: the supervisor replaces a command that the kernel kills for memory"
    yield "OOMPolicy=continue", "" if policy == "continue" else why
    yield from _directories(unit)
    yield from _descriptors(unit)
    yield from _output(unit, start)
    yield from _main_process(unit)
    yield from _what_else(unit, line)


def _type(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    kind, note = unit.value("Type", "simple"), ""
    if kind == "idle":
        note = f"Type was {kind}: a supervisor reports when it serves"
    elif kind == "notify-reload" and not line.own_signal:
        number = lifecycle.signal_name(unit.value("ReloadSignal", "SIGHUP")).removeprefix("SIG")
        note = (
            f"Type was {kind}: a reload now waits until the new code serves, and fails if it does not; "
            f"{instead(unit, number)} sends the same signal as before"
        )
    yield "Type=notify", note
    yield "NotifyAccess=main", ""  # of the supervisor, which listens to all processes of its command


def _watchdog(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    had = unit.seconds("WatchdogSec", 0.0)
    if had:
        line.options["worker-timeout"] = f"{had:g}"
        yield "", f"--worker-timeout {had:g}: WatchdogSec= now watches the supervisor, which watches the command"
    else:
        yield "WatchdogSec=30", ""


def _directories(unit: UnitText) -> Iterator[tuple[str, str]]:
    had = " ".join(unit.words("RuntimeDirectory"))
    yield (
        "RuntimeDirectory=sdsupervise/%N",
        f"$RUNTIME_DIRECTORY names two directories now, {had} and that of sdsupervise" if had else "",
    )
    preserve = unit.value("RuntimeDirectoryPreserve", "no")
    if preserve not in ("restart", "yes", "true", "1", "on", "y", "t"):
        yield "RuntimeDirectoryPreserve=restart", f"{had} is kept over a restart, with what is in it" if had else ""
    mode = unit.value("RuntimeDirectoryMode", "0755")
    if mode.isdecimal() and int(mode) // 10 % 10 & 2:
        yield "", f"RuntimeDirectoryMode={mode}: the group may replace the supervisor's socket, which has this mode too"


def _descriptors(unit: UnitText) -> Iterator[tuple[str, str]]:
    room = decimal(unit.value("FileDescriptorStoreMax"), MOST_COUNT) or 0
    if room < STORE:
        yield f"FileDescriptorStoreMax={STORE}", ""
    if room:
        yield "", "FileDescriptorStoreMax is for the supervisor's sockets: what the command stores there is not kept"


def _output(unit: UnitText, start: words.Exec) -> Iterator[tuple[str, str]]:
    name = os.path.basename(start.words[0])
    if not unit.value("SyslogIdentifier") and _IDENTIFIER.fullmatch(name):
        yield f"SyslogIdentifier={name}", ""  # as it was, for whoever filters by it
    error = unit.value("StandardError", "inherit").replace("inherit", "") or unit.value("StandardOutput")
    if error == "null":
        yield "", "StandardError is null: what the supervisor reports is lost, too"
    elif error.startswith(("file:", "append:", "truncate:")):
        yield "", f"what the supervisor reports is in {error.partition(':')[2]}, too, and not in the journal"
    for key in ("StandardOutput", "StandardError"):
        kind, _, path = unit.value(key).partition(":")
        if kind in ("file", "truncate"):
            yield f"{key}=append:{path}", f"{key} was {kind}: a reload would write over the beginning of {path}"


def _main_process(unit: UnitText) -> Iterator[tuple[str, str]]:
    if unit.value("PIDFile"):
        yield "PIDFile=", "PIDFile is removed: the supervisor itself tells systemd which process is the main one"
    if unit.flag("PrivatePIDs"):
        yield "PrivatePIDs=no", "PrivatePIDs was yes: systemd would not know the new supervisor by its pid"


def _what_else(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    for key in ("ExecCondition", "ExecStartPre", "ExecStartPost"):
        if unit.values(key):
            pid = "; its $MAINPID is the supervisor" if any("MAINPID" in value for value in unit.values(key)) else ""
            yield "", f"{key} runs at a start, but not at a reload{pid}"
    if unit.values("ExecStopPost"):
        yield "", "ExecStopPost runs at a stop, but not at a reload"
    limits = [key for key in ("MemoryHigh", "MemoryMax") if unit.value(key) not in ("", "infinity")]
    if limits:
        two = "two generations" if line.options["handover"] == "overlap" else "a second supervisor"
        room = "20 MB of the supervisor" if line.own_signal else f"{two} in a reload, and 20 MB for each supervisor"
        yield "", f"{' and '.join(limits)} must have room for {room}"
    if unit.value("Delegate").lower() not in lifecycle.FALSE:
        yield "", f"Delegate= gives {line.program} a control group in which the supervisor runs, too"
    others = unit.words("ReloadPropagatedFrom", "Unit")
    if others and not line.own_signal:
        yield "", f"a reload of {' or '.join(others)} reloads this unit, too, so it now brings new code"
    if unit.value("RestrictFileSystems"):
        yield "", "RestrictFileSystems= holds for the supervisor, which needs tmpfs, proc and the file system of /usr"
