"""Ways to spoil the takeover: those the walk has to catch, each in its smallest world, and those it cannot.

A mutated table ignores what the real one calls impossible, so that what is caught is a broken promise.
"""

from types import MappingProxyType
from typing import NamedTuple

from sdsupervise.core.takeover import Effect, Event, Rule, State

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


class Mutation(NamedTuple):
    """One way to spoil it, and what the walk says."""

    name: str
    world: World
    breaks: str  # how the broken promise begins
    changes: Changes = NOTHING
    lapses: frozenset[Lapse] = frozenset()


def _lapse(lapse: Lapse, world: World, breaks: str) -> Mutation:
    return Mutation(f"shell: {lapse.name}", world, breaks, lapses=frozenset({lapse}))


def _leaves(state: State) -> Changes:
    return replacing(state, E.PEER_GONE, Rule(S.LAST, (X.STOP_WORKERS,)))


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
        replacing(S.RAISING, E.PEER_ASKS_YIELD, Rule(S.YIELDING, (X.STOP_WORKERS, X.CLOSE_LOCK))),
        frozenset({Lapse.UNLOCKS}),
    ),
    Mutation(
        "the lock closed before the workers stop, which hold no copy",
        BARE,
        "1",
        replacing(S.RAISING, E.PEER_ASKS_YIELD, Rule(S.YIELDING, (X.STOP_WORKERS, X.CLOSE_LOCK))),
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
        for state in (S.WARMING, S.CLAIMING, S.FORCING)
    ),
    Mutation("a failed successor leaves a dead predecessor", CRASH, "2", ignoring((S.FAILED, E.PEER_GONE))),
    Mutation(
        "leaving because a worker died on probation",
        CRASH,
        "3",
        replacing(S.ACTING, E.WORKER_GONE, Rule(S.FAILED, (X.STOP_WORKERS,))),
    ),
    Mutation(
        "giving up at the second deadline",
        CRASH,
        "2",
        replacing(S.STARTING, E.DEADLINE, Rule(S.LAST, (X.STOP_WORKERS,))),
    ),
    Mutation("a predecessor that hangs is never killed", HANG, "2", ignoring((S.CLAIMING, E.DEADLINE))),
    Mutation("a successor that hangs is never killed", HANG, "3", ignoring((S.RAISING, E.DEADLINE))),
    Mutation("a successor that hangs after the yield is never killed", HANG, "2", ignoring((S.YIELDED, E.DEADLINE))),
    Mutation(
        "retaking without killing the late successor",
        HANG,
        "2",
        replacing(S.YIELDED, E.DEADLINE, Rule(S.RETAKING, (X.OPEN_LOCK,))),
    ),
    Mutation("a hung successor's worker keeps the lock", HANG, "2", ignoring((S.RETAKING, E.DEADLINE))),
    Mutation("a dead predecessor's worker keeps the lock", CRASH_HANG, "2", ignoring((S.STARTING, E.DEADLINE))),
    # ----------------------------------------------------------------------------------------- the verdict
    Mutation(
        "done before the barrier",
        CRASH,
        "3",
        replacing(S.WATCHING, E.DEADLINE, Rule(S.DRAINING, (X.NAME_MAIN_PID, X.TELL_COMMITTED, X.ANSWER_DONE))),
    ),
    Mutation("commit although the successor died", CRASH, "3", ignoring((S.COMMITTING, E.PEER_GONE))),
    Mutation("no verdict after a rollback", BARE, "3", dropping(X.ANSWER_FAILED, (S.RETAKING, E.LOCK_GAINED))),
    Mutation(
        "two verdicts",
        BARE,
        "3",
        replacing(S.RAISING, E.DEADLINE, Rule(S.CANCELLING, (X.KILL_PEER, X.ANSWER_FAILED))),
    ),
    # -------------------------------------------------------------------------------------------- stopping
    *(
        Mutation(f"a stop is not passed on, {state.name}", PATIENT, "6", dropping(X.TELL_STOP, (state, E.STOP_ASKED)))
        for state in (S.RAISING, S.YIELDED, S.COMMITTING, S.DRAINING)
    ),
    Mutation("a stop is not passed on, ACTING", CRASH_PATIENT, "3", dropping(X.TELL_STOP, (S.ACTING, E.STOP_ASKED))),
    *(
        Mutation(f"the peer's stop is not obeyed, {state.name}", STOP, "6", ignoring((state, E.PEER_STOPS)))
        for state in (S.CANCELLING, S.RECALLING)
    ),
    Mutation("a stop does not stop the workers", PATIENT, "6", dropping(X.STOP_WORKERS, (S.SERVING, E.STOP_ASKED))),
    Mutation("nobody hears that the peer is empty", PATIENT, "6", ignoring((S.STOPPING, E.PEER_EMPTY))),
    Mutation("no empty is told", PATIENT, "6", dropping(X.TELL_EMPTY, (S.STOPPING, E.NO_WORKER))),
    Mutation("not waiting for the peer", HANG_STOP, "6", replacing(S.STOPPING, E.NO_WORKER, Rule(S.GONE, (X.EXIT,)))),
    Mutation("a peer that hangs in a stop is never killed", HANG_STOP, "6", ignoring((S.EMPTY, E.DEADLINE))),
    Mutation("a worker that hangs in a stop is never killed", HANG_STOP, "6", ignoring((S.STOPPING, E.DEADLINE))),
    Mutation("a drained predecessor stays", PATIENT, "6", ignoring((S.DRAINING, E.NO_WORKER))),
    # ---------------------------------------------------------------------------------------- the pid file
    Mutation("the pid file is not written", BARE, "the pid file", dropping(X.WRITE_PID, (S.CLAIMING, E.LOCK_GAINED))),
)


