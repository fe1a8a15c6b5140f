"""What can be known of an instance without running it: what its unit says, and, by an import in a process of its own,
what its class says."""

import contextlib
import json
import os
import select
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import ConfigError, ExitStatus, SdsuperviseError, ServiceNotLoadable, UnitUnavailable
from ..input.checked import Unfit, flag, line, list_of, parse, tuple_of
from ..input.printable import printable
from ..instances import instance_file, locations
from ..instances.instance import Instance, name_of
from ..linux import prctl, privileges, process_title, processes
from ..linux.inheritance import without_supervisors_own
from ..linux.privileges import Identity
from ..service import description
from ..service.wanted import WantedService, own_options
from ..settings.settings import Settings, check_settings
from ..systemd import manager
from ..workers.command_source import find
from ..workers.other_python_source import command_line
from . import socket_check
from .socket_check import Said

_LOOK_SECONDS = 10.0
_MOST_ANSWER_BYTES = 256 * 1024
_MOST_OUTPUT_BYTES = 256 * 1024  # of what a service writes while it is looked at; more is not shown
_PROPERTIES = ("LoadState", "User", "Group", "WorkingDirectory", "DynamicUser", "TriggeredBy", "Environment")
# Of the environment of whoever asks, what the code of another user gets: where programs and modules are, and how people
# write.
_FOR_ANYBODY = {"PATH", "PYTHONPATH", "LANG", "LANGUAGE", "TZ"}

_FOUND = list_of(tuple_of(line(), flag), 1000)


class RunContext(NamedTuple):
    """Where an instance runs, and as whom, as far as it can be known."""

    unit: str  # "" if systemd knows none
    user: str | None
    group: str | None
    directory: str
    properties: Mapping[str, str]  # of the unit

    @property
    def has_user_of_its_own(self) -> bool:
        """systemd makes one up for it, which is there while it runs; it can do as little as nobody."""
        return self.properties.get("DynamicUser") == "yes"

    @property
    def has_socket_unit(self) -> bool:
        """Which gives it listeners that its file does not list."""
        return ".socket" in self.properties.get("TriggeredBy", "")

    @property
    def environment(self) -> Mapping[str, str]:
        """What its unit sets, and where systemd looks for programs; nothing where there is no unit."""
        path = {"PATH": self.properties["PATH"]} if "PATH" in self.properties else {}
        try:
            words = shlex.split(self.properties.get("Environment", ""))
        except ValueError:  # systemd quotes in ways of its own, too
            words = []
        said = (word.partition("=") for word in words)
        return path | {name: value for name, equals, value in said if equals}

    def opener(self) -> Identity | None:
        """Whom to become to be the supervisor, as identity() for what it runs. Raises as is_somebody_else."""
        user, group = self.properties.get("User") or None, self.properties.get("Group") or None
        if self.has_user_of_its_own:
            user, group = "nobody", None
        return privileges.look_up(user, group) if os.geteuid() == 0 else None

    @property
    def is_somebody_else(self) -> bool:
        """It does not run as who we are.

        Raises ConfigError for a user or group that is not there.
        """
        whom = privileges.look_up(self.user, self.group)
        return whom is not None and (os.geteuid(), os.getegid()) != (whom.uid, whom.gid)

    def identity(self) -> Identity | None:
        """Whom to become to be it; None where that is not needed, or we may not. Raises as is_somebody_else."""
        may = self.is_somebody_else and os.geteuid() == 0
        return privileges.look_up(self.user, self.group) if may else None


