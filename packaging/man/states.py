"""The states of a supervisor and the ways between them, in words and as diagrams: all of it from the takeover table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sdsupervise.core.phases import PHASES
from sdsupervise.core.takeover import RULES, Effect, Event, Rule, State

S, E, X = State, Event, Effect

# Who a supervisor is in a state.
ROLES: Mapping[str, tuple[State, ...]] = {
    "the first generation": (S.OPENING,),
    "the one that serves": (S.SERVING,),
    "the old generation in a reload": (
        *(S.STARTING_SUCCESSOR, S.CANCELLING, S.YIELDING, S.REVIVING, S.YIELDED, S.CHECKING),
        *(S.WATCHING, S.COMMITTING, S.KILLING_SUCCESSOR, S.TAKING_LOCK_BACK, S.RESTORING, S.DRAINING),
    ),
    "the new generation in a reload": (
        S.WARMING,
        S.CLAIMING,
        S.KILLING_PREDECESSOR,
        S.TAKING_LOCK,
        S.ON_TRIAL,
        S.FAILED,
    ),
    "one that leaves": (S.STOPPING, S.EMPTY, S.LEAVING, S.GONE),
}

EVENTS: Mapping[Event, str] = {
    E.WORKER_READY: "its workers are ready",
    E.WORKER_GONE: "a worker of its own is gone",
    E.NO_WORKER: "its last worker is gone",
    E.WORKERS_SETTLED: "each worker serves, or has failed to",
    E.GAVE_UP: "crash_limit is reached",
    E.LOCK_GAINED: "it has the lock",
    E.PEER_GONE: "the other supervisor is dead",
    E.NO_PEER: "there is no other supervisor",
    E.PEER_ASKS_YIELD: "the new generation is ready (exclusive)",
    E.PEER_ASKS_LOCK: "the new generation is ready (overlap)",
    E.PEER_SERVES: "the new generation serves",
    E.PEER_CHECKED: "before_commit has passed there",
    E.PEER_FAILED: "the new generation has failed",
    E.PEER_COMMITTED: "the old generation has committed",
    E.PEER_STOPS: "the other was told to stop",
    E.PEER_EMPTY: "the other's last worker is gone",
    E.CHECK_PASSED: "before_commit has passed",
    E.CHECK_FAILED: "before_commit has failed",
    E.BARRIER_RETURNED: "systemd has the new main pid",
    E.DEADLINE: "its time is up",
    E.RELOAD_ASKED: "a reload is asked for",
    E.STOP_ASKED: "a stop is asked for",
}

EFFECTS: Mapping[Effect, str] = {
    X.RELEASE_WORKERS: "its workers may serve",
    X.STOP_WORKERS: "tell its workers to stop",
    X.KILL_WORKERS: "kill its workers",
    X.OPEN_LOCK: "reach for the lock",
    X.CLOSE_LOCK: "give up the lock",
    X.WRITE_PID: "write its pid",
    X.START_SUCCESSOR: "start the new code",
    X.ASK_YIELD: "ask for its turn",
    X.TELL_SERVING: "say that it serves",
    X.TELL_CHECKED: "say that before_commit has passed",
    X.TELL_FAILED: "say that it has failed",
    X.TELL_COMMITTED: "say that it has committed",
    X.TELL_STOP: "tell the other to stop",
    X.TELL_EMPTY: "say that its workers are gone",
    X.KILL_PEER: "kill the other supervisor",
    X.KILL_PEER_WORKERS: "kill the other's workers",
    X.NAME_MAIN_PID: "tell systemd the new main pid",
    X.TELL_READY: "tell systemd that it is ready",
    X.ANSWER_DONE: "answer: done",
    X.ANSWER_FAILED: "answer: failed",
    X.EXIT: "exit",
}

# From nearly everywhere to the same few states; a diagram with them shows nothing else.
_STOPS = frozenset({E.STOP_ASKED, E.PEER_STOPS, E.GAVE_UP})


def name(state: State) -> str:
    """As `sdsupervise status` has it."""
    return state.name.lower()


def role_of(state: State) -> str:
    """Who a supervisor in this state is."""
    (role,) = (role for role, states in ROLES.items() if state in states)
    return role


def sentence(state: State) -> str:
    """What STATUS= begins with, for generations 1 and 2."""
    old = state in ROLES["the old generation in a reload"]
    own, peer = (1, 2) if old or role_of(state) in ("the first generation", "the one that serves") else (2, 1)
    return PHASES[state].status.format(own=own, peer=peer)


def deadline(state: State) -> str:
    """How long it may last: the settings whose sum it is; "" where there is no end."""
    return " + ".join(_SUMMANDS.get(part, part) for part in PHASES[state].deadline)


_SUMMANDS = {
    "start_allowance": "start_timeout (an exclusive command's)",
    "worker_start_allowance": "start_timeout (or reload_timeout)",
    "peer_reload_timeout": "reload_timeout (the other's, as soon as it is known)",
    "check_timeout": "before_commit_timeout (where there is a before_commit)",
    "peer_stop_timeout": "stop_timeout (the other's)",
    "peer_start_allowance": "start_timeout (an exclusive command's)",
    "peer_check_timeout": "before_commit_timeout (where there is a before_commit)",
    "peer_barrier_timeout": "barrier_timeout (the other's)",
    "peer_probation": "probation (the other's)",
}


def ways(state: State) -> list[tuple[Event, Rule]]:
    """What can happen in a state, in the table's order."""
    return list(RULES[state].items())


def mermaid(states: Iterable[State]) -> str:
    """The ways out of these states, as a diagram for Mermaid; without what a stop leads to."""
    edges: dict[tuple[State, State], list[str]] = {}
    for state in states:
        for event, rule in ways(state):
            if rule.next is not state and event not in _STOPS:
                edges.setdefault((state, rule.next), []).append(EVENTS[event])
    lines = [f"    {name(a)} --> {name(b)}: {' or '.join(words)}" for (a, b), words in edges.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


# What happens in a reload in which all goes well: to the old supervisor or to the new one.
_GOOD_RELOAD = (
    *(("old", E.RELOAD_ASKED), ("new", E.WORKER_READY), ("old", None), ("new", E.LOCK_GAINED), ("old", E.PEER_SERVES)),
    *(("new", E.CHECK_PASSED), ("old", E.PEER_CHECKED), ("old", E.DEADLINE), ("old", E.BARRIER_RETURNED)),
    *(("new", E.PEER_COMMITTED), ("old", E.NO_WORKER)),
)
_TURNS = {"exclusive": (E.PEER_ASKS_YIELD, E.NO_WORKER), "overlap": (E.PEER_ASKS_LOCK,)}


def walk(handover: str) -> str:
    """A reload in which all goes well, step by step, as a table in Markdown."""
    stand = {"old": S.SERVING, "new": S.WARMING}
    rows = []
    for who, event in _GOOD_RELOAD:
        for happens in (event,) if event is not None else _TURNS[handover]:
            rule = RULES[stand[who]][happens]
            stand[who] = rule.next
            done = ", ".join(EFFECTS[effect] for effect in rule.effects)
            states = [f"**{name(stand[each])}**" if each == who else name(stand[each]) for each in ("old", "new")]
            rows.append(f"| {who}: {EVENTS[happens]} | {states[0]} | {states[1]} | {done} |")
    return "\n".join(["| what happens | old | new | what it does then |", "|---|---|---|---|", *rows])
