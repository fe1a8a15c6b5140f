"""Ways to spoil the takeover that the walk has to catch, each in its smallest world.

A mutated table ignores what the real one calls impossible, so that what is caught is a broken promise. What the walk
cannot catch is in `unseen.py`.
"""

from itertools import product
from types import MappingProxyType
from typing import NamedTuple

from sdsupervise.core.takeover import Effect, Event, Rule, State
from tests.support.places import NAMING_EVENT, NAMING_STATE, WITHOUT_LOCK

from .table import Changes, dropping, ignoring, replacing
from .world import Lapse, World

S, E, X = State, Event, Effect
NOTHING: Changes = MappingProxyType({})

# The smallest worlds, by what they add to two supervisors, reloads and deadlines.
BARE = World()
PATIENT = World(stops=1, patient=True)
STOP = World(stops=1)
STOP_SYSTEMD = World(systemd=True, stops=1)
CRASH = World(crashes=1)
CRASH_PATIENT = World(crashes=1, stops=1, patient=True)
HANG = World(hangs=1)
HANG_STOP = World(hangs=1, stops=1)
CRASH_HANG = World(crashes=1, hangs=1)
OVERLAP = World(overlap=True)
OVERLAP_PATIENT = World(stops=1, patient=True, overlap=True)
OVERLAP_STOP = World(stops=1, overlap=True)
OVERLAP_CRASH = World(crashes=1, overlap=True)
OVERLAP_HANG = World(hangs=1, overlap=True)
MIXED_CRASH = World(crashes=1, mixed=True)
TRIAL = World(trial=True)
TRIAL_HANG = World(trial=True, hangs=1)
LATE_PATIENT = World(crashes=1, late=True, patient=True)


class Mutation(NamedTuple):
    """One way to spoil it, and what the walk says."""

    name: str
    world: World
    breaks: str  # how the broken promise begins
    changes: Changes = NOTHING
    lapses: frozenset[Lapse] = frozenset()


def _lapse(lapse: Lapse, world: World, breaks: str) -> Mutation:
    return Mutation(f"shell: {lapse.name}, {world}", world, breaks, lapses=frozenset({lapse}))


def _leaves(state: State) -> Changes:
    return replacing(state, E.PEER_GONE, Rule(S.LEAVING, (X.STOP_WORKERS,)))


