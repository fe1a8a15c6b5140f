"""How a unit starts, stops and starts again, and what of its own meaning a supervisor can keep."""

import math
import re
import signal
from collections.abc import Iterator

from ..core.respawn import CLEAN_SIGNALS
from ..errors import CannotWrap, ExitStatus
from ..input.checked import MOST_COUNT, decimal
from ..settings.settings import STOP_SIGNALS
from .line import CommandLine
from .text import UnitText
from .text import seconds as parse_seconds

GRACE_SECONDS = 20  # that systemd gives the supervisor beyond what that gives its workers
_LEAST_SECONDS = 10  # that are left to the supervisor where the unit says how long it may take
_START_SECONDS, _START_GRACE_SECONDS = 60.0, 30  # of a supervisor; of systemd beyond that
_DEFAULT_SECONDS = 90.0  # systemd's for a start and for a stop; an administrator may have changed it
_RESTART_SECONDS, _RESPAWN_SECONDS = 0.1, 5.0  # systemd's RestartSec=; delay_before_respawn
# Their processes live on over a restart, and that is why their units say KillMode=process.
_KEEPERS = (
    *("sshd", "dropbear", "mosh-server", "ttyd", "screen", "tmux", "cron", "crond", "atd", "patroni", "supervisord"),
    *("dockerd", "containerd", "podman", "crio", "kubelet", "nomad", "incusd", "lxd", "lxcfs", "slurmd", "slurmstepd"),
    *("libvirtd", "virtqemud", "virtlxcd", "virtxend", "virtchd", "multipathd"),
)
_KILL = re.compile(
    r"\bkill\s+(?:(?:-s\s*|--signal[\s=]|-(?!-))(?:SIG)?([A-Z0-9+]+)\s+)?(?:--\s+)?[\"']?\$\{?MAINPID\b",
    re.IGNORECASE,
)
_OF_CALLERS = (ExitStatus.OK, ExitStatus.FAILED, ExitStatus.TIMED_OUT, ExitStatus.INTERRUPTED)  # no supervisor's
OUR_STATUSES = frozenset(
    int(status) for status in ExitStatus if status not in _OF_CALLERS
)  # of a supervisor that fails
_STATUSES = {
    **{"SUCCESS": 0, "FAILURE": 1, "INVALIDARGUMENT": 2, "NOTIMPLEMENTED": 3, "NOPERMISSION": 4, "NOTINSTALLED": 5},
    **{"NOTCONFIGURED": 6, "NOTRUNNING": 7, "USAGE": 64, "DATAERR": 65, "NOINPUT": 66, "NOUSER": 67, "NOHOST": 68},
    **{"UNAVAILABLE": 69, "SOFTWARE": 70, "OSERR": 71, "OSFILE": 72, "CANTCREAT": 73, "IOERR": 74, "TEMPFAIL": 75},
    **{"PROTOCOL": 76, "NOPERM": 77, "CONFIG": 78},
}
# What --restart says of each Restart=. After on-abort, a hang has to end in a start again, of a supervisor at least.
_KEPT_RESTARTS = {"on-failure": "on-failure", "on-abnormal": "on-abnormal", "on-abort": "on-abnormal"}
_CLEAN = frozenset(signal.Signals(number).name for number in CLEAN_SIGNALS)
# The places that systemd reads; it ignores StartLimitIntervalSec= in [Service].
_BURST = (("Unit", "StartLimitBurst"), ("Service", "StartLimitBurst"))
_INTERVAL = (("Unit", "StartLimitIntervalSec"), ("Unit", "StartLimitInterval"), ("Service", "StartLimitInterval"))
FALSE = ("", "no", "false", "off", "0", "n", "f")


