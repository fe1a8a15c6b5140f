"""Every way to spoil one rule of the table, and those among them that the walk cannot see, each with the reason.

None of the unseen breaks a promise, with either handover; tests with real processes hold what they spoil. That each of
all the others is caught takes minutes to show: `python -m tests.model --mutations`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sdsupervise.core.takeover import RULES, Effect, Event, State

from .model import TwoSupervisors
from .table import Changes, compiled, dropping, ignoring
from .walk import walk
from .world import World

S, E, X = State, Event, Effect


class Single(NamedTuple):
    """A rule deleted, or without one of its effects."""

    state: State
    event: Event
    effect: Effect | None = None

    def __str__(self) -> str:
        return f"{self.state.name} + {self.event.name}" + (f" without {self.effect.name}" if self.effect else "")

    def changes(self) -> Changes:
        """The table's answers that are other ones then."""
        pair = self.state, self.event
        return ignoring(pair) if self.effect is None else dropping(self.effect, pair)


def every_single() -> Iterator[Single]:
    """All there are."""
    for state in State:
        for event, rule in RULES[state].items():
            yield Single(state, event)
            for effect in dict.fromkeys(rule.effects):
                yield Single(state, event, effect)


def _deleted(state: State, *events: Event) -> tuple[Single, ...]:
    return tuple(Single(state, event) for event in events)


def _dropped(effect: Effect, state: State, *events: Event) -> tuple[Single, ...]:
    return tuple(Single(state, event, effect) for event in events)