CAUGHT = (
    # ------------------------------------------------------------------------------------- rules of the shell
    _lapse(Lapse.KILLS_WITHOUT_TOKEN, BARE, "2"),
    _lapse(Lapse.DEATH_BEFORE_MESSAGES, STOP, "6"),
    _lapse(Lapse.COMMITS_BEFORE_DEATH, CRASH, "3"),
    _lapse(Lapse.COMMITS_BEFORE_SIGTERM, STOP_SYSTEMD, "3"),
    _lapse(Lapse.LEAVES_IN_HASTE, CRASH, "2"),
    _lapse(Lapse.WORKERS_UNANNOUNCED, HANG, "2"),
    _lapse(Lapse.NO_WORKER_DEADLINE, HANG, "2"),
    _lapse(Lapse.WORKERS_WITHOUT_LOCK, BARE, "1"),
    # -------------------------------------------------------------------------------------------- the lock
    Mutation(
        "the lock given up by LOCK_UN while the workers stop",
        BARE,
        "1",
        replacing(S.STARTING_SUCCESSOR, E.PEER_ASKS_YIELD, Rule(S.YIELDING, (X.STOP_WORKERS, X.CLOSE_LOCK))),
        frozenset({Lapse.UNLOCKS}),
    ),
    Mutation(
        "the lock closed before the workers stop, which hold no copy",
        BARE,
        "1",
        replacing(S.STARTING_SUCCESSOR, E.PEER_ASKS_YIELD, Rule(S.YIELDING, (X.STOP_WORKERS, X.CLOSE_LOCK))),
        frozenset({Lapse.WORKERS_WITHOUT_LOCK}),
    ),
    Mutation("the lock never closed", PATIENT, "2", dropping(X.CLOSE_LOCK, (S.YIELDING, E.NO_WORKER))),
    Mutation(
        "rollback without the lock",
        CRASH,
        "1",
        replacing(S.WATCHING, E.PEER_GONE, Rule(S.SERVING, (X.RELEASE_WORKERS, X.ANSWER_FAILED))),
    ),
    Mutation(
        "rollback while the old description is closed",
        CRASH,
        "2",
        dropping(X.OPEN_LOCK, (S.YIELDED, E.PEER_GONE)),
    ),
    Mutation(
        "serving as soon as the predecessor is dead, lock or no lock",
        CRASH,
        "1",
        replacing(S.CLAIMING, E.PEER_GONE, Rule(S.SERVING, (X.RELEASE_WORKERS,))),
    ),
    # ------------------------------------------------------------------------------ somebody has to stay
    *(
        Mutation(f"the successor leaves when its predecessor dies, {state.name}", CRASH, "2", _leaves(state))
        for state in (S.WARMING, S.CLAIMING, S.KILLING_PREDECESSOR)
    ),
    Mutation("a failed successor leaves a dead predecessor", CRASH, "2", ignoring((S.FAILED, E.PEER_GONE))),
    Mutation(
        "leaving because a worker died on probation",
        CRASH,
        "3",
        replacing(S.ON_TRIAL, E.WORKER_GONE, Rule(S.FAILED, (X.STOP_WORKERS,))),
    ),
    Mutation(
        "giving up at the second deadline",
        CRASH,
        "2",
        replacing(S.TAKING_LOCK, E.DEADLINE, Rule(S.LEAVING, (X.STOP_WORKERS,))),
    ),
    Mutation("a predecessor that hangs is never killed", HANG, "2", ignoring((S.CLAIMING, E.DEADLINE))),
    Mutation("a successor that hangs is never killed", HANG, "3", ignoring((S.STARTING_SUCCESSOR, E.DEADLINE))),
    Mutation("a successor that hangs after the yield is never killed", HANG, "2", ignoring((S.YIELDED, E.DEADLINE))),
    Mutation(
        "retaking without killing the late successor",
        HANG,
        "2",
        replacing(S.YIELDED, E.DEADLINE, Rule(S.TAKING_LOCK_BACK, (X.OPEN_LOCK,))),
    ),
    Mutation("a hung successor's worker keeps the lock", HANG, "2", ignoring((S.TAKING_LOCK_BACK, E.DEADLINE))),
    Mutation("a dead predecessor's worker keeps the lock", CRASH_HANG, "2", ignoring((S.TAKING_LOCK, E.DEADLINE))),
    # ----------------------------------------------------------------------------------------- the verdict
    Mutation(
        "done before the barrier",
        CRASH,
        "3",
        replacing(NAMING_STATE, NAMING_EVENT, Rule(S.DRAINING, (X.NAME_MAIN_PID, X.TELL_COMMITTED, X.ANSWER_DONE))),
    ),
    Mutation("commit although the successor died", CRASH, "3", ignoring((S.COMMITTING, E.PEER_GONE))),
    *(
        Mutation(
            f"no verdict after a rollback, {event.name}", BARE, "3", dropping(X.ANSWER_FAILED, (S.RESTORING, event))
        )
        for event in (E.WORKERS_SETTLED, E.DEADLINE)
    ),
    Mutation(
        "a verdict before the old worker serves again, TAKING_LOCK_BACK",
        CRASH_PATIENT,
        "3: failed, before",
        replacing(
            S.TAKING_LOCK_BACK, E.LOCK_GAINED, Rule(S.SERVING, (X.WRITE_PID, X.RELEASE_WORKERS, X.ANSWER_FAILED))
        ),
    ),
    Mutation(
        "a verdict before the old worker serves again, REVIVING",
        CRASH_PATIENT,
        "3: failed, before",
        replacing(S.REVIVING, E.NO_WORKER, Rule(S.SERVING, (X.KILL_PEER_WORKERS, X.ANSWER_FAILED))),
    ),
    *(
        Mutation(
            f"a verdict although the old worker has just died, {state.name}",
            World(crashes=2),
            "3: failed, before",
            replacing(state, E.PEER_GONE, Rule(S.SERVING, (X.KILL_PEER_WORKERS, X.ANSWER_FAILED))),
        )
        for state in (S.STARTING_SUCCESSOR, S.CANCELLING)
    ),
    Mutation("a verdict that waits for a deadline", CRASH_PATIENT, "3", ignoring((S.RESTORING, E.WORKERS_SETTLED))),
    Mutation("the old worker is not released again", CRASH_PATIENT, "2", ignoring((S.RESTORING, E.WORKER_READY))),
    Mutation(
        "two verdicts",
        BARE,
        "3",
        replacing(S.STARTING_SUCCESSOR, E.DEADLINE, Rule(S.CANCELLING, (X.KILL_PEER, X.ANSWER_FAILED))),
    ),
    # -------------------------------------------------------------------------------------------- stopping
    *(
        Mutation(f"a stop is not passed on, {state.name}", PATIENT, "6", dropping(X.TELL_STOP, (state, E.STOP_ASKED)))
        for state in (S.STARTING_SUCCESSOR, S.YIELDED, S.COMMITTING, S.DRAINING)
    ),
    Mutation(
        "a stop is not passed on, ON_TRIAL", CRASH_PATIENT, "3", dropping(X.TELL_STOP, (S.ON_TRIAL, E.STOP_ASKED))
    ),
    *(
        Mutation(f"the peer's stop is not obeyed, {state.name}", STOP, "6", ignoring((state, E.PEER_STOPS)))
        for state in (S.CANCELLING, S.KILLING_SUCCESSOR)
    ),
    Mutation("a stop does not stop the workers", PATIENT, "6", dropping(X.STOP_WORKERS, (S.SERVING, E.STOP_ASKED))),
    Mutation("nobody hears that the peer is empty", PATIENT, "6", ignoring((S.STOPPING, E.PEER_EMPTY))),
    Mutation("no empty is told", PATIENT, "6", dropping(X.TELL_EMPTY, (S.STOPPING, E.NO_WORKER))),
    Mutation("not waiting for the peer", HANG_STOP, "6", replacing(S.STOPPING, E.NO_WORKER, Rule(S.GONE, (X.EXIT,)))),
    Mutation("a peer that hangs in a stop is never killed", HANG_STOP, "6", ignoring((S.EMPTY, E.DEADLINE))),
    Mutation("a worker that hangs in a stop is never killed", HANG_STOP, "6", ignoring((S.STOPPING, E.DEADLINE))),
    Mutation("a drained predecessor stays", PATIENT, "6", ignoring((S.DRAINING, E.NO_WORKER))),
    # ------------------------------------------------------------------------------------------- the check
    Mutation("no word of the check", TRIAL, "3", replacing(S.YIELDED, E.PEER_SERVES, Rule(S.WATCHING))),
    Mutation(
        "a failed check passes", TRIAL, "3", replacing(S.ON_TRIAL, E.CHECK_FAILED, Rule(S.ON_TRIAL, (X.TELL_CHECKED,)))
    ),
    Mutation("a failure is watched", TRIAL, "3", replacing(S.CHECKING, E.PEER_FAILED, Rule(S.WATCHING))),
    Mutation("a passed check is kept secret", PATIENT, "3", dropping(X.TELL_CHECKED, (S.ON_TRIAL, E.CHECK_PASSED))),
    Mutation(
        "a successor that hangs in its check is never killed", TRIAL_HANG, "3", ignoring((S.CHECKING, E.DEADLINE))
    ),
    Mutation(
        "a failure before it serves recalls nobody",
        LATE_PATIENT,
        "3",
        dropping(X.KILL_PEER, (S.YIELDED, E.PEER_FAILED)),
    ),
    # ------------------------------------------------------------------------------------------ the overlap
    _lapse(Lapse.KILLS_WITHOUT_TOKEN, OVERLAP, "1"),
    _lapse(Lapse.DEATH_BEFORE_MESSAGES, OVERLAP_STOP, "6"),
    _lapse(Lapse.COMMITS_BEFORE_DEATH, OVERLAP_CRASH, "3"),
    _lapse(Lapse.LEAVES_IN_HASTE, OVERLAP_CRASH, "2"),
    _lapse(Lapse.WORKERS_UNANNOUNCED, OVERLAP_HANG, "it settles"),
    _lapse(Lapse.NO_WORKER_DEADLINE, OVERLAP_HANG, "2"),
    _lapse(Lapse.SERVES_BESIDE_PEER, MIXED_CRASH, "1: two generations"),
    _lapse(Lapse.WORKERS_KEEP_LOCK, OVERLAP_PATIENT, "3"),
    Mutation("the lock kept", OVERLAP_PATIENT, "3", dropping(X.CLOSE_LOCK, (S.STARTING_SUCCESSOR, E.PEER_ASKS_LOCK))),
    Mutation(
        "the workers stopped at the yield",
        OVERLAP,
        "1",
        replacing(S.STARTING_SUCCESSOR, E.PEER_ASKS_LOCK, Rule(S.YIELDED, (X.STOP_WORKERS, X.CLOSE_LOCK))),
    ),
    Mutation(
        "the yield of an exclusive handover",
        OVERLAP,
        "1",
        replacing(S.STARTING_SUCCESSOR, E.PEER_ASKS_LOCK, Rule(S.YIELDING, (X.STOP_WORKERS,))),
    ),
    *(
        Mutation(
            f"a way back that {words} the workers",
            OVERLAP,
            "1",
            replacing(S.KILLING_SUCCESSOR, E.PEER_GONE, Rule(S.TAKING_LOCK_BACK, (X.OPEN_LOCK, effect))),
        )
        for words, effect in (("stops", X.STOP_WORKERS), ("kills", X.KILL_WORKERS))
    ),
    Mutation(
        "a way back without the lock",
        OVERLAP_CRASH,
        "1",
        replacing(S.WATCHING, E.PEER_GONE, Rule(S.SERVING, (X.RELEASE_WORKERS, X.ANSWER_FAILED))),
    ),
    Mutation(
        "a way back while the old description is closed",
        OVERLAP_CRASH,
        "2",
        dropping(X.OPEN_LOCK, (S.CHECKING, E.PEER_GONE)),
    ),
    Mutation(
        "retaking the lock without killing the late successor",
        OVERLAP_HANG,
        "2",
        replacing(S.YIELDED, E.DEADLINE, Rule(S.TAKING_LOCK_BACK, (X.OPEN_LOCK,))),
    ),
    Mutation(
        "a worker released beside the successor's",
        OVERLAP_CRASH,
        "1",
        replacing(S.WATCHING, E.WORKER_READY, Rule(S.WATCHING, (X.RELEASE_WORKERS,))),
    ),
    Mutation(
        "the commit takes back",
        OVERLAP_CRASH,
        "1",
        replacing(S.DRAINING, E.PEER_GONE, Rule(S.TAKING_LOCK_BACK, (X.OPEN_LOCK,))),
    ),
    Mutation("the commit stops nobody", OVERLAP, "1", dropping(X.STOP_WORKERS, (S.COMMITTING, E.BARRIER_RETURNED))),
    *(
        Mutation(f"a stop leaves workers, {state.name}", OVERLAP_STOP, "1", dropping(X.STOP_WORKERS, (state, event)))
        for state, event in (
            *product((*WITHOUT_LOCK, S.RESTORING), (E.STOP_ASKED,)),
            *((state, E.PEER_STOPS) for state in WITHOUT_LOCK if state not in (S.YIELDED, S.TAKING_LOCK_BACK)),
        )
    ),
    Mutation("a hung orphan stays", OVERLAP_HANG, "it settles", ignoring((S.SERVING, E.DEADLINE))),
    Mutation("one that drained stays", OVERLAP_PATIENT, "6", ignoring((S.DRAINING, E.NO_WORKER))),
    Mutation(
        "a stop while draining is kept secret", OVERLAP_PATIENT, "6", dropping(X.TELL_STOP, (S.DRAINING, E.STOP_ASKED))
    ),
    # ---------------------------------------------------------------------------------------- the pid file
    Mutation("the pid file is not written", BARE, "the pid file", dropping(X.WRITE_PID, (S.CLAIMING, E.LOCK_GAINED))),
)
