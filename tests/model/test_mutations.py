"""The walk can fail: it catches a spoilt table or shell, and what it cannot catch is known."""

import pytest

from sdsupervise.core.takeover import RULES, Effect, State

from .model import TwoSupervisors
from .mutations import CAUGHT, CRASH, HANG, HANG_STOP, PATIENT, STOP, STOP_SYSTEMD, Mutation
from .table import Changes, compiled, dropping
from .unseen import QUICK, UNSEEN, breaks, every_single
from .walk import walk
from .world import Lapse, World


@pytest.mark.parametrize("mutation", CAUGHT, ids=lambda mutation: mutation.name)
def test_mutation_is_caught(mutation: Mutation) -> None:
    """A rule that matters cannot be lost unnoticed: the walk names the promise that breaks, and the way there."""
    outcome = walk(TwoSupervisors(mutation.world, compiled(mutation.changes), mutation.lapses))
    assert outcome.broken.startswith(mutation.breaks), outcome.report()
    assert outcome.broken
    assert outcome.path


@pytest.mark.parametrize("world", sorted({mutation.world for mutation in CAUGHT}), ids=str)
def test_world_is_sound_without_the_mutation(world: World) -> None:
    """It is the mutation that is caught, not the world it is walked in."""
    assert not _broken_in(world)


@pytest.mark.parametrize("why", UNSEEN)
def test_mutation_is_known_to_escape(why: str) -> None:
    """What the walk cannot see is written down, and still true: tests with real processes have to hold it."""
    assert set(UNSEEN[why]) <= set(every_single())
    for single in UNSEEN[why]:
        assert not breaks(single, QUICK), f"{single} is caught now: strike it out"


def test_trying_the_lock_first_only_spares_a_kill() -> None:
    """Acting on a lock deadline while the lock is free kills needlessly but breaks no promise."""
    assert not walk(TwoSupervisors(STOP, lapses=frozenset({Lapse.KILLS_BEFORE_TRYING_LOCK}))).broken


@pytest.mark.parametrize("effect", Effect, ids=lambda effect: effect.name)
def test_effect_left_out_everywhere_is_caught(effect: Effect) -> None:
    """No effect of the table is superfluous, but for the two messages that something else stands in for, and for
    READY=1, which the model does not read."""
    rules = [(state, event) for state in State for event, rule in RULES[state].items() if effect in rule.effects]
    changes = dropping(effect, *rules)
    caught = any(_broken_in(world, changes) for world in (PATIENT, STOP, CRASH, HANG, HANG_STOP, STOP_SYSTEMD))
    assert caught == (effect not in (Effect.TELL_COMMITTED, Effect.TELL_FAILED, Effect.TELL_READY))


def _broken_in(world: World, changes: Changes | None = None) -> str:
    return walk(TwoSupervisors(world, compiled(changes))).broken
