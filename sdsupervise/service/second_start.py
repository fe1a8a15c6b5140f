"""A start that finds the service already running: it reloads the service, or is refused.

A script that is started twice reloads the service, as in App::Base::Daemon. Under systemd a second start is an error:
with exit status 0, Restart=always would reload the running service again and again. A second start of an instance that
a unit runs is refused, because it would not apply what the unit says.

A start as root may find files and sockets of other users. It trusts a control socket only if root, its own user or the
service's user listens there, and a pid file only if the file's owner could signal that pid anyway.
"""

import logging
import os
import signal
import sys
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..control import client
from ..errors import AlreadyRunning, HandoverError, NotPermitted, NotRunning, ProtocolError, UnitUnavailable
from ..linux import process_title, processes, signals
from ..linux.pid_file import PidFile

_log = logging.getLogger("sdsupervise")

_ANSWER_SECONDS = 5.0  # for the answer of a supervisor's event loop
_MOST_BYTES = 2**21  # of a command line; the process may belong to any user


class Start(NamedTuple):
    """The service that is about to start."""

    name: str
    pid_file: str | None
    is_instance: bool  # it has a file in a directory of instances
    may_reload: bool  # may reload the running service, instead of a refusal
    users: Collection[int]  # uids that may run the supervisor

    def already_running(self) -> AlreadyRunning:
        """The error for a service that already runs."""
        what = self.pid_file or "its lock"
        return AlreadyRunning(f"Couldn't lock {what}. Is another copy of this daemon already running?")


def refuse_beside_unit(name: str) -> None:
    """Refuse to start an instance by hand if systemd runs it.

    Raises AlreadyRunning.
    """
    if not os.path.isdir("/run/systemd/system"):
        return
    from ..instances import locations
    from ..systemd import manager  # imported here because few starts need it

    unit = f"sdsupervise@{name}.service"
    of_user = locations.is_users_own(name)
    try:
        state = manager.properties(unit, "ActiveState", of_user=of_user)["ActiveState"]
    except UnitUnavailable:
        return  # the caller asks on the control socket next
    if state in manager.ACTIVE:
        raise _run_by(unit, name, of_user=of_user)


def ask_running(start: Start, path: str) -> bool:
    """Ask the supervisor on this control socket to reload. Returns False if nothing listens there.

    Raises AlreadyRunning if the service runs and this start may not reload it.
    """
    try:
        caller = client.Client.connect(path, timeout_seconds=_ANSWER_SECONDS)
    except NotRunning:
        return False
    try:
        if caller.listener_uid not in start.users:
            raise AlreadyRunning(
                f"Uid {caller.listener_uid} listens on {path} and is not a user of this service: not starting. "
                f"Choose a --pid-file in a directory that only the service's user and root may write."
            )
        facts = caller.status().parameters
        name = facts["name"]
        if _known_as(name, facts["pid_file"]) != _known_as(start.name, start.pid_file):
            raise AlreadyRunning(
                f"Another service, {name}, listens on {path}; give each a RuntimeDirectory of its own."
            )
        if start.is_instance:
            _refuse_where_unit_runs(start, facts)
        if not start.may_reload:
            raise start.already_running()
        answer = next(caller.call("Reload", more=True))
    except (HandoverError, ProtocolError) as error:
        raise AlreadyRunning(f"{start.already_running()} {error}") from error
    finally:
        caller.close()
    if answer.error == "ReloadRefused":
        raise AlreadyRunning(f"Daemon is already running: {answer.parameters['reason']}")
    _log.warning("Daemon is already running, initiated hot reload")
    return True


def signal_running(start: Start, pid_file: PidFile) -> bool:
    """Send SIGUSR2 to the lock's holder, which has no control socket that we can find. Returns whether it was sent.

    Raises AlreadyRunning if the pid file is not trustworthy, NotPermitted if we may not signal the process.
    """
    pid = pid_file.read_pid()
    if not start.may_reload or pid is None:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # A worker can hold the lock of a dead supervisor, whose pid may belong to any process by now.
        if not _looks_like_us(pid, start.name):
            return False
        owner = pid_file.owner()
        if owner not in (0, os.geteuid(), processes.uid_of(pid)):
            raise AlreadyRunning(
                f"{pid_file.name} belongs to uid {owner} and names pid {pid}, which is not a process of that user: "
                "not signalling it. Remove the file if nothing of yours uses it, or choose another --pid-file."
            )
        if not signals.send(pidfd, signal.SIGUSR2):
            raise NotPermitted(f"Daemon is already running as pid {pid}, and there is no permission to signal it.")
        _log.warning("Daemon is already running, initiated hot reload")
        return True
    finally:
        os.close(pidfd)


def _refuse_where_unit_runs(start: Start, facts: Mapping[str, Any]) -> None:
    from ..systemd.units import unit_of

    unit, of_user = unit_of(facts["pid"])
    if unit:
        raise _run_by(unit, start.name, of_user=of_user)


def _run_by(unit: str, name: str, *, of_user: bool) -> AlreadyRunning:
    from ..systemd import manager

    reload = " ".join(manager.systemctl("reload", unit, of_user=of_user))
    return AlreadyRunning(f"{unit} already runs {name}: not started. To move it to new code: {reload}")


def _known_as(name: str, pid_file: str | None) -> str:
    """What distinguishes services with the same control socket path; a directory can be spelled in many ways."""
    return os.path.basename(pid_file or "") or name


def _looks_like_us(pid: int, name: str) -> bool:
    """By its title where it shows one, and else by the command line that it was started with."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read(_MOST_BYTES)
    except OSError:
        return False
    return process_title.is_of(arguments, name) or os.fsencode(os.path.basename(sys.argv[0])) in arguments
