"""`sdsupervise scale`: changes the number of workers."""

import argparse
import json
import re

from ..control.client import Client
from ..errors import ExitStatus, ScaleRefused, UsageError
from ..settings.settings import MOST_WORKERS
from . import target

_TIMEOUT_SECONDS = 5.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "scale",
        help="change the number of workers",
        description="Change the number of workers. If there are too many, those with the highest numbers finish "
        "their work and leave. The number stays after reloads, until another number is configured.",
    )
    target.add_arguments(parser)
    parser.add_argument("number", metavar="N|+N|-N", help="a number, or a change such as +1 or -1")
    parser.add_argument("--json", action="store_true", help="print one JSON object with the number of workers")
    parser.set_defaults(command=_scale)


def _scale(parsed: argparse.Namespace) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", parsed.number):
        raise UsageError(f"{parsed.number!r} is not a number of workers; write 4, +1 or -1.")
    number, relative = int(parsed.number), parsed.number[0] in "+-"
    if not (abs(number) < MOST_WORKERS if relative else 1 <= number <= MOST_WORKERS):
        raise UsageError(f"{parsed.number!r} is out of range: there can be from 1 to {MOST_WORKERS} workers.")
    connection = Client.connect(target.socket_path(parsed), timeout_seconds=_TIMEOUT_SECONDS)
    answer = next(connection.call("Scale", {"by" if relative else "workers": number}))
    if answer.error:
        reason = str(answer.parameters.get("reason", answer.error))
        raise ScaleRefused(f"NOT SCALED. {reason}")
    print(json.dumps(answer.parameters) if parsed.json else f"SCALED: {answer.parameters.get('workers')} workers")
    return ExitStatus.OK
