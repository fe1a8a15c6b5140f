"""What of a unit's sandbox a supervisor cannot live in, and what makes room for it.

wrap() writes the lines of a Need, or refuses the unit if it has none; lint() reports it. So both say the same.
"""

import math
import re
from collections.abc import Iterator, Sequence

from . import words
from .calls import CALLS
from .finding import ERROR, WARNING, Need
from .paths import SYSTEM, OwnFiles, of_paths
from .text import UnitText

_OF_ROOT = ("", "root", "0")
_LEAST_TASKS, _LEAST_FILES, _LEAST_BYTES, _LEAST_FILE_BYTES = 64, 128, 2**27, 2**20
_MOST_SLACK_SECONDS = 0.05
_OURS = (
    *("NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "MAINPID"),
    *("WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "SYSTEMD_EXEC_PID"),
)
_OF_PYTHON = ("PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONINSPECT")
NOT_FOR_US = (*_OF_PYTHON, *_OURS)
"""Variables of an environment with which a supervisor does not work."""
_OTHER_DOMAINS = {  # each with what gives it to the program alone
    "AppArmorProfile": "/usr/bin/aa-exec -p",
    "SELinuxContext": "/usr/bin/runcon",
    "SmackProcessLabel": "",
}
_BYTES = re.compile(r"([0-9]+(?:\.[0-9]*)?)\s*([KMGTPE]?)B?", re.ASCII)
_PSEUDO_DEVICES = ("/dev/null", "/dev/urandom")


def needs(unit: UnitText, start: words.Exec, own: OwnFiles = SYSTEM, *, becomes: str = "") -> Iterator[Need]:
    """What a supervisor needs beyond the unit's sandbox. `becomes` is the user that it changes to; "" for none."""
    yield from _same_rights(unit)
    yield from _environment(unit)
    yield from _room(unit)
    if "+" in start.prefixes:
        return  # systemd then applies no sandbox
    yield from _capabilities(unit, start, becomes)
    yield from _addresses(unit)
    yield from _system_calls(unit)
    yield from of_paths(unit, own)
    yield from _domains(unit)
    yield from _devices(unit)


def _same_rights(unit: UnitText) -> Iterator[Need]:
    """ExecReload= starts the new supervisor, so it must run with the rights of ExecStart=."""
    if unit.flag("PermissionsStartOnly"):
        others = ("ExecCondition", "ExecStartPre", "ExecStartPost", "ExecStopPost")
        lines = [line for key in others for line in _with_all_rights(unit, key)]
        yield Need(
            "PermissionsStartOnly",
            "PermissionsStartOnly=yes gives ExecReload= all rights of root, and after a reload the service has them",
            'PermissionsStartOnly=no, and a "+" before the other commands that need root',
            ("PermissionsStartOnly=no", *lines),
            "PermissionsStartOnly was yes, and a reload would make the service root; the other commands keep their "
            'rights by a "+"',
        )
    if unit.flag("RootDirectoryStartOnly") and (unit.value("RootDirectory") or unit.value("RootImage")):
        yield Need(
            "RootDirectoryStartOnly",
            "RootDirectoryStartOnly=yes starts ExecReload= outside of the root directory of the service",
            "RootDirectoryStartOnly=no",
        )
    if unit.value("PAMName"):
        yield Need(
            "PAMName",
            "PAMName= opens a session for ExecReload= too, and closes it while the new supervisor still runs",
            "take it out of the unit",
        )
    if unit.flag("CPUSchedulingResetOnFork"):
        yield Need(
            "CPUSchedulingResetOnFork",
            "CPUSchedulingResetOnFork=yes takes the scheduling policy from the command, a child of the supervisor",
            "CPUSchedulingResetOnFork=no",
        )


def _with_all_rights(unit: UnitText, key: str) -> Iterator[str]:
    commands = [command for value in unit.values(key) for command in words.commands(value)]
    if commands:
        yield f"{key}="
        for command in commands:
            others = "".join(letter for letter in command.prefixes if letter not in "+!")
            yield f"{key}={others}+{words.joined(command.words)}"


def _environment(unit: UnitText) -> Iterator[Need]:
    lost = [name for name in _OURS if name in unit.words("UnsetEnvironment")]
    if lost:
        problem = f"without {', '.join(lost)} (UnsetEnvironment=) the supervisor cannot find systemd"
        yield Need("UnsetEnvironment", problem, f"take {' '.join(lost)} out of UnsetEnvironment=")
    for name in NOT_FOR_US:
        if name in unit.environment or name in unit.words("PassEnvironment"):
            yield not_for_us(name)


def not_for_us(name: str) -> Need:
    """The need where the environment of a unit has one of NOT_FOR_US."""
    without = "its own Python does not work" if name in _OF_PYTHON else "it does not find systemd"
    problem = f"the environment has {name}, which the supervisor would obey, and then {without}"
    return Need("Environment", problem, f"take {name} out, and let ExecStart= begin with /usr/bin/env {name}=VALUE")


def _room(unit: UnitText) -> Iterator[Need]:
    """Limits that must have room for two generations, each with a supervisor."""
    for key in ("TasksMax", "LimitNPROC"):
        found = _number(unit.value(key))
        if found < _LEAST_TASKS:
            enough = 2 * int(found) + _LEAST_TASKS
            yield Need(
                key,
                f"{key}={found:g} has no room for two generations and their supervisors, so a reload fails",
                f"{key}={enough}",
                (f"{key}={enough}",),
                f"{key} was {unit.value(key)}, too few for two generations and their supervisors",
                WARNING,
            )
    files = _number(unit.value("LimitNOFILE"))
    if files < _LEAST_FILES:
        yield Need(
            "LimitNOFILE",
            f"LimitNOFILE={files:g} is too few for the sockets and workers of a supervisor",
            f"LimitNOFILE={_LEAST_FILES}",
            (f"LimitNOFILE={_LEAST_FILES}",),
            f"LimitNOFILE was {unit.value('LimitNOFILE')}, too few for the sockets and workers of a supervisor",
            WARNING,
        )
    for key in ("LimitAS", "LimitDATA"):
        if _number(unit.value(key)) < _LEAST_BYTES:
            yield Need(key, f"{key}={unit.value(key)} is too little for the supervisor's Python", f"{key}=128M or more")
    if _number(unit.value("LimitFSIZE")) < _LEAST_FILE_BYTES:
        problem = f"LimitFSIZE={unit.value('LimitFSIZE')} is too little for the files that the supervisor writes"
        yield Need("LimitFSIZE", problem, "LimitFSIZE=1M or more")
    slack = unit.value("TimerSlackNSec")
    slack_seconds = int(slack) / 1e9 if slack.isdecimal() else unit.seconds("TimerSlackNSec", 0.0)
    if slack_seconds > _MOST_SLACK_SECONDS:
        problem = f"TimerSlackNSec={slack} delays every time limit of the supervisor by so much"
        yield Need("TimerSlackNSec", problem, "TimerSlackNSec=50ms or less")
    mask = unit.value("UMask")
    if re.fullmatch("[0-7]{1,4}", mask) and int(mask, 8) & 0o700:
        problem = f"with UMask={mask} the supervisor may not read the files that it writes"
        yield Need("UMask", problem, "a mask that leaves the owner all rights, such as UMask=0077")


def _number(text: str) -> float:
    """The number or the bytes of a limit, the larger one of SOFT:HARD; math.inf for none, or what is none."""
    found = _BYTES.fullmatch(text.rpartition(":")[2].strip())
    return float(found[1]) * 1024 ** " KMGTPE".index(found[2] or " ") if found else math.inf


def starts_as_root(unit: UnitText, start: words.Exec) -> bool:
    """Whether the supervisor of a unit starts as root."""
    of_root = unit.value("User") in _OF_ROOT and not unit.flag("DynamicUser")
    return of_root or "+" in start.prefixes or start.prefixes.count("!") == 1


def _capabilities(unit: UnitText, start: words.Exec, becomes: str) -> Iterator[Need]:
    bounding = capabilities(unit, "CapabilityBoundingSet")
    as_root = starts_as_root(unit, start)
    has = bounding if as_root else (capabilities(unit, "AmbientCapabilities") or frozenset())
    wanted = [("CAP_SETUID", "CAP_SETGID")] if as_root and becomes not in _OF_ROOT else []
    if has is not None and wanted and not has.issuperset(wanted[0]):
        missing = [name for name in wanted[0] if name not in has]
        yield Need(
            "CapabilityBoundingSet",
            f"without {' and '.join(missing)} the supervisor cannot become user {becomes}",
            f"add the line CapabilityBoundingSet={' '.join(missing)}",
        )
    if has is not None and "CAP_SETUID" in has and "CAP_KILL" not in has:
        lines = ["CapabilityBoundingSet=CAP_KILL"] if bounding is not None and "CAP_KILL" not in bounding else []
        lines += [] if as_root else ["AmbientCapabilities=CAP_KILL"]
        yield Need(
            "CapabilityBoundingSet",
            "without CAP_KILL the supervisor cannot stop a command that has changed its user",
            f"add the line {lines[0]}",
            tuple(lines),
            "CAP_KILL is added: the supervisor must stop a command that may change its user",
            ERROR if becomes in _OF_ROOT else WARNING,
        )


def capabilities(unit: UnitText, key: str) -> frozenset[str] | None:
    """The capabilities that a list has; None for all."""
    ours: frozenset[str] | None = None  # those that are listed, or if `denies`, those that are not
    denies = False
    for assignment in unit.assignments:
        if (assignment.section, assignment.key) != ("Service", key):
            continue
        value = assignment.value
        names = frozenset(word.upper() for word in words.split(value.removeprefix("~")))
        if value in ("", "~"):
            ours, denies = (frozenset(), value == "~") if value or key.endswith("BoundingSet") else (None, False)
        elif ours is None:
            ours, denies = names, value.startswith("~")
        elif value.startswith("~") == denies:
            ours |= names
        else:
            ours -= names
    if ours is None:
        return None if key.endswith("BoundingSet") else frozenset()
    return _KNOWN - ours if denies else ours


_KNOWN = frozenset(("CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_CHOWN"))  # those of which we ask


def _addresses(unit: UnitText) -> Iterator[Need]:
    if not allows_unix(unit.values("RestrictAddressFamilies")):
        yield Need(
            "RestrictAddressFamilies",
            "without AF_UNIX the supervisor can neither notify systemd nor receive a reload request",
            "add AF_UNIX to RestrictAddressFamilies=",
            ("RestrictAddressFamilies=AF_UNIX",),
            "AF_UNIX is allowed: systemd and the supervisor communicate through it",
        )


def allows_unix(values: Sequence[str]) -> bool:
    """Whether RestrictAddressFamilies= allows AF_UNIX."""
    allowed: bool | None = None  # whether `listed` is the allowed ones; None: no list yet
    listed: set[str] = set()
    for value in values:
        denies = value.startswith("~")
        families = set(words.split(value.removeprefix("~")))
        if allowed is None:
            allowed = not denies
        if families == {"none"}:
            allowed, listed = True, set()
        else:
            listed = listed | families if allowed != denies else listed - families
    return allowed is None or ("AF_UNIX" in listed) == allowed


def _system_calls(unit: UnitText) -> Iterator[Need]:
    missing = forbidden_calls(unit.values("SystemCallFilter"))
    if missing:
        few = " ".join(missing) if len(missing) < 5 else f"{missing[0]}, {missing[1]} and {len(missing) - 2} more"
        yield Need(
            "SystemCallFilter",
            f"SystemCallFilter= forbids system calls of the supervisor: {few}",
            f"add the line SystemCallFilter={' '.join(missing)}",
            (f"SystemCallFilter={' '.join(missing)}",),
            f"SystemCallFilter allows what the supervisor calls: {few}",
        )
    if (architectures := unit.words("SystemCallArchitectures")) and "native" not in architectures:
        problem = f"SystemCallArchitectures={' '.join(architectures)} may forbid all system calls of the supervisor"
        yield Need(
            "SystemCallArchitectures",
            problem,
            "add native to SystemCallArchitectures=",
            ("SystemCallArchitectures=native",),
            "SystemCallArchitectures has native too: that of the supervisor's Python",
        )


def forbidden_calls(values: Sequence[str]) -> list[str]:
    """The system calls of a supervisor that SystemCallFilter= forbids."""
    if not values:
        return []
    allow_list = not values[0].startswith("~")
    allowed = dict.fromkeys(CALLS, not allow_list)
    for value in values:
        listed = {word.partition(":")[0] for word in words.split(value.removeprefix("~"))}
        for name, groups in CALLS.items():
            if name in listed or not listed.isdisjoint(groups):
                allowed[name] = not value.startswith("~")
    return sorted(name for name, may in allowed.items() if not may)


def _domains(unit: UnitText) -> Iterator[Need]:
    for key, launcher in _OTHER_DOMAINS.items():
        if value := unit.value(key):
            problem = f"{key}={value} is for the program, and would hold for the supervisor and its Python"
            begin = f", and let ExecStart= begin with {launcher} {value.removeprefix('-')}" if launcher else ""
            yield Need(key, problem, f"take it out of the unit{begin}")


def _devices(unit: UnitText) -> Iterator[Need]:
    if unit.value("DevicePolicy") == "strict":
        allowed = [value.split()[0] for value in unit.values("DeviceAllow") if value.split()]
        missing = [path for path in _PSEUDO_DEVICES if path not in allowed]
        if missing:
            yield Need(
                "DevicePolicy",
                f"DevicePolicy=strict forbids {' and '.join(missing)}, which the supervisor opens",
                f"DeviceAllow={missing[0]} rw",
                tuple(f"DeviceAllow={path} rw" for path in missing),
                f"DeviceAllow has {' and '.join(missing)} too: the supervisor opens them",
            )
