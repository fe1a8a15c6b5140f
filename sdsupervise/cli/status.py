"""`sdsupervise status`: what a supervisor says of itself."""

import argparse
import json
import time
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


# What a reader wants to know of a reload's phases (the states of the predecessor, core/takeover.py).
_STEPS = {
    "started": ("raising", "warming"),
    "old stopped": ("yielding",),
    "took over": ("yielded", "watching", "committing"),
    "went back": ("cancelling", "reviving", "recalling", "retaking"),
}


def _lines(facts: Mapping[str, Any]) -> list[str]:
    code, reload = facts["code"], facts["last_reload"]
    lines = [f"● {facts['name']}   {facts['state']} · generation {facts['generation']} · {facts['handover']}"]
    if not facts["healthy"]:
        lines.append(f"  {facts['status']}")
    lines += [f"  code       {code['path']} ({code['fingerprint']})"]
    if reload:
        lines.append(f"  reload     {_reload_line(reload)}")
    for listener in facts.get("sockets", ()):
        origin = "   from systemd" if listener["from"] == "systemd" else ""
        lines.append(f"  socket     {listener['name']}   {listener['address']}{origin}")
    lines += [f"  supervisor {facts['pid']}"]
    for worker in facts["workers"]:
        ping = "no ping yet" if worker["last_ping"] is None else f"ping {worker['last_ping']:.1f} s ago"
        lines.append(f"  └─ worker  {worker['pid']}   {worker['state']}   age {worker['age']:.1f} s   {ping}")
    crashes = facts["crashes"]
    lines[-1] += f"   {crashes} crash{'' if crashes == 1 else 'es'}"
    return lines


def _reload_line(reload: Mapping[str, Any]) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(reload["asked_at"]))
    line = f"{when} {reload['verdict']} in {reload['seconds']:.2f} s"
    if reload["reason"]:
        return f"{line}: {reload['reason']}"
    phases = reload["phases"]
    took = {step: sum(phases.get(name, 0) for name in names) for step, names in _STEPS.items()}
    return f"{line}: " + ", ".join(f"{step} {seconds:.2f}" for step, seconds in took.items() if seconds)
