"""Learns about an instance without running it: from its unit, and from its class, imported in a separate process."""

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

_LOOK_SECONDS = 10.0  # for one check in a child process
_MOST_ANSWER_BYTES = 256 * 1024
_MOST_OUTPUT_BYTES = 256 * 1024  # shown of what the service writes during its import
_PROPERTIES = ("LoadState", "User", "Group", "WorkingDirectory", "DynamicUser", "TriggeredBy", "Environment")
# Variables of our environment that the code of another user gets: paths of programs and modules, language, time zone.
_FOR_ANYBODY = {"PATH", "PYTHONPATH", "LANG", "LANGUAGE", "TZ"}

_FOUND = list_of(tuple_of(line(), flag), 1000)


class RunContext(NamedTuple):
    """Where and as whom an instance runs, as far as that is known."""

    unit: str  # "" if systemd knows no unit
    user: str | None
    group: str | None
    directory: str
    properties: Mapping[str, str]  # the unit's properties

    @property
    def has_user_of_its_own(self) -> bool:
        """Whether systemd allocates a user while the service runs (DynamicUser=). "nobody" has similar rights."""
        return self.properties.get("DynamicUser") == "yes"

    @property
    def has_socket_unit(self) -> bool:
        """Whether a .socket unit passes listeners that its file does not list."""
        return ".socket" in self.properties.get("TriggeredBy", "")

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of its unit, and systemd's PATH for programs; empty if there is no unit."""
        path = {"PATH": self.properties["PATH"]} if "PATH" in self.properties else {}
        try:
            words = shlex.split(self.properties.get("Environment", ""))
        except ValueError:  # systemd also has quoting that shlex does not know
            words = []
        said = (word.partition("=") for word in words)
        return path | {name: value for name, equals, value in said if equals}

    def opener(self) -> Identity | None:
        """The identity of the supervisor; None if no change is needed or possible.

        Raises ConfigError for an unknown user or group.
        """
        user, group = self.properties.get("User") or None, self.properties.get("Group") or None
        if self.has_user_of_its_own:
            user, group = "nobody", None
        return privileges.look_up(user, group) if os.geteuid() == 0 else None

    @property
    def is_somebody_else(self) -> bool:
        """Whether it runs as another user or group than this process.

        Raises ConfigError for an unknown user or group.
        """
        whom = privileges.look_up(self.user, self.group)
        return whom is not None and (os.geteuid(), os.getegid()) != (whom.uid, whom.gid)

    def identity(self) -> Identity | None:
        """The identity of the service; None if no change is needed or possible.

        Raises ConfigError for an unknown user or group.
        """
        may = self.is_somebody_else and os.geteuid() == 0
        return privileges.look_up(self.user, self.group) if may else None


def load(file: str) -> tuple[Instance, RunContext]:
    """The instance that a file describes, and its RunContext: from its unit, and else from the file.

    The unit counts only if the file is where the unit reads it; a draft elsewhere has no unit. Raises the errors of
    instance_file.read.
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
    """The properties of a unit, with PATH of systemd's own environment; empty if there is no systemd."""
    try:
        found = manager.properties(unit, *_PROPERTIES, *socket_check.PROPERTIES)
        variables = manager.ask(*manager.systemctl("show-environment")).stdout.split("\n")
    except UnitUnavailable:
        return {}
    return {**found, **dict(line.split("=", 1) for line in variables if line.startswith("PATH="))}


def look(
    instance: Instance, around: RunContext, identity: Identity | None, at: Callable[[], Iterable[Said]]
) -> list[Said]:
    """The findings of `at`, called in a child process with this identity and the instance's directory.

    Raises ServiceNotLoadable if the child fails or takes too long.
    """
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
    """The description of the instance's class with the instance's values; see cli/other_python.py.

    Its settings are checked. The class's own interpreter imports it in a child process, as this identity (None: as this
    process; only root can change), and within reload_timeout. The output of the service, and a traceback, go to
    standard error. Another identity gets no private variables of our environment, and no child gets our descriptors.

    Raises ServiceNotLoadable, after the reason is on standard error; ConfigError.
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
        os.execve(find([python]), [words[0], "-B", *words[1:]], environment)  # -B writes no bytecode files

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
    """The checked output of `describe`'s process.

    Raises ServiceNotLoadable if it is no description.
    """
    try:
        facts = description.read(said or b"{}")
    except Unfit as error:
        what = f"gives an invalid description of itself: {error}" if said else "cannot be loaded, see above"
        raise ServiceNotLoadable(f"{target} {what}.") from None
    if "exit_status" in facts:
        raise ServiceNotLoadable(f"{target} cannot be loaded, see above.")
    return facts


def _forget_environment(identity: Identity) -> None:
    """Remove all private variables from the environment, in a child that has another identity."""
    for name in set(os.environ):
        if name not in _FOR_ANYBODY and not name.startswith("LC_"):
            del os.environ[name]
    privileges.set_login_environment(identity, of_systemd=False)


def _close_all_but(kept: int) -> None:
    """Close all descriptors in a child except this one and standard input, output and error."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != kept:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.close(fd)


def _enter(directory: str, identity: Identity | None) -> str:
    """Take the identity and the directory, in a child that dies with its parent. Returns the absolute directory.

    Raises ConfigError if the directory cannot be entered.
    """
    if identity is not None:
        privileges.become(identity)
    prctl.die_with_parent(os.getppid(), signal.SIGKILL)
    try:
        os.chdir(directory)
    except OSError as error:
        raise ConfigError(f"Cannot change to the directory {directory}: {error.strerror}.") from error
    return os.path.abspath(directory)


def _carry_out(name: str, run: Callable[[], int], *, limit_seconds: float, what: str) -> None:
    """Call `run` in a child, and pass its output on as printable text: the child may have another identity.

    `name` is the instance's, for the title of the child. An SdsuperviseError is printed in the child.

    Raises ServiceNotLoadable, with `what` in its sentence, if the child fails or takes too long.
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
    """Print the child's output until its end. Returns False if the time limit passes first."""
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
            poller.unregister(reader)  # end of file: the child has closed it
        print(printable(data[:left].decode(errors="replace")), end="", file=sys.stderr, flush=True)
        left = max(0, left - len(data))
    return False


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except BlockingIOError:
        return b""
