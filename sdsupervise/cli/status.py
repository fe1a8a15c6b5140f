"""`sdsupervise status`: what a supervisor says of itself."""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from ..client import Client
from ..errors import ExitStatus, HandoverError
from . import target

_TIMEOUT_SECONDS = 5.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "status", help="show what serves", description="Show what serves, since when, and how the last reload went."
    )
    target.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.set_defaults(command=_status)


def _status(parsed: argparse.Namespace) -> int:
    connection = Client.connect(target.socket_path(parsed), timeout_seconds=_TIMEOUT_SECONDS)
    answer = connection.ask("Status")
    if answer.error:
        raise HandoverError(f"The supervisor refused to say its status: {answer.error}.")
    print(json.dumps(answer.parameters) if parsed.json else "\n".join(_lines(answer.parameters)))
    return ExitStatus.OK


def _lines(facts: Mapping[str, Any]) -> list[str]:
    code, reload = facts["code"], facts["last_reload"]
    lines = [
        f"{facts['name']}   {facts['state']} · generation {facts['generation']} · {facts['handover']}",
        f"  {facts['status']}",
        f"  code       {code['path']} ({code['fingerprint']})",
        f"  supervisor {facts['pid']}",
    ]
    for worker in facts["workers"]:
        ping = "no ping yet" if worker["last_ping"] is None else f"ping {worker['last_ping']:.1f} s ago"
        lines.append(f"  └─ worker  {worker['pid']}   {worker['state']}   {worker['age']:.1f} s old   {ping}")
    lines.append(f"  crashes    {facts['crashes']}")
    if reload:
        phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in reload["phases"].items())
        reason = f": {reload['reason']}" if reload["reason"] else ""
        lines.append(
            f"  reload     {reload['verdict']} in {reload['seconds']:.2f} s, asked by {reload['asked_by']}{reason}"
        )
        lines.append(f"             {phases}")
    return lines
