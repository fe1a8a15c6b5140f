"""The unit of an instance, and changes in it, as systemd reports them.

Any user who owns the directory of a control socket can answer on it. So the unit of an instance is the one whose main
process has answered, by the kernel's and systemd's information: nothing of this comes from the answer.
"""

import os
from itertools import chain
from typing import NamedTuple

from ..errors import HandoverError, UnitUnavailable
from ..linux.channel import Sender
from ..systemd import manager
from ..systemd.units import unit_of
from .process_usage import started_at

_PROPERTIES = (
    *("Id", "ActiveState", "MainPID", "ControlPID", "CanReload", "NeedDaemonReload"),
    *("FragmentPath", "DropInPaths", "EnvironmentFiles", "RuntimeDirectory"),
)


class Unit(NamedTuple):
    """A unit, and its present state in systemd."""

    name: str
    of_user: bool  # a unit of this user's own systemd
    is_active: bool
    main_pid: int
    runs_exec_reload: bool  # an ExecReload= process runs now
    can_reload: bool
    needs_daemon_reload: bool
    files: tuple[str, ...]  # the files of the unit, and of its environment
    run_directories: tuple[str, ...]

    def command(self, verb: str) -> list[str]:
        """The systemctl command for this unit."""
        return manager.systemctl(verb, self.name, of_user=self.of_user)

    @property
    def is_around_us(self) -> bool:
        """Whether this process belongs to the unit."""
        return unit_of(os.getpid()) == (self.name, self.of_user)

    def what_changed(self, since: float | None) -> str:
        """What has changed since a process was started (seconds of the epoch), as a phrase; "" if nothing is known."""
        if self.needs_daemon_reload:
            return f"{self.name} has changed on disk, and systemd has not read it yet"
        written = next((file for file in self.files if since is not None and _written_at(file) > since), "")
        return f"{written} is newer than what runs" if written else ""


def is_others(sender: Sender) -> bool:
    """Whether the process belongs to the systemd of another user, which does not answer us."""
    unit, of_user = unit_of(sender.pid)
    return bool(unit) and of_user and sender.uid != os.geteuid()


def find(sender: Sender, path: str) -> Unit | None:
    """The unit whose main process has answered on this control socket; None if no unit runs that process.

    Raises HandoverError if a unit runs the instance and another process answered; UnitUnavailable.
    """
    name, of_user = unit_of(sender.pid)
    directory = os.path.realpath(os.path.dirname(path))
    own = _read(name, of_user=of_user) if name else None
    # First the units by the socket's place: a user who owns the directory can answer from the main process of another.
    others = (_read(other, of_user=_is_users_own(path)) for other in _by_place(path) if other != name)
    for unit in chain([own] if own is not None else [], others):
        if not unit.is_active or directory not in map(os.path.realpath, unit.run_directories):
            continue
        if unit.main_pid == sender.pid:
            return unit
        raise HandoverError(
            f"Pid {sender.pid} answers on {path}, and the main process of {unit.name} is pid {unit.main_pid}: not "
            f"asking it. To have systemd reload the unit: {' '.join(unit.command('reload'))}"
        )
    return own if own is not None and own.main_pid == sender.pid else None


def changes_of(sender: Sender, path: str) -> str:
    """The changes of the unit that an instance lacks, as a phrase; "" if there is no unit or no systemd."""
    if not manager.runs_this_machine() or is_others(sender):
        return ""
    try:
        unit = find(sender, path)
    except (HandoverError, UnitUnavailable):
        return ""
    return unit.what_changed(started_at(sender.pid)) if unit is not None else ""


def _read(name: str, *, of_user: bool) -> Unit:
    found = manager.properties(name, *_PROPERTIES, of_user=of_user)
    top = os.environ.get("XDG_RUNTIME_DIR", "") if of_user else "/run"
    environment_files = [line.rpartition(" (")[0] for line in found["EnvironmentFiles"].splitlines()]
    files = (found["FragmentPath"], *found["DropInPaths"].split(), *environment_files)
    return Unit(
        found["Id"],
        of_user,
        found["ActiveState"] in manager.ACTIVE,
        int(found["MainPID"]) if found["MainPID"].isdecimal() else 0,
        found["ActiveState"] == "reloading" and found["ControlPID"] != "0",
        found["CanReload"] == "yes",
        found["NeedDaemonReload"] == "yes",
        tuple(file for file in files if file),
        tuple(os.path.join(top, directory) for directory in found["RuntimeDirectory"].split()),
    )


def _by_place(path: str) -> list[str]:
    """The units that this control socket may belong to, by its directory: sdsupervise@NAME, and NAME."""
    directory = os.path.dirname(os.path.abspath(path))
    if os.path.dirname(directory) not in ("/run/sdsupervise", _users_directory()):
        return []
    name = os.path.basename(directory)
    return [f"sdsupervise@{name}.service", f"{name}.service"]


def _is_users_own(path: str) -> bool:
    return os.path.dirname(os.path.dirname(os.path.abspath(path))) == _users_directory()


def _users_directory() -> str:
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    return os.path.join(own, "sdsupervise") if own else ""


def _written_at(file: str) -> float:
    """The change time of a file; packages and rsync preserve an old modification time. 0 if it is gone."""
    try:
        return os.stat(file).st_ctime
    except OSError:
        return 0.0
