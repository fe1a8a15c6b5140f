"""`sdsupervise status`: what a supervisor says of itself."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..client import Client
from ..errors import ExitStatus, HandoverError
from ..linux import memory
from . import target

_TIMEOUT_SECONDS = 5.0
_MOST_LINES = 10  # for workers


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
    crashes = facts["crashes"]
    supervisor = f"  supervisor {facts['pid']}{_megabytes(facts['pid'])}"
    lines.append(supervisor + (f"   {_crashes(crashes)}" if crashes or not facts["workers"] else ""))
    workers = _worker_lines(facts["workers"])
    lines += [f"  {'└─' if line is workers[-1] else '├─'} {line}" for line in workers]
    return lines


def _worker_lines(workers: Sequence[Mapping[str, Any]]) -> list[str]:
    """One for each; of a big pool only for those that do anything but serve, and one for all the others."""
    if len(workers) <= _MOST_LINES:
        return [_worker_line(worker) for worker in workers]
    others = [worker for worker in workers if worker["state"] != "serving" or worker["retiring"]][:_MOST_LINES]
    rest = [worker for worker in workers if worker not in others]
    states = sorted({str(worker["state"]) for worker in rest})
    ages = [worker["age"] for worker in rest]
    pings = [worker["last_ping"] for worker in rest if worker["last_ping"] is not None]
    summary = f"{len(rest)} workers   {', '.join(states)}   age {min(ages):.1f} to {max(ages):.1f} s"
    if pings:
        summary += f"   ping {min(pings):.1f} to {max(pings):.1f} s ago"
    return [*map(_worker_line, others), f"{summary}   {_crashes(sum(worker['crashes'] for worker in rest))}"]


def _worker_line(worker: Mapping[str, Any]) -> str:
    ping = "no ping yet" if worker["last_ping"] is None else f"ping {worker['last_ping']:.1f} s ago"
    line = f"worker {worker['index']}  {worker['pid']}   {worker['state']}{_megabytes(worker['pid'])}"
    line += f"   age {worker['age']:.1f} s   {ping}   {_crashes(worker['crashes'])}"
    line += f"   to be replaced: {worker['retiring']}" if worker["retiring"] else ""
    return line + (f"   {worker['status']}" if worker["status"] else "")


def _megabytes(pid: int) -> str:
    size = memory.resident_bytes(pid)
    return f"   {size / 2**20:.1f} MB" if size else ""


def _crashes(number: int) -> str:
    return f"{number} crash{'' if number == 1 else 'es'}"


def _reload_line(reload: Mapping[str, Any]) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(reload["asked_at"]))
    line = f"{when} {reload['verdict']} in {reload['seconds']:.2f} s"
    if reload["reason"]:
        return f"{line}: {reload['reason']}"
    phases = reload["phases"]
    took = {step: [phases[name] for name in names if name in phases] for step, names in _STEPS.items()}
    return f"{line}: " + ", ".join(f"{step} {sum(seconds):.2f}" for step, seconds in took.items() if seconds)
