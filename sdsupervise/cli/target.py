"""Selects the supervisors that a command talks to: by name, by pid file, or by the unit around it."""

import argparse
import os
from collections.abc import Collection

from ..control.client import control_path, runtime_directory
from ..errors import NotRunning, SdsuperviseError, UsageError
from ..input.nearest import did_you_mean
from ..instances import locations
from ..systemd import manager


def add_arguments(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add NAME, or several of them, and --pid-file."""
    if several:
        parser.add_argument("names", nargs="*", metavar="NAME", help="an instance, or its unit")
    else:
        parser.add_argument("name", nargs="?", metavar="NAME", help="the instance, or its unit")
    parser.add_argument("--pid-file", metavar="PATH", help="the instance with this pid file")


def socket_path(parsed: argparse.Namespace) -> str:
    """The control socket of the selected instance.

    Raises UsageError if none or two are named.
    """
    names = _names(parsed)
    if len(names) + bool(parsed.pid_file) > 1:
        raise UsageError("Name one instance: NAME or --pid-file, not both.")
    if names:
        return locations.control_socket(names[0])
    if parsed.pid_file:
        beside = control_path(parsed.pid_file, {})
        in_same_directory = os.path.join(os.path.dirname(parsed.pid_file), "control")
        return beside if os.path.exists(beside) or not os.path.exists(in_same_directory) else in_same_directory
    if runtime_directory():
        return control_path(None)
    raise UsageError("Name an instance: NAME or --pid-file (inside a unit, $RUNTIME_DIRECTORY names it).")


def paths(parsed: argparse.Namespace, *, otherwise_all: bool) -> dict[str, str]:
    """The control sockets of the selected instances, by name; "" is the name of one that was not named.

    Raises UsageError if a name and a pid file are given, or none of them and not `otherwise_all`.
    """
    names = _names(parsed)
    if otherwise_all and not (names or parsed.pid_file or runtime_directory()):
        return all_paths()
    if parsed.pid_file or not names:
        return {"": socket_path(parsed)}
    return locations.control_sockets(names)


def all_paths() -> dict[str, str]:
    """The control sockets of all running instances, by name."""
    return locations.control_sockets(locations.running())


def named_by(parsed: argparse.Namespace) -> str:
    """The first instance that a command line names; "" if none."""
    return next(iter(_names(parsed)), "")


def explain(error: SdsuperviseError, name: str) -> str:
    """What an error says to an operator: of an instance that is not running, also what to do now."""
    if not isinstance(error, NotRunning) or not name:
        return str(error)
    configured = locations.configured()
    if name not in configured:
        return f"{error}{did_you_mean(name, [*locations.running(), *configured])}"
    said = failed([name]).get(name)
    if said is not None:
        return f"{name} is not running. It has failed: {said.rstrip('.')}. '{systemctl('status', name)}' shows more."
    return f"{name} is not running. Start it: {systemctl('start', name)}"


def systemctl(verb: str, name: str) -> str:
    """The systemctl command for an instance, to be typed."""
    return " ".join(manager.systemctl(verb, f"sdsupervise@{name}", of_user=locations.is_users_own(name)))


def failed(names: Collection[str]) -> dict[str, str]:
    """Those of these instances whose unit has failed, each with its last STATUS= or Result."""
    from ..unitfiles.host import failures

    found: dict[str, str] = {}
    for of_user in (False, True):
        units = {f"sdsupervise@{name}.service": name for name in names if locations.is_users_own(name) is of_user}
        found |= {units[unit]: said for unit, said in failures(units, of_user=of_user).items()}
    return found


def _names(parsed: argparse.Namespace) -> list[str]:
    given = getattr(parsed, "names", None) or [name for name in (getattr(parsed, "name", None),) if name]
    return list(dict.fromkeys(locations.instance_name(name) for name in given))