# Why the walk cannot see them: the mutations. None breaks a promise; tests with real processes hold what they spoil.
UNSEEN: dict[str, tuple[Single, ...]] = {
    "something does the same later: another deadline, a death, the barrier, which returns in the end": (
        *_deleted(S.WARMING, E.DEADLINE),
        *_deleted(S.KILLING_PREDECESSOR, E.LOCK_GAINED),
        *_deleted(S.ON_TRIAL, E.PEER_COMMITTED),
        *_deleted(S.FAILED, E.DEADLINE),
        *_deleted(S.YIELDING, E.DEADLINE),
        *_deleted(S.YIELDED, E.PEER_STOPS),
        *_deleted(S.COMMITTING, E.DEADLINE),
        *_deleted(S.RESTORING, E.DEADLINE),
        *_deleted(S.DRAINING, E.DEADLINE),
        *_deleted(S.STOPPING, E.PEER_GONE),
        *_deleted(S.EMPTY, E.PEER_GONE),
        *_deleted(S.LEAVING, E.PEER_STOPS, E.PEER_GONE),
        *_dropped(X.TELL_COMMITTED, S.COMMITTING, E.BARRIER_RETURNED, E.DEADLINE),
        *_dropped(X.TELL_EMPTY, S.LEAVING, E.NO_WORKER),
        *_dropped(X.KILL_WORKERS, S.FAILED, E.DEADLINE),
        *_dropped(X.KILL_WORKERS, S.YIELDING, E.DEADLINE),
        *_dropped(X.KILL_WORKERS, S.DRAINING, E.DEADLINE),
        *_dropped(X.KILL_PEER, S.ON_TRIAL, E.DEADLINE),
    ),
    "a stop's deadline kills what was not told to stop, and only deadlines lead here": (
        *_dropped(X.STOP_WORKERS, S.WARMING, E.DEADLINE),
        *_dropped(X.STOP_WORKERS, S.KILLING_PREDECESSOR, E.PEER_STOPS, E.STOP_ASKED),
    ),
    "the peer and its workers die by themselves unless they hang, and are killed more than once": (
        *_dropped(X.KILL_PEER_WORKERS, S.CLAIMING, E.DEADLINE),
        *_dropped(X.KILL_PEER_WORKERS, S.KILLING_PREDECESSOR, E.PEER_GONE),
        *_dropped(X.KILL_PEER_WORKERS, S.ON_TRIAL, E.DEADLINE),
        *_dropped(X.KILL_PEER_WORKERS, S.STARTING_SUCCESSOR, E.PEER_GONE),
        *_dropped(X.KILL_PEER_WORKERS, S.CANCELLING, E.PEER_GONE),
        *_dropped(X.KILL_PEER_WORKERS, S.REVIVING, E.NO_WORKER),
        *_dropped(X.KILL_PEER, S.SERVING, E.DEADLINE),
        *_dropped(X.KILL_PEER_WORKERS, S.EMPTY, E.PEER_GONE, E.DEADLINE),
        *_dropped(X.KILL_PEER_WORKERS, S.LEAVING, E.PEER_GONE),
    ),
    "the verdict comes as the end of the connection: a failure all the same, without a reason": tuple(
        single
        for single in every_single()
        if single.effect is X.ANSWER_FAILED and single.event in (E.STOP_ASKED, E.PEER_STOPS)
    ),
    "the model's only worker is dead already": (
        *_dropped(X.STOP_WORKERS, S.OPENING, E.GAVE_UP),
        *_dropped(X.STOP_WORKERS, S.SERVING, E.GAVE_UP),
        *_dropped(X.STOP_WORKERS, S.WARMING, E.WORKER_GONE),
        *_dropped(X.STOP_WORKERS, S.CLAIMING, E.WORKER_GONE),
    ),
    "no promise is about READY=1: test_takeover_table has where it belongs": (
        *_dropped(X.TELL_READY, S.OPENING, E.WORKER_READY),
        *_dropped(X.TELL_READY, S.KILLING_PREDECESSOR, E.LOCK_GAINED),
        *_dropped(X.TELL_READY, S.TAKING_LOCK, E.LOCK_GAINED),
        *_dropped(X.TELL_READY, S.RESTORING, E.WORKERS_SETTLED, E.DEADLINE),
    ),
    "no promise is about it: how soon a failure is heard of, whether a reload can be had, cancelled, or given up": (
        *_deleted(S.ON_TRIAL, E.WORKER_GONE, E.CHECK_FAILED),
        *_dropped(X.TELL_FAILED, S.ON_TRIAL, E.WORKER_GONE, E.CHECK_FAILED),
        *(single for single in every_single() if single.event is E.PEER_FAILED and single.effect is None),
        *_deleted(S.CLAIMING, E.WORKER_GONE, E.STOP_ASKED),
        *_deleted(S.WARMING, E.STOP_ASKED),
        *_deleted(S.FAILED, E.STOP_ASKED),
        *_deleted(S.SERVING, E.RELOAD_ASKED, E.GAVE_UP),
        *_deleted(S.OPENING, E.GAVE_UP),
    ),
}


def _both(*budgets: tuple[int, int, int], **more: bool) -> tuple[World, ...]:
    return tuple(
        World(False, False, *budget, overlap=overlap, **more) for overlap in (False, True) for budget in budgets
    )


# What each of the unseen is tried in, and all the others until one catches them; the quick ones first.
QUICK = (*_both((0, 0, 1), patient=True), *_both((1, 0, 0)))
THOROUGH = (
    *QUICK,
    *_both((0, 0, 1)),
    *(world._replace(trial=True) for world in QUICK),
    *(World(crashes=1, trial=trial, patient=True, late=True) for trial in (False, True)),
    *_both((0, 1, 0)),
    *_both((1, 0, 1), patient=True),
    *(World(systemd=True, stops=1, overlap=overlap) for overlap in (False, True)),
    *_both((0, 1, 1)),
    *_both((1, 1, 0)),
)


def breaks(single: Single, worlds: tuple[World, ...]) -> str:
    """The promise that it breaks first, and where; "" if none."""
    table = compiled(single.changes())
    for world in worlds:
        broken = walk(TwoSupervisors(world, table)).broken
        if broken:
            return f"{world}: {broken}"
    return ""