def check(unit: UnitText, program: str, prefixes: str = "") -> None:
    """Raise CannotWrap if a supervisor cannot keep what the unit means by its stops and restarts.

    `prefixes` are those of its command.
    """
    name = unit.name
    if unit.flag("RemainAfterExit"):
        raise CannotWrap(
            f"{name} has RemainAfterExit=yes: its command may end, but a supervisor would start it again and again."
        )
    if unit.value("ExitType") == "cgroup":
        raise CannotWrap(
            f"{name} has ExitType=cgroup: its first process may end, but a supervisor would start it again."
        )
    _check_restarts(unit)
    if "-" in prefixes and unit.value("Restart") in _KEPT_RESTARTS:
        raise CannotWrap(
            f'{name} has a "-" before its command: to systemd each of its ends is a clean one, so '
            f'Restart={unit.value("Restart")} starts nothing again, but a supervisor would; take the "-" out, or write '
            "Restart=no."
        )
    mode = unit.value("KillMode", "control-group")
    if mode in ("process", "none") and (program in _KEEPERS or unit.value("Delegate").lower() not in FALSE):
        instead = "; sdsupervise import supervisord makes instances of its programs" * (program == "supervisord")
        raise CannotWrap(
            f"{name} has KillMode={mode}: what {program} has started outlives a restart, but a supervisor ends all of "
            f"it{instead}."
        )
    if not unit.flag("IgnoreSIGPIPE", default=True):
        raise CannotWrap(
            f"{name} has IgnoreSIGPIPE=no, but a supervisor's command ignores SIGPIPE under systemd: in its place, let "
            "ExecStart= begin with /usr/bin/env --default-signal=PIPE."
        )
    if not unit.flag("SendSIGKILL", default=True):
        raise CannotWrap(
            f"{name} has SendSIGKILL=no: nothing may kill {program}, but a supervisor does so after its stop time-out."
        )
    for key in ("KillSignal", "RestartKillSignal"):
        if (number := signal_name(unit.value(key))) not in ("", "SIGKILL", *STOP_SIGNALS):
            raise CannotWrap(
                f"{name} has {key}={unit.value(key)}, but a supervisor stops a command by one of "
                f"{', '.join(STOP_SIGNALS)} ({number} is none of them)."
            )


def _check_restarts(unit: UnitText) -> None:
    """Raise CannotWrap if a supervisor cannot keep what the unit means by the ends of its command."""
    name, restart = unit.name, unit.value("Restart", "no")
    if restart == "on-success":
        raise CannotWrap(f"{name} has Restart=on-success: after a failure it must stay down.")
    if restart == "on-watchdog":
        raise CannotWrap(
            f"{name} has Restart=on-watchdog, which --restart does not have; write on-abnormal, on-failure or always."
        )
    kept = restart in _KEPT_RESTARTS
    keys = ("RestartPreventExitStatus", *(("RestartForceExitStatus", "SuccessExitStatus") if kept else ()))
    for key in keys:
        others = [word for word in exit_statuses(unit, key)[1] if key != "SuccessExitStatus" or word not in _CLEAN]
        if others:
            raise CannotWrap(
                f"{name} has {key}={' '.join(others)}, but a supervisor judges only by the exit status of its command."
            )
    ours = OUR_STATUSES & set(exit_statuses(unit, "SuccessExitStatus")[0])
    if kept and ours:
        raise CannotWrap(
            f"{name} has SuccessExitStatus={' '.join(map(str, sorted(ours)))} and Restart={restart}, but "
            "a supervisor reports a failure with this status; write Restart=always, or choose another status."
        )


def exit_statuses(unit: UnitText, key: str) -> tuple[list[int], list[str]]:
    """The exit statuses in a setting, and its other words: signals, with SIG."""
    numbers, others = [], []
    for word in unit.words(key):
        number = decimal(word, 255) if word not in _STATUSES else _STATUSES[word]
        if number is None:
            others.append(signal_name(word))
        else:
            numbers.append(number)
    return numbers, others


