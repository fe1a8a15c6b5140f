"""The rules of lint(): each checks one kind of setting."""

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence

from ..input.checked import MOST_COUNT, decimal
from ..settings.check_words import may_ask_old_code
from ..settings.listen import count_sockets
from ..settings.settings import RESTARTS, Settings
from . import gunicorn_file, words
from .drop_in import since_wrap
from .finding import ERROR, WARNING, Finding
from .lifecycle import exit_statuses
from .rotation import about, instead, signal_in
from .sandbox import needs
from .since import SINCE
from .subject import Subject, option, reloads, reloads_by_us

_CREDENTIALS = (
    *("LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"),
    "ImportCredential",
)
_TARGET = re.compile(r"[\w./-]+:[A-Za-z_]\w*|\S+\.py")  # a TARGET of `sdsupervise run`


def _type(subject: Subject) -> Iterator[Finding]:
    kind = subject.unit.value("Type", "simple")
    if kind == "notify-reload":
        yield Finding(
            "Type", "Type=notify-reload cannot report that a reload failed", "Type=notify, and ExecReload= that waits"
        )
    elif kind != "notify":
        yield Finding(
            "Type",
            f"with Type={kind} systemd does not learn when it is ready, nor which process is the main one",
            "Type=notify",
        )


def _notify_access(subject: Subject) -> Iterator[Finding]:
    access = subject.unit.value("NotifyAccess", "main")
    if access == "none":
        yield Finding("NotifyAccess", "with NotifyAccess=none systemd ignores its notifications", "NotifyAccess=main")
    elif access == "all":
        yield Finding(
            "NotifyAccess",
            "with NotifyAccess=all any process of the unit can report a stop, or hide that the supervisor hangs",
            "NotifyAccess=main",
            WARNING,
        )


def _kill_mode(subject: Subject) -> Iterator[Finding]:
    mode = subject.unit.value("KillMode", "control-group")
    if mode in ("process", "none"):
        yield Finding("KillMode", f"KillMode={mode} leaves processes behind", "KillMode=mixed")
    elif mode != "mixed":
        yield Finding(
            "KillMode",
            f"KillMode={mode} stops workers, and all processes that they have started, without the supervisor",
            "KillMode=mixed",
            WARNING,
        )
    if not subject.unit.flag("SendSIGKILL", default=True):
        yield Finding("SendSIGKILL", "SendSIGKILL=no leaves hanging processes behind", "SendSIGKILL=yes")
    if subject.unit.flag("SendSIGHUP"):
        yield Finding("SendSIGHUP", "the supervisor passes the SIGHUP of SendSIGHUP=yes on", "SendSIGHUP=no", WARNING)
    for key in ("KillSignal", "RestartKillSignal"):
        number = subject.unit.value(key, "SIGTERM")
        if number.removeprefix("SIG") not in ("TERM", "15"):
            fix = f"{key}=SIGTERM (the signal that stops a command is --stop-signal)"
            yield Finding(key, f"a supervisor is stopped by SIGTERM, and not by {number}", fix)


def _exec_reload(subject: Subject) -> Iterator[Finding]:
    fix = f"ExecReload={subject.start.privileged}{_program(subject.start)} reload"
    given = reloads(subject.unit)
    ours = [command for command in given if reloads_by_us(command)]
    if not given:
        yield Finding("ExecReload", "it has no ExecReload=, so systemctl reload does nothing", fix)
    elif not ours:
        yield Finding("ExecReload", f"ExecReload={words.joined(given[0].words)} does not wait for the verdict", fix)
    for command in ours:
        if "-" in command.prefixes:
            yield Finding("ExecReload", 'with the "-" before it, a failed reload looks like a success', fix)
        if command.privileged != subject.start.privileged:
            yield Finding(
                "ExecReload",
                "its privileges differ from those of ExecStart=, and the new supervisor, its child, would have them",
                fix,
            )


def _program(command: words.Exec) -> str:
    return command.words[0] if os.path.basename(command.words[0]) == "sdsupervise" else "/usr/bin/sdsupervise"


def _main_process(subject: Subject) -> Iterator[Finding]:
    unit = subject.unit
    if unit.value("PIDFile"):
        yield Finding(
            "PIDFile", "PIDFile= has systemd take an old supervisor for the main process after a reload", "PIDFile="
        )
    if unit.flag("PrivatePIDs"):
        yield Finding(
            "PrivatePIDs",
            "with PrivatePIDs=yes the new supervisor's pid is not what systemd knows it by",
            "PrivatePIDs=no",
        )
    if unit.value("ExitType") == "cgroup":
        yield Finding(
            "ExitType",
            "ExitType=cgroup hides a dead supervisor as long as a process that it started lives",
            "ExitType=main",
            WARNING,
        )
    if unit.flag("RemainAfterExit"):
        yield Finding("RemainAfterExit", "RemainAfterExit=yes shows a dead service as active", "RemainAfterExit=no")
    if "--daemonize" in subject.start.words[: _end_of_options(subject.start)]:
        yield Finding("ExecStart", "--daemonize hides the supervisor from systemd", "take --daemonize away")
    user, of_unit = subject.user, unit.value("User", "root")
    if user and unit.flag("DynamicUser") and of_unit == "root":
        problem = f"only root can change to user {user}; it stays the user that systemd makes"
        yield Finding("DynamicUser", problem, f"DynamicUser=no and User={user}", WARNING)
    elif user and of_unit not in ("root", "0", user):
        problem = f"only root can change to user {user}; it stays {of_unit}"
        yield Finding("User", problem, f"User={user}, or none", WARNING)
    elif user and of_unit != user and unit.flag("PrivateUsers"):
        yield Finding("PrivateUsers", "with PrivateUsers=yes not even root can change to another user", f"User={user}")


