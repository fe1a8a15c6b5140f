"""What the kernel does to a joint in progress (a list): messages, the flock, deaths and who gets to know of them."""

from sdsupervise.core.takeover import Event, State

from .joint import (
    ABSENT,
    CHECKED,
    CRASHES,
    DEAD,
    DRAINING,
    EVENT_INDEX,
    EXCUSED,
    HUNG,
    INBOX,
    LOCK,
    LOCK_FD,
    MAIN,
    MODE,
    NEW,
    NO_WORKER,
    NOBODY_TO_CLEAN,
    NOBODY_TO_SERVE,
    NOTIFY,
    OLD,
    PID_FILE,
    RETURNED,
    RUNS,
    SEEN_OUT,
    STATE_INDEX,
    TERM,
    TOKEN,
    TOLD_EMPTY,
    TRIAL,
    UNREAD,
    UNREAPED,
    VERDICT,
    WORKER,
    Joint,
    first_message,
    lives,
    with_message,
)

_SERVING, _FAILED, _ACTING = (STATE_INDEX[state] for state in (State.SERVING, State.FAILED, State.ON_TRIAL))
_STOPS = (STATE_INDEX[State.STOPPING], STATE_INDEX[State.LEAVING])
_PEER_STOPS, _PEER_EMPTY = EVENT_INDEX[Event.PEER_STOPS], EVENT_INDEX[Event.PEER_EMPTY]
# Whoever stands here ends up serving if nobody else does, so that a fault of the other one is no excuse.
_MAY_SERVE = frozenset(
    index
    for state, index in STATE_INDEX.items()
    if state not in (State.DRAINING, State.STOPPING, State.EMPTY, State.LEAVING, State.GONE)
)
# Whoever stands here leaves without a look at what the other one left behind.
_LEAVES_BLINDLY = frozenset({STATE_INDEX[State.DRAINING], DEAD, ABSENT})
_LEAVES_ALONE = frozenset({STATE_INDEX[State.EMPTY], STATE_INDEX[State.LEAVING], STATE_INDEX[State.FAILED]})


def other(side: int) -> int:
    """The peer's side."""
    return NEW - side


def send(joint: list[int], side: int, message: int) -> None:
    """Tell the peer; to a dead one it is lost."""
    peer = other(side)
    if joint[DRAINING]:
        if side == OLD and message == _PEER_STOPS:
            joint[NEW + TERM] = 1  # means the service
    elif joint[peer] < DEAD:
        joint[peer + INBOX] = with_message(joint[peer + INBOX], message)


def watch_until_gone(joint: list[int]) -> None:
    """The newer side has heard of the commit: it listens to the older one for a stop alone, and says nothing to it but
    that it is free to leave."""
    inbox, joint[NEW + INBOX] = joint[NEW + INBOX], 0
    joint[DRAINING] = SEEN_OUT
    while inbox:
        send(joint, OLD, first_message(inbox))
        inbox >>= 5


def die(joint: list[int], side: int) -> None:
    """A supervisor ends, whatever the reason. What it said can still be read."""
    peer = other(side)
    joint[side] = DEAD if joint[peer] < DEAD else ABSENT
    joint[side + MODE] = RUNS
    if side == OLD:
        joint[VERDICT] = 0  # whoever waits for it sees the connection end, and reports failure
    if joint[MAIN] == side + 1:
        joint[MAIN] = 0
    if joint[peer] == DEAD:
        joint[peer] = ABSENT  # nobody is left to notice


def kill_worker(joint: list[int], side: int) -> None:
    """SIGKILL, which a worker obeys at once, hung or not."""
    if lives(joint[side + WORKER]):
        joint[side + WORKER] = UNREAPED


def crash(joint: list[int], side: int) -> None:
    """A supervisor dies for no reason of ours."""
    _excuse(joint, side, hangs=False)
    joint[CRASHES] -= 1
    die(joint, side)


def hang(joint: list[int], side: int) -> None:
    """A supervisor stops running, for a while or for ever."""
    _excuse(joint, side, hangs=True)
    joint[side + MODE] = HUNG