def _deleted(state: State, *events: Event) -> tuple[Changes, ...]:
    return tuple(ignoring((state, event)) for event in events)


def _dropped(effect: Effect, state: State, *events: Event) -> tuple[Changes, ...]:
    return tuple(dropping(effect, (state, event)) for event in events)


# Why the walk cannot see them: the mutations. None breaks a promise; tests with real processes hold what they spoil.
UNSEEN: dict[str, tuple[Changes, ...]] = {
    "something does the same later: another deadline, a death, the barrier, which returns in the end": (
        *_deleted(S.WARMING, E.DEADLINE),
        *_deleted(S.FORCING, E.LOCK_GAINED),
        *_deleted(S.ACTING, E.PEER_COMMITTED),
        *_deleted(S.FAILED, E.DEADLINE),
        *_deleted(S.YIELDING, E.DEADLINE),
        *_deleted(S.YIELDED, E.PEER_STOPS),
        *_deleted(S.COMMITTING, E.DEADLINE),
        *_deleted(S.DRAINING, E.DEADLINE),
        *_deleted(S.STOPPING, E.PEER_GONE),
        *_deleted(S.EMPTY, E.PEER_GONE),
        *_deleted(S.LAST, E.PEER_STOPS, E.PEER_GONE),
        *_dropped(X.TELL_COMMITTED, S.COMMITTING, E.BARRIER_RETURNED, E.DEADLINE),
        *_dropped(X.TELL_EMPTY, S.LAST, E.NO_WORKER),
        *_dropped(X.KILL_WORKERS, S.FAILED, E.DEADLINE),
        *_dropped(X.KILL_WORKERS, S.YIELDING, E.DEADLINE),
        *_dropped(X.KILL_WORKERS, S.DRAINING, E.DEADLINE),
        *_dropped(X.KILL_PEER, S.ACTING, E.DEADLINE),
    ),
    "a stop's deadline kills what was not told to stop, and only deadlines lead here": (
        *_dropped(X.STOP_WORKERS, S.WARMING, E.DEADLINE),
        *_dropped(X.STOP_WORKERS, S.FORCING, E.PEER_STOPS, E.STOP_ASKED),
        *_dropped(X.STOP_WORKERS, S.CANCELLING, E.PEER_STOPS, E.STOP_ASKED),
    ),
    "the peer's workers die by themselves unless they hang, and are killed more than once": (
        *_dropped(X.KILL_PEER_WORKERS, S.CLAIMING, E.DEADLINE),
        *_dropped(X.KILL_PEER_WORKERS, S.FORCING, E.PEER_GONE),
        *_dropped(X.KILL_PEER_WORKERS, S.ACTING, E.DEADLINE),
        *_dropped(X.KILL_PEER_WORKERS, S.RAISING, E.PEER_GONE),
        *_dropped(X.KILL_PEER_WORKERS, S.CANCELLING, E.PEER_GONE),
        *_dropped(X.KILL_PEER_WORKERS, S.REVIVING, E.NO_WORKER),
        *_dropped(X.KILL_PEER_WORKERS, S.EMPTY, E.PEER_GONE, E.DEADLINE),
        *_dropped(X.KILL_PEER_WORKERS, S.LAST, E.PEER_GONE),
    ),
    "the verdict comes as the end of the connection: a failure all the same, without a reason": (
        *_dropped(X.ANSWER_FAILED, S.RAISING, E.STOP_ASKED),
        *_dropped(X.ANSWER_FAILED, S.CANCELLING, E.STOP_ASKED, E.PEER_STOPS),
        *_dropped(X.ANSWER_FAILED, S.YIELDING, E.STOP_ASKED),
        *_dropped(X.ANSWER_FAILED, S.REVIVING, E.STOP_ASKED),
        *_dropped(X.ANSWER_FAILED, S.YIELDED, E.STOP_ASKED, E.PEER_STOPS),
        *_dropped(X.ANSWER_FAILED, S.WATCHING, E.STOP_ASKED, E.PEER_STOPS),
        *_dropped(X.ANSWER_FAILED, S.COMMITTING, E.STOP_ASKED, E.PEER_STOPS),
        *_dropped(X.ANSWER_FAILED, S.RECALLING, E.STOP_ASKED, E.PEER_STOPS),
        *_dropped(X.ANSWER_FAILED, S.RETAKING, E.STOP_ASKED),
    ),
    "the model's only worker is dead already": (
        *_dropped(X.STOP_WORKERS, S.OPENING, E.GAVE_UP),
        *_dropped(X.STOP_WORKERS, S.SERVING, E.GAVE_UP),
        *_dropped(X.STOP_WORKERS, S.WARMING, E.WORKER_GONE),
        *_dropped(X.STOP_WORKERS, S.CLAIMING, E.WORKER_GONE),
    ),
    "no promise is about it: whether probation has teeth, a reload can be had, cancelled, or given up": (
        *_deleted(S.ACTING, E.WORKER_GONE),
        *_dropped(X.TELL_FAILED, S.ACTING, E.WORKER_GONE),
        *_deleted(S.WATCHING, E.PEER_FAILED),
        *_deleted(S.CLAIMING, E.WORKER_GONE, E.STOP_ASKED),
        *_deleted(S.WARMING, E.STOP_ASKED),
        *_deleted(S.FAILED, E.STOP_ASKED),
        *_deleted(S.SERVING, E.RELOAD_ASKED, E.GAVE_UP),
        *_deleted(S.OPENING, E.GAVE_UP),
    ),
}
