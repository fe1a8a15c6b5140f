"""Runs many cases at a time: each runner is a process of its own, here or inside a machine with a real systemd.

A runner is the init of the services it starts (Plain), so nothing of them can hide from it; and it has one thread, so
that all it waits for is in one place.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.kill import cases, rounds
from tests.chaos.kill.cases import Case, Outcome
from tests.chaos.kill.instance import Unit
from tests.chaos.kill.rounds import Chain
from tests.chaos.soak import instance as soaked
from tests.chaos.soak import proofs, reloads
from tests.chaos.soak import rounds as soak
from tests.chaos.soak.proofs import Proof
from tests.chaos.soak.reloads import Reloads
from tests.chaos.soak.rounds import Soak

if TYPE_CHECKING:  # what runs inside a machine has no machines
    from tests.support.machine import Machine

Job = Case | Chain | Soak | Reloads | Proof
JOBS: Mapping[str, type[Job]] = {kind.__name__: kind for kind in (Case, Chain, Soak, Reloads, Proof)}
RUNNERS = 4 * (os.cpu_count() or 1)  # a case mostly waits


def run_here(jobs: Sequence[Job], runners: int = RUNNERS) -> Iterator[Outcome]:
    """Run them on the processes or the systemd of this very machine; outcomes as they come."""
    if any(isinstance(job, Soak | Reloads | Proof) for job in jobs):
        soaked.install()
    elif any(job.systemd for job in jobs):
        Unit.install()
    with ProcessPoolExecutor(runners, multiprocessing.get_context("fork")) as pool:
        for future in as_completed([pool.submit(run, job) for job in jobs]):
            yield future.result()


def run(job: Job) -> Outcome:
    """One job."""
    match job:
        case Case():
            return cases.run(job)
        case Chain():
            return rounds.run(job)
        case Soak():
            return soak.run(job)
        case Reloads():
            return reloads.run(job)
        case Proof():
            return proofs.run(job)


def run_inside(machine: Machine, jobs: Sequence[Job], runners: int = RUNNERS) -> Iterator[Outcome]:
    """Run them in a machine, against its systemd."""
    here = Path(__file__).parents[2]
    template = here.parent / "units" / soaked.TEMPLATE
    there = machine.exchange / "tests"
    shutil.rmtree(there, ignore_errors=True)
    for folder in ("support/breakpoints", "chaos/kill", "chaos/soak"):
        shutil.copytree(here / folder, there / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(template, there / "chaos/soak")
    for module in ("__init__.py", "support/__init__.py", "support/places.py", "chaos/__init__.py"):
        shutil.copy(here / module, there / module)
    process = machine.popen(
        *("/usr/bin/python3", "-m", "tests.chaos.kill", "--inside", str(runners)),
        stdin=subprocess.PIPE,
        stderr=None,
        env={"PYTHONPATH": "/exchange", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    with process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("".join(as_line(job) for job in jobs))
            process.stdin.close()
            for line in process.stdout:
                yield Outcome(*json.loads(line))
        finally:
            process.kill()
    if process.returncode not in (0, -9):
        raise RuntimeError(f"The crew in the machine ended with status {process.returncode}.")


def be_inside(lines: Iterable[str], runners: int) -> None:
    """In the machine: jobs come as lines, outcomes go as lines."""
    for outcome in run_here([from_line(line) for line in lines], runners):
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


def as_line(job: Job) -> str:
    return json.dumps([type(job).__name__, *job]) + "\n"


def from_line(line: str) -> Job:
    kind, *fields = json.loads(line)
    return JOBS[kind](*fields)
