"""`sdsupervise version`: prints the version."""

import argparse
import json
import os
import platform

from .. import __version__
from ..errors import ExitStatus


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser("version", help="print the version", description="Print the version.")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with its path and its Python")
    parser.set_defaults(command=_version)


def _version(parsed: argparse.Namespace) -> int:
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    facts = {"version": __version__, "package": package, "python": platform.python_version()}
    print(json.dumps(facts) if parsed.json else f"sdsupervise {__version__}")
    return ExitStatus.OK
