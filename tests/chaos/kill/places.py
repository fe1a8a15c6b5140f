"""What the name of a place of the takeover table says: STATE+EVENT/N stands before effect N of that rule."""

from __future__ import annotations

from collections.abc import Sequence

from sdsupervise.core.takeover import RULES, Effect, Event, Rule, State

LEAVING = {State.DRAINING, State.STOPPING, State.EMPTY, State.LEAVING, State.GONE}


def rule_of(place: str) -> Rule:
    """The rule it is in."""
    state, _, event = place.partition("/")[0].partition("+")
    return RULES[State[state]][Event[event]]


def next_state(place: str) -> State:
    """Where its rule leads."""
    return rule_of(place).next


def has_done(places: Sequence[str], effect: Effect) -> bool:
    """One of these places is behind this effect."""
    return any(effect in rule_of(place).effects[: int(place.rpartition("/")[2])] for place in places)


def is_same_step(place: str, other: str) -> bool:
    """The same place, whichever the handover: in an overlap the successor asks for the lock instead of for a yield."""
    return _as_exclusive(place) == _as_exclusive(other)


def _as_exclusive(place: str) -> str:
    return place.replace("+PEER_ASKS_LOCK/", "+PEER_ASKS_YIELD/")
