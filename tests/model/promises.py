"""What has to hold: the numbered invariants of the takeover, as far as two supervisors can keep or break them.

1. `exclusive`: only the generation whose open file description holds the lock has released workers. `overlap`: only
   the lock's holder releases workers; the released ones of the older generation go on up to the commit, are told to
   stop then, and by no way back. Without a fault or a deadline no moment passes without one that serves.
2. Somebody serves, without help, while a supervisor that may serve lives and runs, unless a stop was asked.
3. A reload gets at most one verdict, and "done" only if the successor serves, its check has passed, and it was alive
   after the barrier.
4. Until the commit the predecessor can return. (Follows from 2 here: whoever returned has to serve.)
6. Once a stop was taken nothing of ours is left after bounded time.
Besides: whatever happened, it all settles in the end with one generation that serves and nothing left of others.

A fault is an excuse only if it left nobody who could have done the work; with systemd, which restarts a unit whose main
process is dead or hung, 6 has no excuse at all.
"""

from collections.abc import Sequence

from sdsupervise.core.takeover import Effect, State
from tests.support.places import WITHOUT_LOCK

from .joint import (
    ABSENT,
    BOUND,
    CALLED_OFF,
    CALLED_OFF_READY,
    DEAD,
    EXCUSED,
    HANGING,
    HUNG,
    LEAVING,
    LOCK,
    MAIN,
    MODE,
    NEW,
    NO_WORKER,
    NOBODY_TO_CLEAN,
    NOBODY_TO_SERVE,
    NOTIFY,
    OLD,
    PID_FILE,
    PROVEN,
    RELEASED,
    RESTARTED,
    STATE_INDEX,
    STOP,
    TOLD,
    TRIAL,
    UNREAD,
    VERDICT,
    WORKER,
    Joint,
    is_active,
)
from .walk import Broken, Promise
from .world import World

_SERVING = STATE_INDEX[State.SERVING]
_DRAINING = STATE_INDEX[State.DRAINING]
_OPENING, _ACTING = STATE_INDEX[State.OPENING], STATE_INDEX[State.ON_TRIAL]
# Where the older side has no lock, and yet workers that serve or finish.
_BESIDE = frozenset(
    STATE_INDEX[state] for state in (*WITHOUT_LOCK, State.DRAINING, State.STOPPING, State.EMPTY, State.LEAVING)
)
_HAS_TOLD_ITS_WORKERS = frozenset(
    STATE_INDEX[state]
    for state in (
        State.FAILED,
        State.TAKING_LOCK,
        State.DRAINING,
        State.STOPPING,
        State.EMPTY,
        State.LEAVING,
        State.GONE,
    )
)
# The predecessor missed its deadline and is being killed, workers and all.
_FORCED = frozenset({STATE_INDEX[State.KILLING_PREDECESSOR], STATE_INDEX[State.TAKING_LOCK]})
_TOLD = frozenset({TOLD, LEAVING, CALLED_OFF, CALLED_OFF_READY})
_SERVES_OR_DID = frozenset(
    STATE_INDEX[state] for state in (State.ON_TRIAL, State.SERVING, State.STOPPING, State.EMPTY, State.LEAVING)
)


def check(joint: Joint, world: World) -> None:
    """What must hold in every state."""
    if world.overlap:
        _check_overlap(joint, world)
    for side in (OLD, NEW):
        orphan_may = world.mixed and joint[side] >= DEAD  # it knows, and is waited for
        if not world.overlap and is_active(joint[side + WORKER]) and joint[LOCK] != side + 1 and not orphan_may:
            raise Broken("1: a released worker without the lock")
        if joint[side] == _SERVING and joint[LOCK] == side + 1 != joint[PID_FILE]:
            raise Broken("the pid file names another than the one who serves")
    # With exclusive two active generations are then impossible: the lock has one owner.
    if world.mixed and is_active(joint[OLD + WORKER]) and is_active(joint[NEW + WORKER]):
        raise Broken("1: two generations at work")
    if joint[VERDICT] and joint[OLD] in (_SERVING, _DRAINING):
        raise Broken("3: the reload is over and its caller was not told")