def load(file: str) -> tuple[Instance, RunContext]:
    """The instance that a file describes, and where it runs: by its unit, and else by the file.

    The file must be where that unit looks for it: a draft elsewhere is no part of it. Raises as instance_file.read.
    """
    name = name_of(file)
    unit = f"sdsupervise@{name}.service"
    is_installed = os.path.abspath(file) == os.path.join(locations.config_directories()[-1], f"{name}.toml")
    found = _properties(unit) if is_installed else {}
    if found.get("LoadState", "not-found") == "not-found":
        unit, found = "", {}
    started_in = found.get("WorkingDirectory", "").lstrip("!-")
    if not started_in.startswith("/"):
        started_in = "/" if unit else os.getcwd()
    environment = RunContext(unit, None, None, "", found).environment
    instance = instance_file.read(file, started_in=started_in, search=os.get_exec_path({**os.environ, **environment}))
    values = instance.values
    user, group = found.get("User") or values.get("user"), found.get("Group") or values.get("group")
    if found.get("DynamicUser") == "yes":
        user, group = "nobody", None
    return instance, RunContext(unit, user, group, values.get("directory") or started_in, found)


def _properties(unit: str) -> Mapping[str, str]:
    """Those of a unit, and PATH, where systemd looks for the programs of units; none where there is no systemd."""
    try:
        found = manager.properties(unit, *_PROPERTIES, *socket_check.PROPERTIES)
        variables = manager.ask(*manager.systemctl("show-environment")).stdout.split("\n")
    except UnitUnavailable:
        return {}
    return {**found, **dict(line.split("=", 1) for line in variables if line.startswith("PATH="))}


def look(
    instance: Instance, around: RunContext, identity: Identity | None, at: Callable[[], Iterable[Said]]
) -> list[Said]:
    """What is found by this identity, and from where it is to run, in a process that ends with it."""
    answer = os.memfd_create("answer", os.MFD_CLOEXEC)

    def look_there() -> int:
        os.environ.update(around.environment)
        try:
            _enter(around.directory, identity)
            found = list(at())
        except ConfigError as error:
            found = [Said(str(error), True)]
        with open(answer, "w", closefd=False) as file:
            json.dump(found, file)
        return ExitStatus.OK

    try:
        _carry_out(instance.name, look_there, limit_seconds=_LOOK_SECONDS, what=f"Cannot check {instance.name}")
        return [Said(*said) for said in _FOUND(parse(os.pread(answer, _MOST_ANSWER_BYTES, 0)), "")]
    except Unfit:
        raise ServiceNotLoadable(
            f"Cannot check {instance.name}: the process that checks it sent no valid answer."
        ) from None
    finally:
        os.close(answer)


def describe(instance: Instance, around: RunContext, identity: Identity | None) -> dict[str, Any]:
    """What the class says of itself, told what the file says: see cli/other_python.py; settings are checked.

    It is imported by its own interpreter, in a process that ends with it, as this identity (None: as we are; only root
    can be another), and within the time that a reload gives to new code. What the service writes goes to standard
    error, and so does its traceback. Another identity gets nothing of what is private in our environment, and nobody
    gets a descriptor of ours.

    Raises ServiceNotLoadable when it has been said on standard error what is wrong, ConfigError.
    """
    values = instance.values
    arguments = [*own_options(values), *values.get("arguments", ())]
    wanted = WantedService(values["service"], arguments, instance.settings, instance.listen, True, instance.name)
    python = values.get("python") or sys.executable
    answer = os.memfd_create("answer", os.MFD_CLOEXEC)

    def become() -> int:
        directory = _enter(around.directory, identity)
        if identity is not None:
            _forget_environment(identity)
        environment = without_supervisors_own(os.environ)
        environment |= {"PWD": directory, "RUNTIME_DIRECTORY": locations.run_directory(instance.name)}
        environment |= around.environment
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
        os.dup2(2, 1)
        _close_all_but(answer)
        os.set_inheritable(answer, True)
        facts = {"wanted": wanted, "answer": answer, "parent": os.getppid()}
        words = command_line(python, "describe", facts)
        os.execve(find([python]), [words[0], "-B", *words[1:]], environment)  # -B: nothing is changed

    try:
        limit = float(instance.values.get("reload_timeout", Settings().reload_timeout))
        _carry_out(instance.name, become, limit_seconds=limit, what=f"{values['service']} cannot be loaded")
        said = os.pread(answer, description.MOST_BYTES + 1, 0)
    finally:
        os.close(answer)
    facts = _read_description(said, values["service"])
    if facts["supervised"]:
        check_settings(facts["class"], facts["settings"])
    privileges.look_up(facts["user"], facts["group"])
    settings = facts["settings"].items()
    return {**facts, "settings": {key: tuple(said) if isinstance(said, list) else said for key, said in settings}}