def _sandbox(subject: Subject) -> Iterator[Finding]:
    for need in needs(subject.unit, subject.start, subject.host.own, becomes=subject.user):
        yield need.finding


def _credentials(subject: Subject) -> Iterator[Finding]:
    unit, user = subject.unit, subject.user
    if not user or unit.flag("DynamicUser") or unit.value("User", "root") not in ("root", "0") or user in ("root", "0"):
        return
    for key in _CREDENTIALS:
        if unit.values(key):
            problem = f"what {key}= gives is for root alone, and the service becomes user {user}, which may not read it"
            yield Finding(key, problem, f"User={user}")


def _end_of_options(command: words.Exec) -> int:
    return command.words.index("--") if "--" in command.words else len(command.words)


def _timeouts(subject: Subject) -> Iterator[Finding]:
    unit, settings = subject.unit, subject.settings or Settings()
    both = unit.value("TimeoutSec")
    for key, needed, meaning in (
        ("TimeoutStartSec", settings.reload_timeout + settings.takeover_timeout, "reload_timeout and takeover_timeout"),
        ("TimeoutStopSec", settings.stop_timeout, "stop_timeout"),
    ):
        # systemd's default; an administrator may have changed it.
        limit = unit.seconds(key, unit.seconds("TimeoutSec", 90.0) if both else 90.0)
        if limit == 0 or math.isinf(limit):
            yield Finding(
                key,
                f"{key}= without a limit makes systemd wait for ever for a supervisor that hangs",
                f"{key}=90",
                WARNING,
            )
        elif limit <= needed:
            yield Finding(
                key,
                f"{key}={limit:g} is not above the service's {meaning} ({needed:g}), so systemd kills a supervisor "
                f"that is too busy to ask for more time",
                f"{key}={math.ceil(needed + 30):d}",
                WARNING,
            )


def _sockets(subject: Subject) -> Iterator[Finding]:
    unit = subject.unit
    room = decimal(unit.value("FileDescriptorStoreMax"), MOST_COUNT) or 0
    listens = subject.settings.listen if subject.settings is not None else None
    needed = count_sockets(listens) if listens is not None else 1
    if room < needed:
        what = "no listening socket" if not room else f"only {room} of {needed} listening sockets"
        yield Finding(
            "FileDescriptorStoreMax",
            f"systemd keeps {what} open when the supervisor is killed or restarted",
            f"FileDescriptorStoreMax={max(16, needed)}",
            WARNING,
        )


def _runtime_directory(subject: Subject) -> Iterator[Finding]:
    unit = subject.unit
    directories = [expanded(unit.name, word) for word in unit.words("RuntimeDirectory")]
    name = expanded(unit.name, "%N")
    wanted = f"sdsupervise/{name.removeprefix('sdsupervise@')}"
    fix = "RuntimeDirectory=sdsupervise/%i" if name.startswith("sdsupervise@") else "RuntimeDirectory=sdsupervise/%N"
    if not directories:
        yield Finding("RuntimeDirectory", "sdsupervise reload has no directory in which it finds the supervisor", fix)
    elif wanted not in directories:
        yield Finding(
            "RuntimeDirectory",
            f"sdsupervise status {name} and other commands look for it in /run/{wanted}",
            fix,
            WARNING,
        )
    for other, others in subject.host.runtime_directories.items():
        shared = [theirs for theirs in others if any(_is_within(theirs, ours) for ours in directories)]
        if shared and other != unit.name:
            problem = f"{other} has RuntimeDirectory={shared[0]}, and the first to stop deletes it for both"
            yield Finding("RuntimeDirectory", problem, fix)


def _is_within(one: str, other: str) -> bool:
    """Whether one directory is the same as the other one, or contains it."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def expanded(unit_name: str, text: str) -> str:
    """The text with the specifiers for the unit's name replaced; other specifiers stay."""
    name = unit_name.rpartition(".")[0]
    prefix, _, instance = name.partition("@")
    for specifier, value in (("%n", unit_name), ("%N", name), ("%p", prefix), ("%i", instance), ("%I", instance)):
        text = text.replace(specifier, value)
    return text


