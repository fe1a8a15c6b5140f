"""Which supervisor a command talks to: by name, by pid file, or the unit it runs in."""

import argparse
import os

from .. import places
from ..client import control_path, runtime_directory
from ..errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """NAME and --pid-file."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="the instance, or its unit")
    parser.add_argument("--pid-file", metavar="PATH", help="the instance with this pid file")


def socket_path(parsed: argparse.Namespace) -> str:
    """The control socket of the instance meant.

    Raises UsageError where none or two are named.
    """
    if parsed.name and parsed.pid_file:
        raise UsageError("Name one instance: NAME or --pid-file, not both.")
    if parsed.name:
        return os.path.join(places.run_directory(places.instance_name(parsed.name)), "control")
    if parsed.pid_file:
        beside = control_path(parsed.pid_file, {})
        in_same_directory = os.path.join(os.path.dirname(parsed.pid_file), "control")
        return beside if os.path.exists(beside) or not os.path.exists(in_same_directory) else in_same_directory
    if runtime_directory():
        return control_path(None)
    raise UsageError("Say which instance: NAME or --pid-file (inside a unit, $RUNTIME_DIRECTORY says it).")
