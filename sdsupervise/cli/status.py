"""`sdsupervise status`: what supervisors report about themselves, and what their processes use."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ExitStatus, NotRunning, UsageError
from ..instances import locations
from ..systemd.units import unit_of
from . import target
from .ask import Asked, ask_all
from .process_usage import Processes
from .terminal import Screen
from .tree import Meter, StyledLine, lines


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "status",
        help="show what serves",
        description="Show the code that serves, since when, its processes, and the last reload. Without NAME, show "
        "the instance of the unit that this command runs in, or else all running instances.",
        epilog="Memory is PSS, which divides shared memory among its users, if the caller may read it; otherwise it "
        "is RSS. Memory and CPU are those of the process and of all its descendants.",
    )
    target.add_arguments(parser, several=True)
    parser.add_argument("--watch", action="store_true", help="keep the display current, on a terminal; q quits")
    parser.add_argument("-l", "--full", action="store_true", help="show full lines, and all workers")
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each instance")
    parser.set_defaults(command=_status)


def _status(parsed: argparse.Namespace) -> int:
    if parsed.watch:
        if parsed.json:
            raise UsageError("--watch is for a terminal, and --json is for programs: use one of them.")
        from . import watch

        return watch.watch(lambda: target.paths(parsed, otherwise_all=True))
    paths = target.paths(parsed, otherwise_all=True)
    if not paths:
        raise NotRunning(nothing_runs())
    found = ask_all(paths)
    if len(found) == 1 and found[0].error is not None:
        raise found[0].error
    screen = Screen()
    for number, asked in enumerate(found):
        if parsed.json:
            print(json.dumps(_with_usage(asked)))
        else:
            print("\n" * (number > 0) + "\n".join(screen.paint(*line) for line in _lines(asked, screen, parsed.full)))
    return next((int(getattr(asked.error, "exit_status", 0)) for asked in found if asked.error), ExitStatus.OK)


def nothing_runs() -> str:
    """The sentence for "no instance runs", with a hint."""
    known = locations.configured()
    start = f" Start one: {target.systemctl('start', known[0])}" if known else ""
    return f"No instance runs in {' or '.join(locations.run_directories())}.{start}"


def _lines(asked: Asked, screen: Screen, full: bool) -> Sequence[StyledLine]:
    if asked.facts is None:
        return [StyledLine(f"○ {asked.name}   {asked.condition}", "bad"), StyledLine(f"  {asked.sentence}")]
    meter = Meter(asked.facts["pid"], uid=asked.uid)
    return lines(asked.name, asked.facts, asked.sender, meter, screen, full=full)


def _with_usage(asked: Asked) -> Mapping[str, Any]:
    """The supervisor's answer, with the usage of its processes."""
    if asked.facts is None:
        return {"instance": asked.name, "state": asked.condition, "error": asked.sentence}
    processes = Processes(uid=asked.uid)
    facts = asked.facts
    workers = {worker["pid"] for worker in facts["workers"]} | {facts.get("spare")}
    others = [facts.get("successor"), *facts.get("draining", ())]
    pids = [facts["pid"], *workers, *(pid for other in others if other for pid in (other["pid"], *other["workers"]))]
    usages = {pid: processes.usage(pid, apart_from=workers) for pid in set(pids) if pid is not None}
    unit, is_users = unit_of(facts["pid"])
    seen = [{"pid": pid, **usage._asdict()} for pid, usage in usages.items() if usage is not None]
    return {"instance": asked.name, **facts, "unit": unit, "user_unit": is_users, "processes": seen}