def signal_name(text: str) -> str:
    """The name of a signal that a unit names: "SIGINT" for "2", "INT" and "SIGINT"."""
    if number := decimal(text, signal.NSIG - 1):
        try:
            return signal.Signals(number).name
        except ValueError:
            return f"SIG{text}"
    return f"SIG{text.removeprefix('SIG')}" if text else ""


def seconds(unit: UnitText, key: str, default: float) -> float:
    """A time-out in seconds; math.inf for none."""
    return unit.seconds(key, unit.seconds("TimeoutSec", default)) or math.inf


def stops(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    """The settings about a stop, each with its note. They set the options of a supervisor, too."""
    mode = unit.value("KillMode", "control-group")
    when = "at a stop" if line.own_signal else "at a stop or a reload"
    left = f"KillMode was {mode}: what {line.called} leaves running {when} is killed now"
    yield "KillMode=mixed", left if mode in ("process", "none") else ""
    said = ""
    commands = unit.values("ExecStop")
    if commands:
        found = _KILL.search(commands[-1]) if len(commands) == 1 else None
        said = signal_name((found[1] or "TERM").upper()) if found else ""
        if said in ("SIGKILL", *STOP_SIGNALS):
            yield "ExecStop=", f"ExecStop was {commands[-1]}: the supervisor sends this signal"
        else:
            said = ""
            yield (
                "ExecStop=",
                f"ExecStop was {'; '.join(commands)}: it no longer runs; the supervisor stops the command by a signal "
                "(--stop-signal), so check that this is enough",
            )
    had = signal_name(unit.value("KillSignal"))
    for key in ("KillSignal", "RestartKillSignal"):
        number = signal_name(unit.value(key))
        if number not in ("", "SIGTERM"):
            yield f"{key}=SIGTERM", f"{key} was {unit.value(key)}, and a supervisor is stopped by SIGTERM"
    _stop_by(line, said or had)
    if unit.flag("SendSIGHUP"):
        yield "SendSIGHUP=no", "SendSIGHUP was yes, and the supervisor would pass the SIGHUP on"
    if unit.value("FinalKillSignal"):
        yield "", f"FinalKillSignal={unit.value('FinalKillSignal')} is for the supervisor: it ends a command by SIGKILL"


def _stop_by(line: CommandLine, number: str) -> None:
    if number == "SIGKILL":
        line.options["stop-timeout"] = "0"
        line.note("--stop-timeout 0: the command gets SIGKILL at once, as from the unit")
    elif number not in ("", "SIGTERM"):
        line.options.setdefault("stop-signal", number)
        line.note(f"--stop-signal {line.options['stop-signal']}: how the supervisor then stops the command")


def restarts(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    """The settings about a start after an exit, each with its note. They set the options of a supervisor, too."""
    restart = unit.value("Restart", "no")
    kept, note = _KEPT_RESTARTS.get(restart, ""), ""
    if kept:
        line.options["restart"] = kept
        line.note(f"--restart {kept}: if the command ends and must not start again, the supervisor ends, too")
    elif restart != "always":
        note = (
            f"Restart was {restart}: the supervisor starts the command again after every exit, also after a clean one"
        )
    if restart == "on-abort":
        note = "Restart was on-abort: now systemd starts it again also after a hang"
    yield f"Restart={kept or 'always'}", note
    final = exit_statuses(unit, "RestartPreventExitStatus")[0]
    clean = exit_statuses(unit, "SuccessExitStatus")[0] if restart == "on-failure" else []
    if statuses := sorted({*final, *clean}):
        line.options["restart-prevent"] = ",".join(map(str, statuses))
    if ours := sorted(OUR_STATUSES & {*final} - {ExitStatus.GAVE_UP, ExitStatus.CONFIG}):
        statuses_of_ours = " ".join(map(str, ours))
        why = "the supervisor exits with it when it fails itself, too"
        yield "", f"RestartPreventExitStatus has {statuses_of_ours}: {why}"
    gives_up = _start_limit(unit, line)
    yield f"RestartPreventExitStatus={'75 ' * gives_up}78", ""
    if OUR_STATUSES & set(exit_statuses(unit, "SuccessExitStatus")[0]):
        had = " ".join(unit.words("SuccessExitStatus"))
        yield "SuccessExitStatus=", f"SuccessExitStatus was {had}: a supervisor reports failures with these statuses"
    yield "SuccessExitStatus=SIGTERM", ""
    if restart != "no":
        delay = unit.seconds("RestartSec", _RESTART_SECONDS) or _RESTART_SECONDS
        if delay != _RESPAWN_SECONDS and not math.isinf(delay):
            line.options["delay-before-respawn"] = f"{delay:g}"
        longest = unit.seconds("RestartMaxDelaySec", math.inf)
        if not math.isinf(longest):
            line.options["respawn-backoff-limit"] = f"{longest:g}"
    for key, section in (
        ("OnFailure", "Unit"),
        ("FailureAction", "Unit"),
        ("OnSuccess", "Unit"),
        ("SuccessAction", "Unit"),
        ("StartLimitAction", "Unit"),
    ):
        value = unit.value(key, section=section)
        if value and value != "none":
            yield "", f"{key}={value} waits for the end of the supervisor, which starts the command again by itself"


def _start_limit(unit: UnitText, line: CommandLine) -> bool:
    """Carry over a limit of starts that the unit has set; return whether there is one."""
    burst = unit.last(_BURST)
    interval = unit.last(_INTERVAL)
    if not burst and not interval:
        return False
    try:
        window = parse_seconds(interval) if interval else 10.0
    except ValueError:
        window = 10.0
    count = decimal(burst or "5", MOST_COUNT) or 0
    if not count or not window or math.isinf(window):
        return False
    line.options |= {"crash-limit": str(count), "crash-window": f"{window:g}"}
    line.note(f"--crash-limit {count}: the unit gave up after so many starts within {window:g} s")
    return True


def timeouts(unit: UnitText, line: CommandLine) -> Iterator[tuple[str, str]]:
    """The time limits, each with its note. They set the options of a supervisor, too."""
    stop = int(line.options.get("stop-timeout", "30"))
    had = seconds(unit, "TimeoutStopSec", _DEFAULT_SECONDS)
    needed = max(60, stop + GRACE_SECONDS)
    if math.isinf(had):
        yield f"TimeoutStopSec={needed}", "TimeoutStopSec had no limit, so a supervisor that hangs would run for ever"
    elif had < stop + _LEAST_SECONDS:
        said = unit.value("TimeoutStopSec") or unit.value("TimeoutSec")
        yield f"TimeoutStopSec={needed}", f"TimeoutStopSec was {said}, too short to drain" if said else ""
    start = seconds(unit, "TimeoutStartSec", _DEFAULT_SECONDS)
    if "ready-after" in line.options:  # then it is ready after that time
        if start < _DEFAULT_SECONDS:
            yield "TimeoutStartSec=90", f"TimeoutStartSec was {start:g}, too short for a reload"
        return
    said = unit.value("TimeoutStartSec") or unit.value("TimeoutSec")
    allowed = 3600 if math.isinf(start) else math.ceil(start)
    options = ["start-timeout", *["reload-timeout"] * (allowed > _START_SECONDS)]
    line.options |= dict.fromkeys(options, str(allowed))
    if said:
        names = " and ".join(f"--{option}" for option in options)
        line.note(f"{names} {allowed}: this is the limit of a start, in seconds")
    needed = max(90, allowed + _START_GRACE_SECONDS)
    if math.isinf(start):
        yield f"TimeoutStartSec={needed}", "TimeoutStartSec had no limit, so a reload that hangs would never end"
    else:
        note = f"TimeoutStartSec was {said}: systemd must wait longer than the supervisor"
        yield f"TimeoutStartSec={needed}", note if said else ""
