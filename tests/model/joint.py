"""A joint state of two supervisors and their world, as a flat tuple of small ints, and its picture in words.

The older side's fields come first, the newer side's after them, then what both share. A side is named by the index its
fields begin at (OLD, NEW), so `joint[side + WORKER]` is its worker; an owner (of the lock, the token, the main pid) is
`side + 1`, 0 is nobody. A supervisor's state is an index into `STATES`, or one of the four constants after it.
"""

from typing import Final

from sdsupervise.core.takeover import Event, State

Joint = tuple[int, ...]

STATES: Final = tuple(State)
EVENTS: Final = tuple(Event)
STATE_INDEX: Final = {state: index for index, state in enumerate(STATES)}
EVENT_INDEX: Final = {event: index for index, event in enumerate(EVENTS)}

# A supervisor that is no more.
DEAD: Final = len(STATES)  # its peer has not noticed yet
ABSENT: Final = DEAD + 1  # its peer knows, or there never was one
# Ends of the story, in the older side's place: what systemd does when the main process is dead.
RESTARTED: Final = DEAD + 2  # it clears the unit's processes away and starts anew
SWEPT: Final = DEAD + 3  # the same after `systemctl stop`, without a new start

# ------------------------------------------------------------------------------------------ one side's fields
STATE: Final = 0
MODE: Final = 1
WORKER: Final = 2
INBOX: Final = 3  # what the peer said and we have not read yet: event indexes + 1, five bits each, oldest lowest
TERM: Final = 4  # a SIGTERM waits for us
LOCK_FD: Final = 5  # the supervisor itself has the pid file's open file description
OLD: Final = 0
NEW: Final = 6
# ---------------------------------------------------------------------------------------------- shared fields
LOCK: Final = 12  # who holds the flock
TOKEN: Final = 13  # who took the kill token
NOTIFY: Final = 14
MAIN: Final = 15  # systemd's main pid
VERDICT: Final = 16  # 1 = a reload's caller waits for its answer
STOP: Final = 17  # how it was asked for
BOUND: Final = 18  # 1 = a stop was taken by a supervisor that answers for the service
CRASHES: Final = 19  # faults left to spend
HANGS: Final = 20
STOPS: Final = 21  # requests to stop left to make
EXCUSED: Final = 22
PID_FILE: Final = 23  # whose pid is in it
TRIAL: Final = 24  # how the newer side proves itself, from its release on
DRAINING: Final = 25  # the newer side has heard of the commit: the older is no peer any more, only to be seen out
WIDTH: Final = 26

# MODE
RUNS: Final = 0
HUNG: Final = 1
DOOMED: Final = 2  # SIGKILL is on its way, and may take any time; HUNG | DOOMED is 3
# WORKER; of a hung one the value is 10 higher
NO_WORKER: Final = 0
STARTING: Final = 1
READY: Final = 2  # has said "takeover", unread
WAITING: Final = 3
RELEASED: Final = 4
TOLD: Final = 5  # released, with a SIGTERM it has not seen
LEAVING: Final = 6
UNREAPED: Final = 7
CALLED_OFF: Final = 8  # never released, has a SIGTERM
CALLED_OFF_READY: Final = 9  # the same, and its "takeover" is still unread
HANGING: Final = 10
# NOTIFY
UNREAD: Final = 1  # systemd has not read the new main pid yet
RETURNED: Final = 2  # the barrier is back, its reader has not noticed
# TRIAL
STARTING_LATE: Final = 1  # its worker could only be started now and is not up yet
CHECKED: Final = 2  # the before_commit command runs
PASSED: Final = 3  # its end is unread
REFUTED: Final = 4  # the same
PROVEN: Final = 5
# DRAINING
SEEN_OUT: Final = 1
TOLD_EMPTY: Final = 2  # has been told that nobody waits for it
# STOP
BY_SIGNAL: Final = 1
BY_SYSTEMCTL: Final = 2
# EXCUSED: a fault came when nobody else was there who could …
NOBODY_TO_SERVE: Final = 1
NOBODY_TO_CLEAN: Final = 2


def lives(worker: int) -> bool:
    """Whether there is a process."""
    return worker % HANGING not in (NO_WORKER, UNREAPED)


def is_active(worker: int) -> bool:
    """Whether it was released and may still be working."""
    return worker % HANGING in (RELEASED, TOLD, LEAVING)


def first_message(inbox: int) -> int:
    """The index of the event that the oldest message is."""
    return (inbox & 31) - 1


def with_message(inbox: int, event: int) -> int:
    """The inbox with one message more. The same one is not queued twice: hearing it again adds nothing."""
    rest, place = inbox, 0
    while rest:
        if (rest & 31) - 1 == event:
            return inbox
        rest >>= 5
        place += 5
    return inbox | (event + 1) << place


# --------------------------------------------------------------------------------------------------- in words
_SUPERVISORS = (*(state.name for state in STATES), "(dead)", "-", "RESTARTED", "SWEPT")
_MODES = ("", " hung", " doomed", " hung, doomed")
_WORKERS = (
    *("none", "starting", "ready", "waiting", "released", "told to stop", "leaving", "dead"),
    *("called off", "called off when ready"),
)
SIDES: Final = {OLD: "old", NEW: "new"}
_OWNERS = {0: "-", OLD + 1: "old", NEW + 1: "new"}


def worker_in_words(worker: int) -> str:
    """A worker's condition."""
    return _WORKERS[worker % HANGING] + (" (hung)" if worker >= HANGING else "")


def _side(joint: Joint, side: int) -> str:
    text = _SUPERVISORS[joint[side]] + _MODES[joint[side + MODE]]
    if joint[side + WORKER]:
        text += f" [worker {worker_in_words(joint[side + WORKER])}]"
    inbox, names = joint[side + INBOX], []
    while inbox:
        names.append(EVENTS[first_message(inbox)].name)
        inbox >>= 5
    if names:
        text += f" <{' '.join(names)}>"
    return text + (" <SIGTERM>" if joint[side + TERM] else "")


def in_words(joint: Joint) -> str:
    """One line for a person."""
    text = f"old {_side(joint, OLD):40} new {_side(joint, NEW):40} lock {_OWNERS[joint[LOCK]]}"
    for name, field in (("token", TOKEN), ("main", MAIN)):
        if joint[field]:
            text += f", {name} {_OWNERS[joint[field]]}"
    for words, there in (
        ("MAINPID unread", joint[NOTIFY] == UNREAD),
        ("barrier back", joint[NOTIFY] == RETURNED),
        ("worker not up", joint[TRIAL] == STARTING_LATE),
        ("check runs", joint[TRIAL] == CHECKED),
        ("check passed", joint[TRIAL] == PASSED),
        ("check failed", joint[TRIAL] == REFUTED),
        ("verdict open", joint[VERDICT]),
        ("the old one only drains", joint[DRAINING]),
        ("stop taken", joint[BOUND]),
        ("excused", joint[EXCUSED]),
    ):
        if there:
            text += f", {words}"
    return text
