"""Whatever is killed or stopped, and whenever: somebody serves, alone, and nobody is told otherwise."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence

from tests.chaos.kill import cases, crew
from tests.chaos.kill.cases import Case, Outcome
from tests.chaos.kill.rounds import chains
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment()

ROUNDS = 40
RUNNERS = 4 * (os.cpu_count() or 1)


def plays(jobs: Sequence[crew.Job], outcomes: Iterator[Outcome]) -> None:
    """All jobs are played, and hold what is promised."""
    played = list(outcomes)
    broken = [outcome for outcome in played if outcome.result == "broken"]
    for outcome in broken:
        print(f"\nBROKEN {outcome.case}: {outcome.reason}", *outcome.story, sep="\n")
    assert [f"{outcome.case}: {outcome.reason}" for outcome in broken] == []
    assert len(played) == len(jobs)
    for outcome in played:
        assert set(outcome.transitions) & cases.impossible(outcome.case) == set(), outcome.case


def test_every_rule_of_the_table_has_a_way() -> None:
    """A rule of the takeover table is tried here, or it is said why it cannot be; and nothing else is."""
    assert cases.missing_ways() == []
    assert cases.stale_ways() == []


def test_every_step_without_systemd() -> None:
    """At every step that a supervisor of plain processes can take, each of the four can be lost."""
    seed = random.randrange(10**6)
    print(f"seed of the cases: {seed}")
    jobs = cases.usual_cases(False, seed)
    plays(jobs, crew.run_here(jobs, RUNNERS))


def test_every_step_with_systemd(machine: Machine) -> None:
    """At every step that a unit's supervisor can take, each of the four can be lost; systemd's main pid is right."""
    seed = random.randrange(10**6)
    print(f"seed of the cases: {seed}")
    jobs = cases.usual_cases(True, seed)
    plays(jobs, crew.run_inside(machine, jobs, RUNNERS))


def test_random_rounds_without_systemd() -> None:
    """Random harm at random moments under a client's load breaks nothing."""
    seed = random.randrange(10**6)
    print(f"python -m tests.chaos.kill --plain --rounds {ROUNDS} --seed {seed}")
    jobs = chains(False, seed, ROUNDS, RUNNERS)
    plays(jobs, crew.run_here(jobs, RUNNERS))


def test_random_rounds_with_systemd(machine: Machine) -> None:
    """Random harm at random moments under a client's load breaks nothing, and no unit is lost."""
    seed = random.randrange(10**6)
    print(f"python -m tests.chaos.kill --systemd --rounds {ROUNDS} --seed {seed}")
    jobs = chains(True, seed, ROUNDS, RUNNERS)
    plays(jobs, crew.run_inside(machine, jobs, RUNNERS))


def test_a_case_without_a_victim_says_so() -> None:
    """A case cannot hold by harming nobody."""
    outcome = cases.run(Case(False, "exclusive", "SERVING", "STOP_ASKED", 0, "new worker", "kill"))
    assert outcome.result == "absent"
