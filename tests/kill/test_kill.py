"""Whatever is killed or stopped, and whenever: somebody serves, alone, and nobody is told otherwise."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence

import pytest

from tests.ground.machine import Machine
from tests.kill import cases, crew, oracle
from tests.kill.cases import Case, Outcome
from tests.kill.hub import Broken
from tests.kill.instance import Plain, Release
from tests.kill.rounds import chains
from tests.kill.stage import Side, Stage
from tests.kill.ways import UNREACHABLE

ROUNDS = 60
RUNNERS = 4 * (os.cpu_count() or 1)


def plays(jobs: Sequence[crew.Job], outcomes: Iterator[Outcome]) -> None:
    """All jobs are played, and hold what is promised."""
    played = list(outcomes)
    broken = [outcome for outcome in played if outcome.result == "broken"]
    for outcome in broken:
        print(f"\nBROKEN {outcome.case}: {outcome.reason}", *outcome.story, sep="\n")
    assert [f"{outcome.case}: {outcome.reason}" for outcome in broken] == []
    assert len(played) == len(jobs)
    passed = {transition for outcome in played for transition in outcome.transitions}
    assert passed & {f"{state.name}+{event.name}" for state, event in UNREACHABLE} == set()


def test_every_rule_of_the_table_has_a_way() -> None:
    """A rule of the takeover table is tried here, or it is said why it cannot be; and nothing else is."""
    assert cases.missing_ways() == []
    assert cases.stale_ways() == []


def test_every_step_without_systemd() -> None:
    """At every step that a supervisor of plain processes can take, each of the four can be lost."""
    jobs = cases.usual_cases(systemd=False)
    plays(jobs, crew.run_here(jobs, RUNNERS))


def test_every_step_with_systemd(machine: Machine) -> None:
    """At every step that a unit's supervisor can take, each of the four can be lost; systemd's main pid is right."""
    jobs = cases.usual_cases(systemd=True)
    plays(jobs, crew.run_inside(machine, jobs, RUNNERS))


def test_random_rounds_without_systemd() -> None:
    """Random harm at random moments under a client's load breaks nothing."""
    seed = random.randrange(10**6)
    print(f"python -m tests.kill --plain --rounds {ROUNDS} --seed {seed}")
    jobs = chains(False, seed, ROUNDS, RUNNERS)
    plays(jobs, crew.run_here(jobs, RUNNERS))


def test_random_rounds_with_systemd(machine: Machine) -> None:
    """Random harm at random moments under a client's load breaks nothing, and no unit is lost."""
    seed = random.randrange(10**6)
    print(f"python -m tests.kill --systemd --rounds {ROUNDS} --seed {seed}")
    jobs = chains(True, seed, ROUNDS, RUNNERS)
    plays(jobs, crew.run_inside(machine, jobs, RUNNERS))


# Moments that random rounds have found.


def test_a_stop_at_the_very_moment_of_a_reload_ends_both(stage: Stage) -> None:
    """A successor that was just started when the stop came, and of which nobody has heard yet, does not take over."""
    place = "SERVING+RELOAD_ASKED/0"
    stage.hold(Side.OLD, place)
    stage.reload()
    stage.until_held(Side.OLD, place)
    stage.terminate(Side.OLD)
    stage.open()
    oracle.judge(stage)
    assert stage.hub.living("supervisor") == []


# The test of the test: what it would say of a service that breaks its promises.


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A service that serves, its new code another one's to choose."""
    instance = Plain()
    stage = Stage(instance, Release(), Release())
    stage.start()
    yield stage
    instance.close()


def test_two_active_workers_are_noticed(stage: Stage) -> None:
    """New code that works before it is its turn is a violation, although the reload goes well."""
    stage.new = Release("promise")
    stage.reload()
    stage.open()
    with pytest.raises(Broken, match="Two workers were active at a time: VIOLATION release=2"):
        oracle.judge(stage)


def test_a_lie_about_success_is_noticed(stage: Stage) -> None:
    """ "Done" although the old code begins again."""
    stage.reload()
    stage.wait(lambda: stage.calls[0].status is not None, "the verdict")
    stage.instance.write("BEGIN release=1 worker=1 supervisor=1")
    with pytest.raises(Broken, match="was said to be done, and then: BEGIN release=1"):
        oracle.judge(stage)


def test_a_lie_about_failure_is_noticed(stage: Stage) -> None:
    """ "Failed" although the new code serves."""
    stage.reload()
    stage.wait(lambda: stage.calls[0].status is not None, "the verdict")
    stage.calls[0].status = oracle.FAILED
    with pytest.raises(Broken, match=r"was said to have failed, but supervisor .* is the one that is left"):
        oracle.judge(stage)


def test_a_service_that_is_gone_is_noticed(stage: Stage) -> None:
    """Nobody serves, and nobody had asked for that."""
    for supervisor in stage.hub.living("supervisor"):
        os.kill(supervisor.pid, 15)
    with pytest.raises(Broken, match="Nobody serves, though no stop was asked"):
        oracle.judge(stage)


def test_a_process_that_is_left_is_noticed(stage: Stage) -> None:
    """A process that outlives its service is found, whatever it calls itself."""
    stage.instance.ask_stop()
    stage.ends = True
    bystander = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    stage.wait(lambda: not stage.hub.processes[0].alive, "the end of the supervisor")
    assert not stage.instance.is_gone()
    assert stage.instance.left() == [f"process {bystander} (S) sleep 1000 "]


def test_a_case_without_a_victim_says_so() -> None:
    """A case cannot hold by harming nobody."""
    outcome = cases.run(Case(False, "SERVING", "STOP_ASKED", 0, "new worker", "kill"))
    assert outcome.result == "absent"
