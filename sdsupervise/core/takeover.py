"""Who serves: the states of a supervisor and every way from one to the next.

Two supervisors meet in a reload. The *predecessor* serves, holds the lock (the flock on the pid file) and is
systemd's main pid; the *successor* runs the new code. Each follows the same table and calls the other its *peer*.
The table is all there is: the shell in `supervisor.py` turns what happens into an event, looks the rule up here,
and performs its effects in order. Nothing else changes a supervisor's state.

    successor:    WARMING > CLAIMING > ACTING > SERVING           (FORCING, STARTING: the predecessor is no help)
    predecessor:  SERVING > RAISING > YIELDING > YIELDED > CHECKING > WATCHING > COMMITTING > DRAINING
    way back:     CANCELLING, REVIVING, RECALLING > RETAKING > SERVING
    stop:         STOPPING > EMPTY or LAST > GONE

The two handovers differ in one step. With `exclusive` a successor that is ready asks its predecessor to yield, and the
old workers stop first (YIELDING). With `overlap` it asks for the lock alone: the old workers go on serving beside the
new, up to the commit, and every way back finds them as they were. One that dies meanwhile is not replaced, since only
the lock's holder may release a worker. Where a rule from YIELDED on stops workers, it means them; an exclusive
predecessor has none there.

`tests/walk` joins two of these, adds the kernel's locks, signals, systemd, crashes and hangs, and visits every state
they can reach. A rule that looks redundant is there because a walk without it ended badly; see the mutations there.

Four things the shell owes the table, beside performing it:
* a message the peer sent before it died is an event before its death is;
* before BARRIER_RETURNED, and before DEADLINE in COMMITTING, it looks whether the successor lives and whether a signal
  waits: "done" must not be said of a dead one, nor after systemd has begun to stop us;
* before NO_WORKER in FAILED and LAST it looks whether the peer lives. A failed successor that leaves a moment after its
  predecessor died leaves the service to nobody;
* KILL_PEER takes the kill token first (one byte in a pipe both sides hold) and does nothing if it is gone. Without it
  two supervisors whose deadlines cross kill each other and nobody serves.

Alternatives considered: a library of state machines (automat, transitions) runs callbacks inside a transition, so
what a rule does could not be compared, walked or mutated as data.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from ..errors import ImpossibleEvent


class State(Enum):
    """Where a supervisor stands. A state says everything the table needs to know."""

    # The first generation, before its first worker is ready; it holds the lock already.
    OPENING = auto()
    # A successor, up to the commit.
    WARMING = auto()  # its workers initialise
    CLAIMING = auto()  # has asked the predecessor to yield, waits for the lock
    FORCING = auto()  # the predecessor did not yield in time and is being killed
    STARTING = auto()  # the predecessor is gone; nothing but the lock is missing
    ACTING = auto()  # holds the lock and serves; the predecessor can still call it back
    FAILED = auto()  # gives up; the predecessor serves on
    # The one that serves and has nobody above it.
    SERVING = auto()
    # A predecessor, from the reload's start.
    RAISING = auto()  # a successor warms up; we serve as ever
    CANCELLING = auto()  # the successor was too slow and is being killed
    YIELDING = auto()  # our workers stop, so that the successor's may serve
    REVIVING = auto()  # the successor died meanwhile; as soon as our old workers are gone we start new ones
    YIELDED = auto()  # the lock is given up; waiting to hear that the successor serves
    CHECKING = auto()  # the successor serves and runs the service's before_commit command
    WATCHING = auto()  # the successor serves on probation
    COMMITTING = auto()  # systemd has been told the new main pid; waiting until it has heard
    RECALLING = auto()  # the successor failed us and is being killed
    RETAKING = auto()  # the successor is dead; waiting to get the lock back
    DRAINING = auto()  # the successor is the main one; we leave when our workers have
    # Leaving for good.
    STOPPING = auto()  # a stop: our workers stop, the peer has been told
    EMPTY = auto()  # our workers are gone, the peer's not yet
    LAST = auto()  # nobody waits for us any more: leave with the last worker
    GONE = auto()


class Event(Enum):
    """A fact that reached a supervisor, by where it comes from."""

    # from our own workers
    WORKER_READY = auto()
    WORKER_GONE = auto()
    NO_WORKER = auto()  # none of ours is left (given again to each state that has a rule for it)
    GAVE_UP = auto()  # the crash-loop verdict of core/respawn.py
    # from the kernel
    LOCK_GAINED = auto()
    PEER_GONE = auto()  # the other supervisor is dead, and all it ever said has been heard
    NO_PEER = auto()  # there is none (given again to each state that has a rule for it)
    # from the peer, over the channel
    PEER_ASKS_YIELD = auto()  # it is ready, and may serve when our workers are gone
    PEER_ASKS_LOCK = auto()  # it is ready, and may serve beside our workers: both services are for overlap
    PEER_SERVES = auto()
    PEER_CHECKED = auto()
    PEER_FAILED = auto()
    PEER_COMMITTED = auto()
    PEER_STOPS = auto()
    PEER_EMPTY = auto()
    # from the before_commit command; CHECK_PASSED at once where there is none
    CHECK_PASSED = auto()
    CHECK_FAILED = auto()
    # from systemd
    BARRIER_RETURNED = auto()
    # from the clock
    DEADLINE = auto()
    # from people
    RELOAD_ASKED = auto()
    STOP_ASKED = auto()


class Effect(Enum):
    """An order to the shell."""

    # to our workers
    RELEASE_WORKERS = auto()  # answer "ok" to each that is ready
    STOP_WORKERS = auto()  # SIGTERM
    KILL_WORKERS = auto()  # SIGKILL
    # to the lock
    OPEN_LOCK = auto()  # a fresh open file description; the lock itself comes as LOCK_GAINED
    CLOSE_LOCK = auto()
    WRITE_PID = auto()
    # to the peer
    START_SUCCESSOR = auto()
    ASK_YIELD = auto()
    TELL_SERVING = auto()  # held back while a worker that could only be started now is not up
    TELL_CHECKED = auto()
    TELL_FAILED = auto()
    TELL_COMMITTED = auto()
    TELL_STOP = auto()
    TELL_EMPTY = auto()
    KILL_PEER = auto()
    KILL_PEER_WORKERS = auto()
    # to systemd
    NAME_MAIN_PID = auto()  # MAINPID= of the successor, then a barrier
    # to whoever asked for the reload
    ANSWER_DONE = auto()
    ANSWER_FAILED = auto()
    # to ourselves
    EXIT = auto()


class Rule(NamedTuple):
    """What follows an event: the next state, and what to do on the way, in this order."""

    next: State
    effects: tuple[Effect, ...] = ()


def _to(state: State, *effects: Effect) -> Rule:
    return Rule(state, effects)


S, E, X = State, Event, Effect

RULES: Mapping[State, Mapping[Event, Rule]] = {
    S.OPENING: {
        E.WORKER_READY: _to(S.SERVING, X.WRITE_PID, X.RELEASE_WORKERS),
        E.GAVE_UP: _to(S.STOPPING, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.STOP_WORKERS),
    },
    # ---------------------------------------------------------------------------------------------- successor
    S.WARMING: {
        E.WORKER_READY: _to(S.CLAIMING, X.ASK_YIELD),
        E.WORKER_GONE: _to(S.FAILED, X.STOP_WORKERS),
        E.DEADLINE: _to(S.FAILED, X.STOP_WORKERS),
        E.PEER_GONE: _to(S.STARTING),
        E.PEER_STOPS: _to(S.STOPPING, X.STOP_WORKERS),
        # A signal to a successor that does not serve yet cancels the reload, it does not stop the service.
        E.STOP_ASKED: _to(S.LAST, X.STOP_WORKERS),
    },
    S.CLAIMING: {
        E.LOCK_GAINED: _to(S.ACTING, X.WRITE_PID, X.RELEASE_WORKERS, X.TELL_SERVING),
        E.WORKER_GONE: _to(S.FAILED, X.STOP_WORKERS),
        E.DEADLINE: _to(S.FORCING, X.KILL_PEER, X.KILL_PEER_WORKERS),
        E.PEER_GONE: _to(S.STARTING),
        E.PEER_STOPS: _to(S.STOPPING, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.LAST, X.STOP_WORKERS),
    },
    S.FORCING: {
        E.LOCK_GAINED: _to(S.SERVING, X.WRITE_PID, X.RELEASE_WORKERS),
        E.PEER_GONE: _to(S.STARTING, X.KILL_PEER_WORKERS),
        E.PEER_STOPS: _to(S.STOPPING, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.STOP_WORKERS),
    },
    S.STARTING: {
        E.LOCK_GAINED: _to(S.SERVING, X.WRITE_PID, X.RELEASE_WORKERS),
        E.DEADLINE: _to(S.STARTING, X.KILL_PEER_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.STOP_WORKERS),
    },
    S.ACTING: {
        E.WORKER_READY: _to(S.ACTING, X.RELEASE_WORKERS),
        # The verdict on a worker's death is the predecessor's; once it has committed it hears this no more.
        E.WORKER_GONE: _to(S.ACTING, X.TELL_FAILED),
        E.CHECK_PASSED: _to(S.ACTING, X.TELL_CHECKED),
        E.CHECK_FAILED: _to(S.ACTING, X.TELL_FAILED),
        E.PEER_COMMITTED: _to(S.SERVING),
        E.PEER_GONE: _to(S.SERVING),
        E.DEADLINE: _to(S.SERVING, X.KILL_PEER, X.KILL_PEER_WORKERS),
        E.PEER_STOPS: _to(S.STOPPING, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.STOP_WORKERS),
    },
    S.FAILED: {
        E.NO_WORKER: _to(S.GONE, X.EXIT),
        E.DEADLINE: _to(S.FAILED, X.KILL_WORKERS),
        # There is nobody else left to serve. A worker that does not stop must not keep the next from starting.
        E.PEER_GONE: _to(S.STARTING, X.KILL_WORKERS),
        E.PEER_STOPS: _to(S.STOPPING),
        E.STOP_ASKED: _to(S.LAST),
    },
    # ------------------------------------------------------------------------------------------------ serving
    S.SERVING: {
        E.WORKER_READY: _to(S.SERVING, X.RELEASE_WORKERS),
        E.RELOAD_ASKED: _to(S.RAISING, X.START_SUCCESSOR),
        E.DEADLINE: _to(S.SERVING, X.KILL_PEER, X.KILL_PEER_WORKERS),  # set only while old processes remain
        E.GAVE_UP: _to(S.STOPPING, X.TELL_STOP, X.STOP_WORKERS),
        E.PEER_STOPS: _to(S.STOPPING, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.STOP_WORKERS),
    },
    # -------------------------------------------------------------------------------------------- predecessor
    S.RAISING: {
        E.WORKER_READY: _to(S.RAISING, X.RELEASE_WORKERS),
        E.PEER_ASKS_YIELD: _to(S.YIELDING, X.STOP_WORKERS),
        E.PEER_ASKS_LOCK: _to(S.YIELDED, X.CLOSE_LOCK),
        E.PEER_GONE: _to(S.SERVING, X.KILL_PEER_WORKERS, X.ANSWER_FAILED),
        E.DEADLINE: _to(S.CANCELLING, X.KILL_PEER),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.CANCELLING: {
        E.WORKER_READY: _to(S.CANCELLING, X.RELEASE_WORKERS),
        E.PEER_GONE: _to(S.SERVING, X.KILL_PEER_WORKERS, X.ANSWER_FAILED),
        # Its SIGKILL takes its time: it may have got into FORCING and taken a stop there. (So too in RECALLING.)
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.YIELDING: {
        E.NO_WORKER: _to(S.YIELDED, X.CLOSE_LOCK),
        E.PEER_GONE: _to(S.REVIVING),
        E.DEADLINE: _to(S.YIELDING, X.KILL_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED),
    },
    S.REVIVING: {
        E.NO_WORKER: _to(S.SERVING, X.KILL_PEER_WORKERS, X.ANSWER_FAILED),
        E.DEADLINE: _to(S.REVIVING, X.KILL_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.ANSWER_FAILED),
    },
    S.YIELDED: {
        E.PEER_SERVES: _to(S.CHECKING),
        E.PEER_FAILED: _to(S.RECALLING, X.KILL_PEER),
        E.PEER_GONE: _to(S.RETAKING, X.OPEN_LOCK),
        E.DEADLINE: _to(S.RECALLING, X.KILL_PEER),
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.CHECKING: {
        E.PEER_CHECKED: _to(S.WATCHING),
        E.PEER_FAILED: _to(S.RECALLING, X.KILL_PEER),
        E.PEER_GONE: _to(S.RETAKING, X.OPEN_LOCK),
        E.DEADLINE: _to(S.RECALLING, X.KILL_PEER),
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.WATCHING: {
        E.DEADLINE: _to(S.COMMITTING, X.NAME_MAIN_PID),
        E.PEER_FAILED: _to(S.RECALLING, X.KILL_PEER),
        E.PEER_GONE: _to(S.RETAKING, X.OPEN_LOCK),
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.COMMITTING: {
        # The answer comes last: whoever has it should meet the new code alone.
        E.BARRIER_RETURNED: _to(S.DRAINING, X.TELL_COMMITTED, X.STOP_WORKERS, X.ANSWER_DONE),
        # A pid 1 too busy to answer has our datagram all the same, and reads it before it can see us exit.
        E.DEADLINE: _to(S.DRAINING, X.TELL_COMMITTED, X.STOP_WORKERS, X.ANSWER_DONE),
        E.PEER_GONE: _to(S.RETAKING, X.OPEN_LOCK),
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.RECALLING: {
        E.PEER_GONE: _to(S.RETAKING, X.OPEN_LOCK),
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.RETAKING: {
        E.LOCK_GAINED: _to(S.SERVING, X.WRITE_PID, X.RELEASE_WORKERS, X.ANSWER_FAILED),
        E.DEADLINE: _to(S.RETAKING, X.KILL_PEER_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.DRAINING: {
        E.NO_WORKER: _to(S.GONE, X.EXIT),
        E.DEADLINE: _to(S.DRAINING, X.KILL_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP),  # a late stop still means the whole service
    },
    # ------------------------------------------------------------------------------------------------ leaving
    S.STOPPING: {
        E.NO_WORKER: _to(S.EMPTY, X.TELL_EMPTY),
        E.PEER_EMPTY: _to(S.LAST),
        E.PEER_GONE: _to(S.LAST, X.KILL_PEER_WORKERS),
        E.DEADLINE: _to(S.STOPPING, X.KILL_WORKERS),
    },
    S.EMPTY: {
        E.NO_PEER: _to(S.GONE, X.KILL_PEER_WORKERS, X.EXIT),
        E.PEER_EMPTY: _to(S.GONE, X.EXIT),
        E.PEER_GONE: _to(S.EMPTY, X.KILL_PEER_WORKERS),
        E.DEADLINE: _to(S.EMPTY, X.KILL_PEER, X.KILL_PEER_WORKERS),
    },
    S.LAST: {
        E.NO_WORKER: _to(S.GONE, X.TELL_EMPTY, X.EXIT),
        E.PEER_STOPS: _to(S.STOPPING),  # was leaving by itself, now it is a stop: answer it
        E.PEER_GONE: _to(S.LAST, X.KILL_PEER_WORKERS),
        E.DEADLINE: _to(S.LAST, X.KILL_WORKERS),
    },
    S.GONE: {},
}

# Facts that may well arrive and change nothing. A pair in neither table is impossible: seeing one is a bug of ours.
IGNORED: Mapping[State, frozenset[Event]] = {
    # Where workers are wanted the shell starts another for a dead one; where they are being stopped it waits for
    # NO_WORKER. One that is ready finds the lock not gained yet, or has been told to stop already.
    S.OPENING: frozenset({E.WORKER_GONE}),
    S.FORCING: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    S.STARTING: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    S.FAILED: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    # The peer is our predecessor, and its "committed", its death or our command's end comes after our deadline.
    S.SERVING: frozenset(
        {E.WORKER_GONE, E.PEER_GONE, E.PEER_COMMITTED, E.BARRIER_RETURNED, E.CHECK_PASSED, E.CHECK_FAILED}
    ),
    # A successor that leaves says it is empty, which its death will tell us too. One that is being killed goes on
    # talking until it is dead.
    S.RAISING: frozenset({E.WORKER_GONE, E.PEER_EMPTY}),
    S.CANCELLING: frozenset({E.WORKER_GONE, E.PEER_ASKS_YIELD, E.PEER_ASKS_LOCK, E.PEER_EMPTY}),
    # A successor that stops the service while we still yield has killed us first.
    S.YIELDING: frozenset({E.WORKER_READY, E.WORKER_GONE, E.PEER_STOPS, E.PEER_EMPTY}),
    S.REVIVING: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    # Our workers, in an overlap: one that was just starting waits now, for the way back.
    S.YIELDED: frozenset({E.WORKER_READY, E.WORKER_GONE, E.PEER_EMPTY}),
    S.CHECKING: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    S.WATCHING: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    # Too late: systemd knows the successor as main, and its worker is started again.
    S.COMMITTING: frozenset({E.WORKER_READY, E.WORKER_GONE, E.PEER_FAILED}),
    S.RECALLING: frozenset({E.WORKER_READY, E.WORKER_GONE, E.PEER_SERVES, E.PEER_CHECKED, E.PEER_FAILED, E.PEER_EMPTY}),
    S.RETAKING: frozenset({E.WORKER_READY, E.WORKER_GONE, E.BARRIER_RETURNED}),
    # We leave in any case. (A barrier may be late everywhere after COMMITTING; the next reload forgets it.)
    S.DRAINING: frozenset(
        {
            *(E.WORKER_READY, E.WORKER_GONE, E.BARRIER_RETURNED),
            *(E.PEER_GONE, E.PEER_FAILED, E.PEER_STOPS, E.PEER_EMPTY),
        }
    ),
    S.STOPPING: frozenset(
        {
            *(E.WORKER_READY, E.WORKER_GONE, E.BARRIER_RETURNED, E.STOP_ASKED, E.CHECK_PASSED, E.CHECK_FAILED),
            *(E.PEER_ASKS_YIELD, E.PEER_ASKS_LOCK, E.PEER_SERVES, E.PEER_CHECKED),
            *(E.PEER_FAILED, E.PEER_COMMITTED, E.PEER_STOPS),
        }
    ),
    S.EMPTY: frozenset(
        {
            *(E.BARRIER_RETURNED, E.STOP_ASKED),
            *(E.PEER_ASKS_YIELD, E.PEER_ASKS_LOCK, E.PEER_SERVES, E.PEER_CHECKED),
            *(E.PEER_FAILED, E.PEER_COMMITTED, E.PEER_STOPS),
        }
    ),
    # One that drains hears "empty" as often as anything happens to the main supervisor, which sees it out.
    S.LAST: frozenset(
        {
            *(E.WORKER_READY, E.WORKER_GONE, E.BARRIER_RETURNED, E.STOP_ASKED, E.CHECK_PASSED, E.CHECK_FAILED),
            E.PEER_EMPTY,
        }
    ),
}


class Phase(NamedTuple):
    """What follows from a state alone."""

    deadline: tuple[str, ...]  # the settings whose sum bounds it, in seconds; () = no deadline
    wants_workers: bool  # a dead worker is started again
    main_state: str  # what systemd hears from a main pid in it: starting, ready, reloading or stopping
    status: str  # the sentence for STATUS=, of a supervisor of generation {own} whose peer's is {peer}


_LOCK_WAIT = ("takeover_timeout", "peer_stop_timeout")  # 5 s beyond what the other side may take to stop

PHASES: Mapping[State, Phase] = {
    S.OPENING: Phase((), True, "starting", "Generation {own} is starting"),
    S.WARMING: Phase(("reload_timeout",), False, "starting", "Generation {own} is starting"),
    S.CLAIMING: Phase(_LOCK_WAIT, False, "starting", "Generation {own} is ready, generation {peer} stops"),
    S.FORCING: Phase((), True, "starting", "Generation {own} is ready, generation {peer} is being killed"),
    S.STARTING: Phase(("takeover_timeout",), True, "starting", "Generation {own} takes over from a dead one"),
    S.ACTING: Phase(
        ("start_allowance", "check_timeout", "probation", "peer_barrier_timeout", "takeover_timeout"),
        True,
        "starting",
        "Generation {own} is on probation",
    ),
    S.FAILED: Phase(("stop_timeout",), False, "starting", "Generation {own} failed"),
    S.SERVING: Phase(_LOCK_WAIT, True, "ready", "Generation {own} serves"),
    S.RAISING: Phase(("reload_timeout",), True, "reloading", "Generation {own} serves, generation {peer} is starting"),
    S.CANCELLING: Phase((), True, "reloading", "Generation {own} serves, generation {peer} was too slow"),
    S.YIELDING: Phase(("stop_timeout",), False, "reloading", "Generation {peer} is ready, generation {own} stops"),
    S.REVIVING: Phase(("stop_timeout",), False, "reloading", "Generation {peer} died, generation {own} comes back"),
    # The allowance is for a worker that can only be started when it is released, as an exclusive command; else 0.
    S.YIELDED: Phase(("takeover_timeout", "peer_start_allowance"), False, "reloading", "Generation {peer} takes over"),
    S.CHECKING: Phase(
        ("peer_check_timeout", "takeover_timeout"), False, "reloading", "Generation {peer} serves and is being checked"
    ),
    S.WATCHING: Phase(("peer_probation",), False, "reloading", "Generation {peer} serves, on probation"),
    S.COMMITTING: Phase(("barrier_timeout",), False, "ready", "Generation {peer} serves"),
    S.RECALLING: Phase((), False, "reloading", "Generation {peer} failed and is being killed"),
    S.RETAKING: Phase(
        ("takeover_timeout",), True, "reloading", "Generation {peer} failed, generation {own} comes back"
    ),
    S.DRAINING: Phase(("stop_timeout",), False, "ready", "Generation {peer} serves"),
    S.STOPPING: Phase(("stop_timeout",), False, "stopping", "Stopping"),
    S.EMPTY: Phase(_LOCK_WAIT, False, "stopping", "Stopping: waiting for generation {peer}"),
    S.LAST: Phase(("stop_timeout",), False, "stopping", "Stopping"),
    S.GONE: Phase((), False, "stopping", "Stopped"),
}


def step(state: State, event: Event) -> Rule | None:
    """The rule for an event in a state; None where the event is to be ignored.

    Raises ImpossibleEvent for a pair that cannot occur.
    """
    rule = RULES[state].get(event)
    if rule is None and event not in IGNORED.get(state, frozenset()):
        raise ImpossibleEvent(f"{event.name} cannot happen to a supervisor that is {state.name}.")
    return rule
