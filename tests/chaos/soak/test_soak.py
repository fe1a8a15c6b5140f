"""A few of the many rounds, and the test of the test."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from tests.chaos.kill import crew
from tests.chaos.soak.proofs import PROOFS, Proof
from tests.chaos.soak.reloads import Reloads
from tests.chaos.soak.rounds import plan
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

# At level debug, what systemd forks waits up to 10 s for each line while journald hangs.
MACHINE = Equipment()

ROUNDS = 60
CHAIN_ROUNDS = 5
RELOADS = 20
RUNNERS = 4 * (os.cpu_count() or 1)  # of which each mostly waits


def plays(machine: Machine, jobs: Sequence[crew.Job]) -> None:
    """All of them hold what is promised."""
    outcomes = list(crew.run_inside(machine, jobs, RUNNERS))
    broken = [outcome for outcome in outcomes if outcome.result == "broken"]
    for outcome in broken:
        print(f"\nBROKEN {outcome.case}: {outcome.reason}", *outcome.story, sep="\n")
        print(f"python -m tests.chaos.soak --replay '{outcome.case}'" * ("/" in outcome.case))
    assert [f"{outcome.case}: {outcome.reason}" for outcome in broken] == []
    assert len(outcomes) == len(jobs)


def test_random_faults(machine: Machine) -> None:
    """Whatever goes wrong at whatever moment of a reload: somebody serves, the caller was told the truth, never two
    generations work where that is promised, and nothing is left."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    plays(machine, plan(seed, ROUNDS, CHAIN_ROUNDS))


def test_reloads_in_a_row(machine: Machine) -> None:
    """The last generation needs no more memory, descriptors and processes than the tenth."""
    plays(machine, [Reloads("class", "overlap", RELOADS), Reloads("command", "exclusive", RELOADS)])


@pytest.mark.parametrize("name", PROOFS)
def test_a_broken_promise_is_noticed(machine: Machine, name: str) -> None:
    """Each of these would be."""
    plays(machine, [Proof(name)])
