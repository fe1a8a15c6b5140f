#!/usr/bin/env python3
"""Record two reloads, one exclusive and one overlap: `.venv/bin/python packaging/doc/pictures/record.py`.

The reloads are those of recorded.py on a throw-away machine with systemd. So this needs root, and what
`packaging/provision test` brings. Each step in reload.json is a line of the journal; its seconds are counted from the
moment when systemd takes the reload.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
TREE = HERE.parents[2]
sys.path.insert(0, str(TREE))

from tests.support.journal import Entry  # noqa: E402 (the line above finds the tree)
from tests.support.machine import Machine  # noqa: E402

RECORD = HERE / "reload.json"
_SETTINGS = """\
directory = "/srv/current"
service = "recorded.py:Recorded"
handover = "{handover}"
workers = 2
listen = {{ web = "127.0.0.1:8080" }}
before_commit = ["sleep", "0.25"]
probation = 0.4
"""
_TICKS = 100  # a second, in /proc/PID/stat
_VERDICT = ("systemd", "reloaded")
_TRIES = 6  # the quickest is kept: others show how busy the machine was


class Recording(NamedTuple):
    """What a machine has of one reload."""

    entries: Sequence[Entry]
    new_pid: int
    new_since: float  # when the new supervisor was started, in seconds since the epoch


def record(handover: str) -> Mapping[str, Any]:
    """One reload of a service with this hand-over, as reload.json has it."""
    unit = f"sdsupervise@{handover}.service"
    with Machine() as machine:
        _prepare(machine, handover)
        machine.run("systemctl", "start", unit)
        machine.symlink("releases/2", "/srv/current")
        cursor = machine.journal_cursor()
        follower = machine.follow_journal(None, after=cursor)
        machine.run("systemctl", "reload", unit)
        pid = int(machine.show(unit, "MainPID")["MainPID"])
        since = _started_at(machine, pid)
        follower.wait_for(lambda entry: entry.get("SDSUPERVISE_EVENT") == "drained")
        recording = Recording(machine.journal(None, after=cursor), pid, since)
        version = machine.systemd_version
    return {"handover": handover, "systemd": version, "steps": _steps(recording)}


def _prepare(machine: Machine, handover: str) -> None:
    for path in (TREE / "units").glob("sdsupervise*"):
        machine.write(f"/usr/lib/systemd/system/{path.name}", path.read_text())
    for release in ("1", "2"):
        machine.write(f"/srv/releases/{release}/recorded.py", (HERE / "recorded.py").read_text())
    machine.symlink("releases/1", "/srv/current")
    machine.write(f"/etc/sdsupervise/{handover}.toml", _SETTINGS.format(handover=handover))
    machine.run("systemctl", "daemon-reload")


def _started_at(machine: Machine, pid: int) -> float:
    """When a process was started, in seconds since the epoch, to a hundredth."""
    ticks = int(machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / _TICKS


def _steps(recording: Recording) -> list[Mapping[str, object]]:
    """What happened, in order: when, in which process, and what."""
    new = {entry["_PID"] for entry in recording.entries if "recorded: warms up" in entry["MESSAGE"]}
    begin = next(_at(entry) for entry in recording.entries if _is_systemds(entry, "Reloading"))
    steps: list[Mapping[str, object]] = [
        {"at": round(recording.new_since - begin, 3), "process": "supervisor", "generation": 2, "what": "is started"}
    ]
    for entry in recording.entries:
        words = entry["MESSAGE"]
        step: dict[str, object] = {"at": round(_at(entry) - begin, 3)}
        if _is_systemds(entry, "Reload"):
            step |= {"process": "systemd", "what": words.partition(" ")[0].lower()}
        elif said := re.fullmatch(r"recorded: (.*) (\d)", words):
            generation = 2 if entry["_PID"] in new else 1
            step |= {"process": "worker", "generation": generation, "index": int(said[2]), "what": said[1]}
        elif "SDSUPERVISE_EVENT" in entry:
            generation = 2 if int(entry["_PID"]) == recording.new_pid else 1
            step |= {"process": "supervisor", "generation": generation, "what": entry["SDSUPERVISE_EVENT"]}
            step |= {"phase": entry["SDSUPERVISE_PHASE"]} if "SDSUPERVISE_PHASE" in entry else {}
        else:
            continue
        steps.append(step)
    return sorted(steps, key=lambda step: str(f"{step['at']:09.3f}"))


def _at(entry: Entry) -> float:
    """When an entry was written; of a line on standard output, when it was read."""
    return int(entry.get("_SOURCE_REALTIME_TIMESTAMP", entry["__REALTIME_TIMESTAMP"])) / 1e6


def _is_systemds(entry: Entry, word: str) -> bool:
    return entry["_PID"] == "1" and entry["MESSAGE"].startswith(word)


def _seconds(reload: Mapping[str, Any]) -> float:
    """How long the caller waited for the verdict."""
    return next(float(step["at"]) for step in reload["steps"] if (step["process"], step["what"]) == _VERDICT)


def main() -> int:
    """Write reload.json; 0."""
    reloads = [min((record(handover) for _ in range(_TRIES)), key=_seconds) for handover in ("exclusive", "overlap")]
    lines = [
        f'{{"handover": "{reload["handover"]}", "systemd": "{reload["systemd"]}", "steps": [\n'
        + ",\n".join(f"  {json.dumps(step)}" for step in reload["steps"])
        + "\n]}"
        for reload in reloads
    ]
    RECORD.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
