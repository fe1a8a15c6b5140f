"""Who serves: the states of a supervisor and every way from one to the next.

Two supervisors meet in a reload. The *predecessor* serves, holds the lock (the flock on the pid file) and is
systemd's main pid; the *successor* runs the new code. Each follows the same table and calls the other its *peer*.
The table is all there is: the shell in `supervisor/supervisor.py` turns what happens into an event, looks the rule up
here, and performs its effects in order. Nothing else changes a supervisor's state. What follows from a state alone, as
its deadline, is in `phases.py`.

    successor:    WARMING > CLAIMING > ON_TRIAL > SERVING
                  KILLING_PREDECESSOR, TAKING_LOCK: the predecessor is no help
    predecessor:  SERVING > STARTING_SUCCESSOR > YIELDING > YIELDED > CHECKING > WATCHING > COMMITTING > DRAINING
    way back:     CANCELLING, REVIVING, KILLING_SUCCESSOR > TAKING_LOCK_BACK, each > RESTORING > SERVING
    stop:         STOPPING > EMPTY or LEAVING > GONE

The two handovers differ in one step. With `exclusive` a successor that is ready asks its predecessor to yield, and the
old workers stop first (YIELDING). With `overlap` it asks for the lock alone: the old workers go on serving beside the
new, up to the commit, and every way back finds them as they were. One that dies meanwhile is not replaced, since only
the lock's holder may release a worker. Where a rule from YIELDED on stops workers, it means them; an exclusive
predecessor has none there.

`tests/model` joins two of these, adds the kernel's locks, signals, systemd, crashes and hangs, and visits every state
they can reach. A rule that looks redundant is there because a walk without it ended badly; see the mutations there.

What the shell owes the table, beside performing it:
* it takes "yield" for PEER_ASKS_LOCK if both services are for overlap, for PEER_ASKS_YIELD otherwise;
* after TELL_SERVING it gives CHECK_PASSED or CHECK_FAILED, unless ON_TRIAL ends before;
* a message the peer sent before it died is an event before its death is;
* before BARRIER_RETURNED, and before DEADLINE in COMMITTING, it looks whether the successor lives and whether a signal
  waits: "done" must not be said of a dead one, nor after systemd has begun to stop us;
* it gives WORKERS_SETTLED when each worker that there is to be serves, or has died since it was last started, and only
  when all that a dead successor left word of has been heard;
* before NO_WORKER in FAILED and LEAVING it looks whether the peer lives. A failed successor that leaves a moment after
  its predecessor died leaves the service to nobody;
* KILL_PEER takes the kill token first (one byte in a pipe both sides hold) and does nothing if it is gone. Without it
  two supervisors whose deadlines cross kill each other and nobody serves. The workers of one that was spared so are
  spared too;
* a predecessor that has said "committed" is no peer any more. It drains under a deadline of its own, may have a stop to
  tell, which is STOP_ASKED, and NO_WORKER in STOPPING and LEAVING waits for its end.

Alternatives considered: a library of state machines (automat, transitions) runs callbacks inside a transition, so
what a rule does could not be compared, walked or mutated as data.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ..errors import ImpossibleEvent
from .states import Effect, Event, State

__all__ = ["IGNORED", "RULES", "Effect", "Event", "Rule", "State", "step"]


class Rule(NamedTuple):
    """What follows an event: the next state, and what to do on the way, in this order."""

    next: State
    effects: tuple[Effect, ...] = ()


def _to(state: State, *effects: Effect) -> Rule:
    return Rule(state, effects)


S, E, X = State, Event, Effect

RULES: Mapping[State, Mapping[Event, Rule]] = {
    S.OPENING: {
        E.WORKER_READY: _to(S.SERVING, X.WRITE_PID, X.RELEASE_WORKERS, X.TELL_READY),
        E.GAVE_UP: _to(S.STOPPING, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.STOP_WORKERS),
    },
    # ---------------------------------------------------------------------------------------------- successor
    S.WARMING: {
        E.WORKER_READY: _to(S.CLAIMING, X.ASK_YIELD),
        E.WORKER_GONE: _to(S.FAILED, X.STOP_WORKERS),
        E.DEADLINE: _to(S.FAILED, X.STOP_WORKERS),
        E.PEER_GONE: _to(S.TAKING_LOCK),
        E.PEER_STOPS: _to(S.STOPPING, X.STOP_WORKERS),
        # A signal to a successor that does not serve yet cancels the reload, it does not stop the service.
        E.STOP_ASKED: _to(S.LEAVING, X.STOP_WORKERS),
    },
    S.CLAIMING: {
        E.LOCK_GAINED: _to(S.ON_TRIAL, X.WRITE_PID, X.RELEASE_WORKERS, X.TELL_SERVING),
        E.WORKER_GONE: _to(S.FAILED, X.STOP_WORKERS),
        E.DEADLINE: _to(S.KILLING_PREDECESSOR, X.KILL_PEER, X.KILL_PEER_WORKERS),
        E.PEER_GONE: _to(S.TAKING_LOCK),
        E.PEER_STOPS: _to(S.STOPPING, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.LEAVING, X.STOP_WORKERS),
    },
    S.KILLING_PREDECESSOR: {
        E.LOCK_GAINED: _to(S.SERVING, X.WRITE_PID, X.RELEASE_WORKERS, X.TELL_READY),
        E.PEER_GONE: _to(S.TAKING_LOCK, X.KILL_PEER_WORKERS),
        E.PEER_STOPS: _to(S.STOPPING, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.STOP_WORKERS),
    },
    S.TAKING_LOCK: {
        E.LOCK_GAINED: _to(S.SERVING, X.WRITE_PID, X.RELEASE_WORKERS, X.TELL_READY),
        E.DEADLINE: _to(S.TAKING_LOCK, X.KILL_PEER_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.STOP_WORKERS),
    },
    S.ON_TRIAL: {
        E.WORKER_READY: _to(S.ON_TRIAL, X.RELEASE_WORKERS),
        # The verdict on a worker's death is the predecessor's; once it has committed it hears this no more.
        E.WORKER_GONE: _to(S.ON_TRIAL, X.TELL_FAILED),
        E.CHECK_PASSED: _to(S.ON_TRIAL, X.TELL_CHECKED),
        E.CHECK_FAILED: _to(S.ON_TRIAL, X.TELL_FAILED),
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
        E.PEER_GONE: _to(S.TAKING_LOCK, X.KILL_WORKERS),
        E.PEER_STOPS: _to(S.STOPPING),
        E.STOP_ASKED: _to(S.LEAVING),
    },
    # ------------------------------------------------------------------------------------------------ serving
    S.SERVING: {
        E.WORKER_READY: _to(S.SERVING, X.RELEASE_WORKERS),
        E.RELOAD_ASKED: _to(S.STARTING_SUCCESSOR, X.START_SUCCESSOR),
        E.DEADLINE: _to(S.SERVING, X.KILL_PEER, X.KILL_PEER_WORKERS),  # set only while old processes remain
        E.GAVE_UP: _to(S.STOPPING, X.TELL_STOP, X.STOP_WORKERS),
        E.PEER_STOPS: _to(S.STOPPING, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.STOP_WORKERS),
    },
    # -------------------------------------------------------------------------------------------- predecessor
    S.STARTING_SUCCESSOR: {
        E.WORKER_READY: _to(S.STARTING_SUCCESSOR, X.RELEASE_WORKERS),
        E.PEER_ASKS_YIELD: _to(S.YIELDING, X.STOP_WORKERS),
        E.PEER_ASKS_LOCK: _to(S.YIELDED, X.CLOSE_LOCK),
        E.PEER_GONE: _to(S.RESTORING, X.KILL_PEER_WORKERS),
        E.DEADLINE: _to(S.CANCELLING, X.KILL_PEER),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.CANCELLING: {
        E.WORKER_READY: _to(S.CANCELLING, X.RELEASE_WORKERS),
        E.PEER_GONE: _to(S.RESTORING, X.KILL_PEER_WORKERS),
        # Its SIGKILL takes its time: it may have reached KILLING_PREDECESSOR and taken a stop there. So too in
        # KILLING_SUCCESSOR.
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
        E.NO_WORKER: _to(S.RESTORING, X.KILL_PEER_WORKERS),
        E.DEADLINE: _to(S.REVIVING, X.KILL_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.ANSWER_FAILED),
    },
    S.YIELDED: {
        E.PEER_SERVES: _to(S.CHECKING),
        E.PEER_FAILED: _to(S.KILLING_SUCCESSOR, X.KILL_PEER),
        E.PEER_GONE: _to(S.TAKING_LOCK_BACK, X.OPEN_LOCK),
        E.DEADLINE: _to(S.KILLING_SUCCESSOR, X.KILL_PEER),
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.CHECKING: {
        E.PEER_CHECKED: _to(S.WATCHING),
        E.PEER_FAILED: _to(S.KILLING_SUCCESSOR, X.KILL_PEER),
        E.PEER_GONE: _to(S.TAKING_LOCK_BACK, X.OPEN_LOCK),
        E.DEADLINE: _to(S.KILLING_SUCCESSOR, X.KILL_PEER),
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.WATCHING: {
        E.DEADLINE: _to(S.COMMITTING, X.NAME_MAIN_PID),
        E.PEER_FAILED: _to(S.KILLING_SUCCESSOR, X.KILL_PEER),
        E.PEER_GONE: _to(S.TAKING_LOCK_BACK, X.OPEN_LOCK),
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.COMMITTING: {
        # The answer comes last: whoever has it should meet the new code alone.
        E.BARRIER_RETURNED: _to(S.DRAINING, X.TELL_COMMITTED, X.STOP_WORKERS, X.ANSWER_DONE),
        # A pid 1 too busy to answer has our datagram all the same, and reads it before it can see us exit.
        E.DEADLINE: _to(S.DRAINING, X.TELL_COMMITTED, X.STOP_WORKERS, X.ANSWER_DONE),
        E.PEER_GONE: _to(S.TAKING_LOCK_BACK, X.OPEN_LOCK),
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.KILLING_SUCCESSOR: {
        E.PEER_GONE: _to(S.TAKING_LOCK_BACK, X.OPEN_LOCK),
        E.PEER_STOPS: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.TAKING_LOCK_BACK: {
        E.LOCK_GAINED: _to(S.RESTORING, X.WRITE_PID, X.RELEASE_WORKERS),
        E.DEADLINE: _to(S.TAKING_LOCK_BACK, X.KILL_PEER_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.RESTORING: {
        E.WORKER_READY: _to(S.RESTORING, X.RELEASE_WORKERS),
        # The answer says who serves: so it has to be known. (Where no worker was stopped it is known at once.)
        E.WORKERS_SETTLED: _to(S.SERVING, X.ANSWER_FAILED, X.TELL_READY),
        E.DEADLINE: _to(S.SERVING, X.ANSWER_FAILED, X.TELL_READY),
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
        E.PEER_EMPTY: _to(S.LEAVING),
        E.PEER_GONE: _to(S.LEAVING, X.KILL_PEER_WORKERS),
        E.DEADLINE: _to(S.STOPPING, X.KILL_WORKERS),
    },
    S.EMPTY: {
        E.NO_PEER: _to(S.GONE, X.KILL_PEER_WORKERS, X.EXIT),
        E.PEER_EMPTY: _to(S.GONE, X.EXIT),
        E.PEER_GONE: _to(S.EMPTY, X.KILL_PEER_WORKERS),
        E.DEADLINE: _to(S.EMPTY, X.KILL_PEER, X.KILL_PEER_WORKERS),
    },
    S.LEAVING: {
        E.NO_WORKER: _to(S.GONE, X.TELL_EMPTY, X.EXIT),
        E.PEER_STOPS: _to(S.STOPPING),  # was leaving by itself, now it is a stop: answer it
        E.PEER_GONE: _to(S.LEAVING, X.KILL_PEER_WORKERS),
        E.DEADLINE: _to(S.LEAVING, X.KILL_WORKERS),
    },
    S.GONE: {},
}

# Facts that may well arrive and change nothing. A pair in neither table is impossible: seeing one is a bug of ours.
IGNORED: Mapping[State, frozenset[Event]] = {
    # Where workers are wanted the shell starts another for a dead one; where they are being stopped it waits for
    # NO_WORKER. One that is ready finds the lock not gained yet, or has been told to stop already.
    S.OPENING: frozenset({E.WORKER_GONE}),
    S.KILLING_PREDECESSOR: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    S.TAKING_LOCK: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    S.FAILED: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    # The peer is our predecessor, and its "committed", its death or our command's end comes after our deadline.
    S.SERVING: frozenset(
        {E.WORKER_GONE, E.PEER_GONE, E.PEER_COMMITTED, E.BARRIER_RETURNED, E.CHECK_PASSED, E.CHECK_FAILED}
    ),
    # A successor that leaves says it is empty, which its death will tell us too. One that is being killed goes on
    # talking until it is dead.
    S.STARTING_SUCCESSOR: frozenset({E.WORKER_GONE, E.PEER_EMPTY}),
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
    S.KILLING_SUCCESSOR: frozenset(
        {E.WORKER_READY, E.WORKER_GONE, E.PEER_SERVES, E.PEER_CHECKED, E.PEER_FAILED, E.PEER_EMPTY}
    ),
    S.TAKING_LOCK_BACK: frozenset({E.WORKER_READY, E.WORKER_GONE, E.BARRIER_RETURNED}),
    S.RESTORING: frozenset({E.WORKER_GONE, E.BARRIER_RETURNED}),
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
    S.LEAVING: frozenset(
        {
            *(E.WORKER_READY, E.WORKER_GONE, E.BARRIER_RETURNED, E.STOP_ASKED, E.CHECK_PASSED, E.CHECK_FAILED),
            E.PEER_EMPTY,
        }
    ),
}


def step(state: State, event: Event) -> Rule | None:
    """The rule for an event in a state; None where the event is to be ignored.

    Raises ImpossibleEvent for a pair that cannot occur.
    """
    rule = RULES[state].get(event)
    if rule is None and event not in IGNORED.get(state, frozenset()):
        raise ImpossibleEvent(f"{event.name} cannot happen to a supervisor that is {state.name}.")
    return rule