def _check_overlap(joint: Joint, world: World) -> None:
    for side in (OLD, NEW):
        state, worker = joint[side], joint[side + WORKER] % HANGING
        if state >= DEAD:
            continue  # its workers know, and leave
        if worker == RELEASED and state in _HAS_TOLD_ITS_WORKERS:
            raise Broken("1: a worker that was not told to stop")
        if is_active(worker) and joint[LOCK] != side + 1 and (side == NEW or state not in _BESIDE):
            raise Broken("1: a released worker beside the lock's holder")
        if worker in _TOLD and state not in _HAS_TOLD_ITS_WORKERS:
            raise Broken("1: a worker was stopped in an overlap, before the commit")
    no_fault = not (world.crashes or world.hangs or joint[NEW] in _FORCED or joint[OLD] >= RESTARTED)
    if no_fault and not joint[STOP] and joint[OLD] != _OPENING:
        if RELEASED not in (joint[OLD + WORKER], joint[NEW + WORKER]):
            raise Broken("1: a moment without a worker that serves")


def check_answer(joint: Sequence[int], effect: Effect, world: World) -> None:
    """What must hold when a reload's caller gets its answer."""
    if not joint[VERDICT]:
        raise Broken("3: a verdict that nobody waits for, or a second one")
    if effect is Effect.ANSWER_DONE:
        if joint[NEW] not in _SERVES_OR_DID:
            raise Broken("3: done, but the successor does not serve")
        if joint[NEW] == _ACTING and joint[TRIAL] != PROVEN:
            raise Broken("3: done, but the successor was not checked")
        if world.systemd and joint[NOTIFY] != UNREAD and joint[MAIN] not in (0, NEW + 1):
            raise Broken("3: done, but systemd refused the new main pid")


def promises(world: World) -> Sequence[Promise]:
    """What must come true from every state."""
    return (
        Promise("2: somebody serves", _serves, _need_not_serve),
        Promise("3: the reload's caller gets a verdict", _no_verdict_open, _old_hangs),
        Promise(
            "6: after a stop nothing is left",
            _nothing_left,
            _need_not_leave if world.systemd else _cannot_leave_cleanly,
        ),
        Promise("it settles: one generation serves", _settled, _need_not_settle),
    )


def _serves(joint: Joint) -> bool:
    return joint[OLD] >= RESTARTED or any(
        joint[side] < DEAD and joint[side + WORKER] == RELEASED and joint[LOCK] == side + 1 for side in (OLD, NEW)
    )


def _need_not_serve(joint: Joint) -> bool:
    # A SIGTERM that only cancelled the reload was still a stop, if there was no one else it could have meant.
    return bool(joint[BOUND] or joint[EXCUSED] & NOBODY_TO_SERVE or (joint[STOP] and _nothing_left(joint)))


def _no_verdict_open(joint: Joint) -> bool:
    return not joint[VERDICT]


def _old_hangs(joint: Joint) -> bool:
    return bool(joint[OLD + MODE] & HUNG)


def _nothing_left(joint: Joint) -> bool:
    return joint[OLD] >= RESTARTED or (
        joint[OLD] >= DEAD and joint[NEW] >= DEAD and not joint[OLD + WORKER] and not joint[NEW + WORKER]
    )


def _need_not_leave(joint: Joint) -> bool:
    return not joint[BOUND]


def _cannot_leave_cleanly(joint: Joint) -> bool:
    return not joint[BOUND] or bool(joint[EXCUSED] & NOBODY_TO_CLEAN)


def _settled(joint: Joint) -> bool:
    return joint[OLD] >= RESTARTED or (
        joint[OLD] == _SERVING
        and joint[NEW] == ABSENT
        and joint[NEW + WORKER] == NO_WORKER
        and joint[OLD + WORKER] == RELEASED
        and not joint[VERDICT]
    )


def _need_not_settle(joint: Joint) -> bool:
    return bool(joint[BOUND] or joint[EXCUSED] or (joint[STOP] and _nothing_left(joint)))