def _restart(subject: Subject) -> Iterator[Finding]:
    unit = subject.unit
    restart = unit.value("Restart", "no")
    settings = subject.settings or Settings()
    wanted = settings.restart
    if restart in RESTARTS[: RESTARTS.index(wanted)]:
        problem = f"with Restart={restart} systemd starts it again in cases in which --restart {wanted} ends it"
        yield Finding("Restart", problem, f"Restart={wanted}")
    elif restart != wanted:
        problem = f"with Restart={restart} a dead supervisor may not start again, and the service stays down"
        yield Finding("Restart", problem, f"Restart={wanted}", ERROR if restart == "no" else WARNING)
    listed = set(exit_statuses(unit, "RestartPreventExitStatus")[0])
    if restart == "on-failure":
        listed |= {0, *exit_statuses(unit, "SuccessExitStatus")[0]}
    missing = " ".join(map(str, sorted({*settings.restart_prevent} - listed)))
    if missing and restart != "on-abnormal":
        problem = f"systemd starts it again after exit status {missing}, but --restart-prevent ends it then"
        yield Finding("RestartPreventExitStatus", problem, f"RestartPreventExitStatus={missing}", WARNING)
    if "78" not in unit.words("RestartPreventExitStatus") and "CONFIG" not in unit.words("RestartPreventExitStatus"):
        yield Finding(
            "RestartPreventExitStatus",
            "a service that cannot be loaded (78) is started again and again",
            "RestartPreventExitStatus=78",
            WARNING,
        )
    if not {"SIGTERM", "TERM"} & set(unit.words("SuccessExitStatus")):
        yield Finding(
            "SuccessExitStatus",
            "a stop just when a reload begins leaves the unit failed",
            "SuccessExitStatus=SIGTERM",
            WARNING,
        )
    if unit.value("OOMPolicy", "stop") != "continue":
        problem = "if the kernel kills one worker for memory, the whole service stops"
        yield Finding("OOMPolicy", problem, "OOMPolicy=continue", WARNING)
    if not unit.seconds("WatchdogSec", 0.0):
        yield Finding("WatchdogSec", "nobody notices a supervisor that hangs", "WatchdogSec=30", WARNING)


def _stop(subject: Subject) -> Iterator[Finding]:
    for value in subject.unit.values("ExecStop"):
        yield Finding(
            "ExecStop",
            f"ExecStop={value} does not run if the stop comes during a reload",
            "ExecStop= (SIGTERM stops the supervisor, and the supervisor stops the workers)",
            WARNING,
        )


def _directory(subject: Subject) -> Iterator[Finding]:
    place = subject.unit.value("WorkingDirectory").removeprefix("-")
    takes_it = "--" in subject.start.words or any(map(_TARGET.fullmatch, subject.start.words))
    if place not in ("", "~") and takes_it and not option(subject.start, "--directory"):
        yield Finding(
            "WorkingDirectory",
            "a reload that systemd does not start keeps the directory to which a symlink led at the start",
            f"--directory {place} in ExecStart=",
            WARNING,
        )


def _gunicorn(subject: Subject) -> Iterator[Finding]:
    yield from gunicorn_file.in_vain(subject.start.words[_end_of_options(subject.start) + 1 :])


def _rotations(subject: Subject) -> Iterator[Finding]:
    for place, command in about(subject.unit, subject.host.rotations):
        number = signal_in(command)
        if not number:
            continue
        fix = instead(subject.unit, number)
        if "systemctl" in command and "--kill-who" not in command:
            problem = f"{place} sends SIG{number} to every process of the unit, which kills a worker without a handler"
            yield Finding("logrotate", problem, fix, WARNING)
        elif ".pid" in command and "/run/sdsupervise/" not in command:
            problem = f"{place} sends SIG{number} to the process in a pid file that the supervisor does not write"
            yield Finding("logrotate", problem, fix, WARNING)


def _before_commit(subject: Subject) -> Iterator[Finding]:
    remark = may_ask_old_code(subject.settings) if subject.settings is not None else None
    if remark:
        yield Finding("ExecStart", *remark, WARNING)


def _since_wrap(subject: Subject) -> Iterator[Finding]:
    yield from since_wrap(subject.unit)


def _unknown_keys(subject: Subject) -> Iterator[Finding]:
    version, known = subject.host.version, subject.host.known
    if not known:
        return
    for section, key, *_ in dict.fromkeys((a.section, a.key) for a in subject.unit.assignments):
        if (section, key) in known or section.startswith("X-") or key.startswith("X-"):
            continue
        since = SINCE.get(key)
        fix = f"it needs systemd {since}" if since and since > version else "check its spelling and its section"
        yield Finding(key, f"systemd {version} ignores {key}= in [{section}]", fix, WARNING)


RULES: Sequence[Callable[[Subject], Iterator[Finding]]] = (
    *(
        _type,
        _notify_access,
        _exec_reload,
        _main_process,
        _sandbox,
        _credentials,
        _kill_mode,
        _runtime_directory,
        _sockets,
        _restart,
    ),
    *(_timeouts, _stop, _directory, _gunicorn, _rotations, _before_commit, _since_wrap, _unknown_keys),
)