def _read_description(said: bytes, target: str) -> dict[str, Any]:
    """What the process of this class has written; raises ServiceNotLoadable where that is no description."""
    try:
        facts = description.read(said or b"{}")
    except Unfit as error:
        what = f"gives an invalid description of itself: {error}" if said else "cannot be loaded, see above"
        raise ServiceNotLoadable(f"{target} {what}.") from None
    if "exit_status" in facts:
        raise ServiceNotLoadable(f"{target} cannot be loaded, see above.")
    return facts


def _forget_environment(identity: Identity) -> None:
    """In a forked child that is somebody else by now: keep of our environment what may be shown to anybody."""
    for name in set(os.environ):
        if name not in _FOR_ANYBODY and not name.startswith("LC_"):
            del os.environ[name]
    privileges.set_login_environment(identity, of_systemd=False)


def _close_all_but(kept: int) -> None:
    """In a forked child: beside this descriptor it keeps standard input, output and error."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != kept:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(fd)


def _enter(directory: str, identity: Identity | None) -> str:
    """In a forked child: be there, as this identity, and no longer than whoever asked; where that is."""
    if identity is not None:
        privileges.become(identity)
    prctl.die_with_parent(os.getppid(), signal.SIGKILL)
    try:
        os.chdir(directory)
    except OSError as error:
        raise ConfigError(f"Cannot change to the directory {directory}: {error.strerror}.") from error
    return os.path.abspath(directory)


def _carry_out(name: str, run: Callable[[], int], *, limit_seconds: float, what: str) -> None:
    """Call it for the instance of this name in a forked child, which says itself what is wrong.

    What it writes is passed on printable: it may be somebody else by then, and the terminal is ours.

    Raises ServiceNotLoadable, with `what` in its sentence, where it does not end well and in time.
    """

    reader, writer = os.pipe()

    def run_aside() -> int:
        os.setsid()
        process_title.introduce(name)
        process_title.show("check")
        os.close(reader)
        for fd in (1, 2):
            os.dup2(writer, fd)
        os.close(writer)
        try:
            return run()
        except SdsuperviseError as error:
            print(error, file=sys.stderr)
            return error.exit_status

    child = processes.fork(run_aside)
    os.close(writer)
    try:
        overdue = not _pass_on(reader, child, limit_seconds)
        if overdue:
            processes.signal_group(child, signal.SIGKILL)
        _, status = os.waitpid(child.pid, 0)
    finally:
        os.close(reader)
        os.close(child.pidfd)
    if overdue:
        raise ServiceNotLoadable(f"{what} within {limit_seconds:g} s (reload_timeout).")
    if status:
        raise ServiceNotLoadable(f"{what}: its process {processes.exit_in_words(status)}.")


def _pass_on(reader: int, child: processes.Child, limit_seconds: float) -> bool:
    """Print what comes, up to the child's end; False where that does not come in time."""
    os.set_blocking(reader, False)
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    poller.register(child.pidfd, select.POLLIN)
    left, deadline = _MOST_OUTPUT_BYTES, time.monotonic() + limit_seconds
    while ready := dict(poller.poll(1000 * max(0.0, deadline - time.monotonic()))):
        data = _read(reader) if reader in ready else b""
        if not data and child.pidfd in ready:
            return True
        if not data:
            poller.unregister(reader)  # its end; the child has closed what it was given
        print(printable(data[:left].decode(errors="replace")), end="", file=sys.stderr, flush=True)
        left = max(0, left - len(data))
    return False


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except BlockingIOError:
        return b""
