"""The states of a supervisor and the ways between them, in words and as diagrams: all of it from the takeover table."""

from __future__ import annotations

from collections.abc import Mapping

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

# How the words below name the other side of a reload.
_PEERS = {
    "the old generation in a reload": "the new generation",
    "the new generation in a reload": "the old generation",
}

_EVENTS: Mapping[Event, str] = {
    E.WORKER_READY: "all its workers are ready",
    E.WORKER_GONE: "one of its workers is gone",
    E.NO_WORKER: "its last worker is gone",
    E.WORKERS_SETTLED: "each worker serves or has failed",
    E.GAVE_UP: "crash_limit is reached, or an end of the command is final",
    E.LOCK_GAINED: "it has the lock",
    E.PEER_GONE: "{peer} is dead",
    E.NO_PEER: "{peer} does not exist",
    E.PEER_ASKS_YIELD: "the new generation is ready (exclusive)",
    E.PEER_ASKS_LOCK: "the new generation is ready (overlap)",
    E.PEER_SERVES: "the new generation serves",
    E.PEER_CHECKED: "the new generation passed before_commit",
    E.PEER_FAILED: "the new generation has failed",
    E.PEER_COMMITTED: "the old generation has committed",
    E.PEER_STOPS: "{peer} must stop",
    E.PEER_EMPTY: "the last worker of {peer} is gone",
    E.CHECK_PASSED: "before_commit has passed",
    E.CHECK_FAILED: "before_commit has failed",
    E.BARRIER_RETURNED: "systemd has the new main pid",
    E.DEADLINE: "the deadline has passed",
    E.RELOAD_ASKED: "a reload is asked for",
    E.STOP_ASKED: "a stop is asked for",
}

_EFFECTS: Mapping[Effect, str] = {
    X.RELEASE_WORKERS: "let its workers serve",
    X.STOP_WORKERS: "stop its workers",
    X.KILL_WORKERS: "kill its workers",
    X.OPEN_LOCK: "wait for the lock",
    X.CLOSE_LOCK: "give up the lock",
    X.WRITE_PID: "write its pid to the pid file",
    X.START_SUCCESSOR: "start the new code",
    X.ASK_YIELD: "ask {peer} for its turn",
    X.TELL_READY: "tell systemd that it is ready",
    X.TELL_SERVING: "report that it serves",
    X.TELL_CHECKED: "report that before_commit has passed",
    X.TELL_FAILED: "report that it has failed",
    X.TELL_COMMITTED: "report that it has committed",
    X.TELL_STOP: "ask {peer} to stop",
    X.TELL_EMPTY: "report that its workers are gone",
    X.KILL_PEER: "kill {peer}",
    X.KILL_PEER_WORKERS: "kill the workers of {peer}",
    X.NAME_MAIN_PID: "tell systemd the new main pid",
    X.ANSWER_DONE: "report success to the caller",
    X.ANSWER_FAILED: "report the failure to the caller",
    X.EXIT: "exit",
}


def name(state: State) -> str:
    """As `sdsupervise status` has it."""
    return state.name.lower()


def role_of(state: State) -> str:
    """Who a supervisor in this state is."""
    (role,) = (role for role, states in ROLES.items() if state in states)
    return role


def event_words(state: State, event: Event) -> str:
    """What happens to a supervisor in this state."""
    return _EVENTS[event].format(peer=_peer(state))


def effect_words(state: State, rule: Rule) -> str:
    """What a supervisor that leaves this state by this rule does."""
    return ", ".join(_EFFECTS[effect].format(peer=_peer(state)) for effect in rule.effects)


def _peer(state: State) -> str:
    return _PEERS.get(role_of(state), "the peer")


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
    "peer_reload_timeout": "reload_timeout (of the peer, as soon as it is known)",
    "check_timeout": "before_commit_timeout (where there is a before_commit)",
    "peer_stop_timeout": "stop_timeout (of the peer)",
    "peer_start_allowance": "start_timeout (an exclusive command's)",
    "peer_check_timeout": "before_commit_timeout (where there is a before_commit)",
    "peer_barrier_timeout": "barrier_timeout (of the peer)",
    "peer_probation": "probation (of the peer)",
}


def ways(state: State) -> list[tuple[Event, Rule]]:
    """What can happen in a state, in the table's order."""
    return list(RULES[state].items())


# What happens in a reload in which all goes well: to the old supervisor or to the new one.
_GOOD_RELOAD = (
    *(("old", E.RELOAD_ASKED), ("new", E.WORKER_READY), ("old", None), ("new", E.LOCK_GAINED), ("old", E.PEER_SERVES)),
    *(("new", E.CHECK_PASSED), ("old", E.PEER_CHECKED), ("old", E.DEADLINE), ("old", E.BARRIER_RETURNED)),
    *(("new", E.PEER_COMMITTED), ("old", E.NO_WORKER)),
)
_TURNS = {"exclusive": (E.PEER_ASKS_YIELD, E.NO_WORKER), "overlap": (E.PEER_ASKS_LOCK,)}


def good_reload(handover: str) -> list[tuple[str, State, Event]]:
    """What happens in a reload in which all goes well: to the old supervisor or to the new one, in a state, an event.

    Raises LookupError if the table has another way.
    """
    stand = {"old": S.SERVING, "new": S.WARMING}
    happened = []
    for who, event in _GOOD_RELOAD:
        for happens in (event,) if event is not None else _TURNS[handover]:
            state = stand[who]
            if happens not in RULES[state]:
                raise LookupError(
                    f"_GOOD_RELOAD in packaging/man/states.py has {happens.name} for a supervisor that is "
                    f"{state.name}, and the table has no such rule: add the event that leads on from {state.name}."
                )
            happened.append((who, state, happens))
            stand[who] = RULES[state][happens].next
    return happened


def walk(handover: str) -> str:
    """A reload in which all goes well, step by step, as a table in Markdown."""
    stand = {"old": S.SERVING, "new": S.WARMING}
    rows = []
    for who, before, happens in good_reload(handover):
        rule = RULES[before][happens]
        stand[who] = rule.next
        states = [f"**{name(stand[each])}**" if each == who else name(stand[each]) for each in ("old", "new")]
        rows.append(
            f"| {who}: {event_words(before, happens)} | {states[0]} | {states[1]} | {effect_words(before, rule)} |"
        )
    return "\n".join(
        ["| what happens | old generation | new generation | what the supervisor does |", "|---|---|---|---|", *rows]
    )
