"""`sdsupervise list`: all instances, one line each."""

import argparse
import json
from collections.abc import Mapping

from ..errors import ExitStatus
from ..instances import locations
from . import target
from .ask import Asked, ask_all
from .terminal import Screen, clock, columns, cut, cut_left
from .tree import state_in_words

_HEADINGS = ("NAME", "STATE", "GENERATION", "HANDOVER", "WORKERS", "SINCE", "CODE")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "list",
        help="show all instances",
        description="Show all instances that run or have a configuration file, one line each. An instance is hanging "
        "if its supervisor does not answer within 3 seconds, and dead if its supervisor is gone. If its unit has "
        "failed, the line shows the last message.",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each instance")
    parser.set_defaults(command=_list)


def _list(parsed: argparse.Namespace) -> int:
    running, configured = locations.running(), locations.configured()
    asked = {one.name: one for one in ask_all(locations.control_sockets(running))}
    names = sorted({*running, *configured})
    failed = target.failed([name for name in names if name not in asked])
    found = [asked.get(name) or _not_running(name, failed) for name in names]
    if parsed.json:
        for one in found:
            print(json.dumps(_facts(one, is_configured=one.name in configured)))
        return ExitStatus.OK
    screen = Screen()
    if not found:
        print(f"No instance runs or is configured in {', '.join(locations.config_directories())}.")
        return ExitStatus.OK
    rows = [(_HEADINGS, "dim"), *(_row(one) for one in found)]
    for cells, (row, style) in zip(columns([row for row, _ in rows]), rows, strict=True):
        if screen.columns is not None:
            left = screen.columns - sum(len(cell) + 2 for cell in cells[:-1])
            cells[-1] = (cut_left if style != "bad" else cut)(row[-1], max(left, 8))
        cells[1] = screen.paint(cells[1], style)
        print("  ".join(cells).rstrip())
    return ExitStatus.OK


def _not_running(name: str, failed: Mapping[str, str]) -> Asked:
    said = failed.get(name)
    return Asked(name, "", None, "stopped") if said is None else Asked(name, "", None, "failed", said)


def _row(asked: Asked) -> tuple[tuple[str, ...], str]:
    facts = asked.facts
    if facts is None:
        style = "dim" if asked.condition == "stopped" else "bad"
        return (asked.name, asked.condition, "", "", "", "", asked.sentence), style
    state, style = state_in_words(facts)
    state = state.partition(" (")[0]
    pool = facts["pool"]
    since = clock(facts["since"]) if "since" in facts else ""
    workers = f"{pool['serving']}/{pool['workers']}"
    path = str(facts["code"]["path"])
    return (asked.name, state, str(facts["generation"]), str(facts["handover"]), workers, since, path), style


def _facts(asked: Asked, *, is_configured: bool) -> Mapping[str, object]:
    base = {"instance": asked.name, "configured": is_configured}
    if asked.facts is None:
        return {**base, "state": asked.condition, "error": asked.sentence}
    names = ("state", "healthy", "generation", "handover", "pool", "code", "since", "pid", "version")
    return {**base, **{name: asked.facts[name] for name in names if name in asked.facts}}