def resume(joint: list[int], side: int) -> None:
    """It runs again, and with it what it is good for."""
    joint[side + MODE] = RUNS
    if joint[side] in _MAY_SERVE:
        joint[EXCUSED] &= ~NOBODY_TO_SERVE


def _excuse(joint: list[int], side: int, *, hangs: bool) -> None:
    """A fault befalls one side: note whether the other is in a position to serve, and to clean up."""
    peer = other(side)
    # A failed successor steps in for a dead predecessor; that a living one hangs it cannot know.
    blind = hangs and joint[peer] == _FAILED
    if blind or joint[peer] not in _MAY_SERVE or joint[peer + MODE] != RUNS:
        joint[EXCUSED] |= NOBODY_TO_SERVE
    leaves_alone = joint[side] in _LEAVES_ALONE or (side == NEW and joint[DRAINING] == TOLD_EMPTY)
    if joint[peer] in _LEAVES_BLINDLY or joint[peer + MODE] != RUNS or (hangs and leaves_alone):
        joint[EXCUSED] |= NOBODY_TO_CLEAN


def free_lock(joint: list[int], *, workers_hold_copies: bool) -> None:
    """The flock is free when the last copy of its open file description is closed."""
    owner = joint[LOCK]
    if not owner:
        return
    side = owner - 1
    held = joint[side] < DEAD and joint[side + LOCK_FD]
    if not held and not (workers_hold_copies and lives(joint[side + WORKER])):
        joint[LOCK] = 0


def settled(joint: list[int], *, systemd: bool, workers_hold_copies: bool) -> Joint:
    """The joint with everything done that needs no decision, and with what nobody can see any more forgotten."""
    for side in (OLD, NEW):
        if joint[side] >= DEAD and joint[side + WORKER] == UNREAPED:
            joint[side + WORKER] = NO_WORKER  # pid 1 reaps the orphans
    free_lock(joint, workers_hold_copies=workers_hold_copies)
    if joint[NEW] >= DEAD or (joint[NEW] != _ACTING and joint[TRIAL] <= CHECKED):
        joint[TRIAL] = 0  # a command that still runs is ended
    if joint[DRAINING]:
        _settle_draining(joint)
    if (
        joint[OLD] == ABSENT
        and joint[OLD + WORKER] == NO_WORKER
        and joint[NEW] == _SERVING
        and joint[NEW + MODE] in (RUNS, HUNG)
        and joint[NOTIFY] != UNREAD
    ):
        _become_old(joint, systemd=systemd)
    for side in (OLD, NEW):
        if joint[side] >= DEAD:
            joint[side + INBOX] = joint[side + TERM] = joint[side + MODE] = joint[side + LOCK_FD] = 0
        if joint[side] == ABSENT:
            joint[other(side) + INBOX] = 0  # the channel has been read to its end
    if joint[OLD] >= DEAD and joint[NOTIFY] == RETURNED:
        joint[NOTIFY] = 0
    return tuple(joint)


def _settle_draining(joint: list[int]) -> None:
    if joint[OLD] == DEAD:
        joint[OLD] = ABSENT
    if joint[NEW] >= DEAD or (joint[OLD] == ABSENT and joint[OLD + WORKER] == NO_WORKER):
        joint[DRAINING] = 0
    elif joint[DRAINING] == SEEN_OUT and joint[NEW] in _STOPS and joint[NEW + WORKER] == NO_WORKER:
        joint[DRAINING] = TOLD_EMPTY
        if joint[OLD] < DEAD:
            joint[OLD + INBOX] = with_message(joint[OLD + INBOX], _PEER_EMPTY)


def _become_old(joint: list[int], *, systemd: bool) -> None:
    """The reload is over: who was new is old for the next one."""
    joint[OLD : OLD + 6] = joint[NEW : NEW + 6]
    joint[OLD + INBOX] = 0
    joint[NEW : NEW + 6] = [ABSENT, RUNS, NO_WORKER, 0, 0, 0]
    for field in (LOCK, PID_FILE):
        if joint[field] == NEW + 1:
            joint[field] = OLD + 1
    joint[MAIN] = OLD + 1 if systemd and joint[MAIN] == NEW + 1 else 0
    joint[TOKEN] = joint[NOTIFY] = joint[TRIAL] = joint[DRAINING] = 0
