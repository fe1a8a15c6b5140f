"""What becomes of the reload that a unit's program does itself: by a signal, or by a command of its own."""

import os
import re
from collections.abc import Iterator, Sequence

from ..settings.settings import RELOAD_SIGNALS
from . import words
from .lifecycle import signal_name
from .line import CommandLine
from .rotation import Rotation, about, instead, signal_in
from .text import UnitText, for_systemctl

_GAP = "each reload refuses clients"  # of an exclusive program, in the notes on its command line
_MAIN = re.compile(r"\$\{?MAINPID\}?")
# SIGHUP ends these, although units of theirs send it.
_WITHOUT = frozenset(("rq", "rqworker", "rqscheduler", "celery", "daphne"))
_DJANGO = "manage.py"
_RELOADS = re.compile(r"\b(?:systemctl|invoke-rc\.d|service)\b.*\b(?:try-reload-or-restart|reload|force-reload)\b")


def signal_of(unit: UnitText) -> str:
    """The signal that a reload sends the main process, such as "HUP"; "" if it does anything else."""
    if unit.value("Type") == "notify-reload":
        number = signal_name(unit.value("ReloadSignal", "SIGHUP"))
        return number.removeprefix("SIG") if number in RELOAD_SIGNALS and not unit.values("ExecReload") else ""
    commands = [command for value in unit.values("ExecReload") for command in words.commands(value)]
    for command in reversed(commands[-1:]):
        text = " ".join(command.words)
        if _MAIN.search(text):
            return signal_in(text)
    return ""


def kept_signal(unit: UnitText, line: CommandLine) -> str:
    """The signal by which the program goes on to reload itself, because its generations cannot overlap; "" for none."""
    names = list(map(os.path.basename, line.words))
    of_django = names[names.index(_DJANGO) + 1 :][:1] if _DJANGO in names else []
    if line.options.get("handover") == "overlap" or not _WITHOUT.isdisjoint([line.program, line.called, *of_django]):
        return ""
    return signal_of(unit)


def notes_of_reload(unit: UnitText, line: CommandLine) -> Iterator[str]:
    """What a reload of the wrapped unit is, as far as it differs from the one before."""
    reloads = unit.values("ExecReload")
    if not reloads and not line.own_signal:
        return
    number = signal_of(unit)
    was = f"ExecReload was {reloads[-1]}" if reloads else "Type was notify-reload"
    if line.options.get("handover") == "overlap":
        yield f"{was}: a reload now waits until the new code serves, and fails if it does not"
    elif line.own_signal:
        line.options["reload-signal"] = f"SIG{number}"
        line.notes = [note.replace(_GAP, _GAP.replace("reload", "restart")) for note in line.notes]
        yield (
            f"--reload-signal SIG{number}: {was}, so a reload passes the signal on, and fails if {line.called} ends; "
            f"new code of {line.called} needs a restart, or take the option out"
        )
        if len(reloads) > 1:
            yield f"the commands of ExecReload before it no longer run: {'; '.join(reloads[:-1])}"
        return
    elif number:
        yield (f"{was}: a reload is now a stop and a start of {line.called}, and no longer sends SIG{number}")
    else:
        yield (f"{was}: a reload is now a stop and a start of {line.called}; if you need that command, run it yourself")
    number = number or signal_in(reloads[-1])
    if number == "USR2":
        yield "SIGUSR2 to the main process now starts a reload, and does not reach the command"
    elif number:
        yield f"{instead(unit, number)} does what ExecReload did: the supervisor passes SIG{number} on"


def notes_of_rotation(unit: UnitText, line: CommandLine, rotations: Sequence[Rotation]) -> Iterator[str]:
    """What logrotate does to the unit's program, and what is to stand there instead."""
    for place, command in about(unit, rotations):
        number = signal_in(command)
        passes_on = line.options.get("reload-signal")
        if passes_on and (passes_on == f"SIG{number}" or _RELOADS.search(command)):
            if number:
                name = for_systemctl(unit.name)
                yield f"{place} sends SIG{number} ({command}): write instead: systemctl reload {name}"
        elif number == "USR2":
            yield f"{place} sends SIGUSR2 ({command}), which now starts a reload, and does not reach {line.called}"
        elif number:
            yield f"{place} sends SIG{number} ({command}): write instead: {instead(unit, number)}"
        elif _RELOADS.search(command):
            own = signal_of(unit)
            better = f"; write instead: {instead(unit, own)}" if own and own != "USR2" else ""
            if line.options.get("handover") == "overlap":
                happens = "starts the code anew"
            else:
                happens = f"stops {line.called} and starts it"
            yield f"{place} runs {command}: each rotation of its logs then {happens}{better}"
        else:
            child = "which is now a child of the supervisor"
            yield f"{place} runs {command}: check that it still finds the program, {child}"
