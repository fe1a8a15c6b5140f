"""Who serves: the states of a supervisor, and every way from one state to the next.

Two supervisors take part in a reload. The *predecessor* serves, holds the lock (the flock on the pid file) and is
systemd's main pid. The *successor* runs the new code. Both follow the same table, and each calls the other its *peer*.
This table decides alone. The shell in `supervisor/supervisor.py` turns what happens into an event, looks up the rule
here, and performs its effects in order. No other code changes a supervisor's state. What follows from a state alone,
such as its deadline, stands in `phases.py`.

    successor:    WARMING > CLAIMING > ON_TRIAL > SERVING
                  KILLING_PREDECESSOR, TAKING_LOCK: the predecessor hangs or is dead
    predecessor:  SERVING > STARTING_SUCCESSOR > YIELDING > YIELDED > CHECKING > WATCHING > COMMITTING > DRAINING
    way back:     CANCELLING, REVIVING, KILLING_SUCCESSOR > TAKING_LOCK_BACK, each > RESTORING > SERVING
    stop:         STOPPING > EMPTY or LEAVING > GONE

The two kinds of handover differ in one step. With `exclusive`, a ready successor asks its predecessor to yield, and the
old workers stop first (YIELDING). With `overlap`, it asks only for the lock. The old workers keep serving beside the
new workers until the commit, and a reload that fails leaves them running. An old worker that dies in this time is not
replaced, because only the holder of the lock may release a worker. From YIELDED on, the rules that stop workers are for
overlap: an exclusive predecessor has no workers in these states.

`tests/model` joins two supervisors, adds the kernel's locks, signals, systemd, crashes and hangs, and visits every
state that they can reach. A rule that looks redundant is there because a walk without it ended badly; see the mutations
there.

The shell has these duties to the table, besides performing it:

* It gives PEER_ASKS_LOCK for the message "yield" if both generations have handover overlap, else PEER_ASKS_YIELD.
* After TELL_SERVING it gives CHECK_PASSED or CHECK_FAILED, unless ON_TRIAL ends before.
* It gives the events of a peer's messages before the event of the peer's death.
* Before BARRIER_RETURNED, and before DEADLINE in COMMITTING, it checks that the successor lives and that no signal is
  pending. The answer "done" must not go out for a dead successor, nor after systemd has begun to stop the service.
* It gives WORKERS_SETTLED when each worker serves, or has died since its last start, and only after it has read every
  message that a dead successor left.
* Before NO_WORKER in FAILED and LEAVING it checks whether the peer lives. If a failed successor exits just after its
  predecessor died, nobody serves.
* KILL_PEER first takes the kill token, one byte in a pipe that both supervisors hold, and does nothing without it.
  Otherwise two supervisors whose deadlines cross kill each other, and nobody serves. A peer that is spared keeps its
  workers.
* A predecessor that has sent "committed" is no longer a peer. It drains under its own deadline. A stop that it reports
  is STOP_ASKED. NO_WORKER in STOPPING and LEAVING waits until it has exited.

Alternatives considered: a library of state machines (automat, transitions) runs callbacks inside a transition, so the
effects of a rule could not be compared, walked or mutated as data.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ..errors import ImpossibleEvent
from .states import Effect, Event, State

__all__ = ["IGNORED", "RULES", "Effect", "Event", "Rule", "State", "step"]


class Rule(NamedTuple):
    """What follows an event: the next state, and the effects, which are performed in this order."""

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
        # A signal to a successor that does not serve yet cancels the reload. It does not stop the service.
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
        # The predecessor decides what a worker's death means. After the commit it no longer reads this message.
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
        # No other supervisor is left to serve. A worker that does not stop must not keep the next one from starting.
        E.PEER_GONE: _to(S.TAKING_LOCK, X.KILL_WORKERS),
        E.PEER_STOPS: _to(S.STOPPING),
        E.STOP_ASKED: _to(S.LEAVING),
    },
    # ------------------------------------------------------------------------------------------------ serving
    S.SERVING: {
        E.WORKER_READY: _to(S.SERVING, X.RELEASE_WORKERS),
        E.RELOAD_ASKED: _to(S.STARTING_SUCCESSOR, X.START_SUCCESSOR),
        # set only while processes of a dead generation remain
        E.DEADLINE: _to(S.SERVING, X.KILL_PEER, X.KILL_PEER_WORKERS),
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
        # Its SIGKILL takes time: it may have reached KILLING_PREDECESSOR and received a stop there. The same holds in
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
        # The answer comes last: after it, the caller meets only the new code.
        E.BARRIER_RETURNED: _to(S.DRAINING, X.TELL_COMMITTED, X.STOP_WORKERS, X.ANSWER_DONE),
        # A pid 1 that is too busy to answer has our datagram in its queue, and reads it before it can see our exit.
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
        # The answer names the generation that serves, so this must be known. If no worker was stopped, it is known at
        # once.
        E.WORKERS_SETTLED: _to(S.SERVING, X.ANSWER_FAILED, X.TELL_READY),
        E.DEADLINE: _to(S.SERVING, X.ANSWER_FAILED, X.TELL_READY),
        E.STOP_ASKED: _to(S.STOPPING, X.ANSWER_FAILED, X.STOP_WORKERS),
    },
    S.DRAINING: {
        E.NO_WORKER: _to(S.GONE, X.EXIT),
        E.DEADLINE: _to(S.DRAINING, X.KILL_WORKERS),
        E.STOP_ASKED: _to(S.STOPPING, X.TELL_STOP),  # a late stop still stops the whole service
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
        E.PEER_STOPS: _to(S.STOPPING),  # it was leaving alone; now the service stops, so it answers
        E.PEER_GONE: _to(S.LEAVING, X.KILL_PEER_WORKERS),
        E.DEADLINE: _to(S.LEAVING, X.KILL_WORKERS),
    },
    S.GONE: {},
}

# Events that may arrive and change nothing. A pair in neither table is impossible: it is a bug of sdsupervise.
IGNORED: Mapping[State, frozenset[Event]] = {
    # While workers are wanted, the shell starts another for a dead one. While workers stop, it waits for NO_WORKER. A
    # worker that becomes ready waits for the lock, or has received its stop signal already.
    S.OPENING: frozenset({E.WORKER_GONE}),
    S.KILLING_PREDECESSOR: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    S.TAKING_LOCK: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    S.FAILED: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    # The peer is our predecessor. Its "committed", its death, or the end of our command comes after our deadline.
    S.SERVING: frozenset(
        {E.WORKER_GONE, E.PEER_GONE, E.PEER_COMMITTED, E.BARRIER_RETURNED, E.CHECK_PASSED, E.CHECK_FAILED}
    ),
    # A successor that leaves sends "empty", and its death follows. A successor that is being killed sends messages
    # until it is dead.
    S.STARTING_SUCCESSOR: frozenset({E.WORKER_GONE, E.PEER_EMPTY}),
    S.CANCELLING: frozenset({E.WORKER_GONE, E.PEER_ASKS_YIELD, E.PEER_ASKS_LOCK, E.PEER_EMPTY}),
    # A successor that stops the service while we still yield has killed us first.
    S.YIELDING: frozenset({E.WORKER_READY, E.WORKER_GONE, E.PEER_STOPS, E.PEER_EMPTY}),
    S.REVIVING: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    # These are our workers in an overlap. A worker that was just starting waits until the lock comes back.
    S.YIELDED: frozenset({E.WORKER_READY, E.WORKER_GONE, E.PEER_EMPTY}),
    S.CHECKING: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    S.WATCHING: frozenset({E.WORKER_READY, E.WORKER_GONE}),
    # It is too late: for systemd the successor is the main pid, and the successor starts its worker again.
    S.COMMITTING: frozenset({E.WORKER_READY, E.WORKER_GONE, E.PEER_FAILED}),
    S.KILLING_SUCCESSOR: frozenset(
        {E.WORKER_READY, E.WORKER_GONE, E.PEER_SERVES, E.PEER_CHECKED, E.PEER_FAILED, E.PEER_EMPTY}
    ),
    S.TAKING_LOCK_BACK: frozenset({E.WORKER_READY, E.WORKER_GONE, E.BARRIER_RETURNED}),
    S.RESTORING: frozenset({E.WORKER_GONE, E.BARRIER_RETURNED}),
    # This supervisor exits in any case. (A barrier may return late in every state after COMMITTING; the next reload
    # forgets it.)
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
    # A draining generation gets "empty" for each event of the main supervisor, which waits for its end.
    S.LEAVING: frozenset(
        {
            *(E.WORKER_READY, E.WORKER_GONE, E.BARRIER_RETURNED, E.STOP_ASKED, E.CHECK_PASSED, E.CHECK_FAILED),
            E.PEER_EMPTY,
        }
    ),
}


def step(state: State, event: Event) -> Rule | None:
    """Return the rule for an event in a state, or None if the state ignores the event.

    Raises ImpossibleEvent for a pair that cannot occur.
    """
    rule = RULES[state].get(event)
    if rule is None and event not in IGNORED.get(state, frozenset()):
        raise ImpossibleEvent(f"{event.name} cannot happen to a supervisor that is {state.name}.")
    return rule
