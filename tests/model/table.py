"""The takeover table as the walk uses it: the answers of the real `step()`, each of which may be replaced.

A mutation is a mapping from pairs to what the mutated table says instead: a Rule, or None for "ignored".
"""

from collections.abc import Mapping

from sdsupervise.core.takeover import Effect, Event, Rule, State, step
from sdsupervise.errors import ImpossibleEvent

from .joint import EVENTS, STATE_INDEX, STATES

Pair = tuple[State, Event]
Changes = Mapping[Pair, Rule | None]
# By state and event index: the next state's index and the effects; None = ignored; a missing event = impossible.
Compiled = tuple[dict[int, tuple[int, tuple[Effect, ...]] | None], ...]


def compiled(changes: Changes | None = None) -> Compiled:
    """The real table, with some of its answers changed.

    Changed, it ignores what the real one calls impossible: a mutation is caught by what it leads to, not by surprise.
    """
    table: Compiled = tuple({} for _ in STATES)
    for row, state in zip(table, STATES, strict=True):
        for index, event in enumerate(EVENTS):
            pair = state, event
            try:
                rule = changes[pair] if changes and pair in changes else step(state, event)
            except ImpossibleEvent:
                if not changes:
                    continue
                rule = None
            row[index] = rule and (STATE_INDEX[rule.next], rule.effects)
    return table


def rule_of(state: State, event: Event) -> Rule:
    """The real table's rule for a pair that has one."""
    rule = step(state, event)
    assert rule is not None, f"{state.name} ignores {event.name}"
    return rule


def ignoring(*pairs: Pair) -> Changes:
    """These rules deleted."""
    return {pair: None for pair in pairs if rule_of(*pair)}


def dropping(effect: Effect, *pairs: Pair) -> Changes:
    """These rules without one of their effects."""
    changes = {}
    for pair in pairs:
        rule = rule_of(*pair)
        assert effect in rule.effects, f"{pair} has no {effect.name}"
        changes[pair] = rule._replace(effects=tuple(each for each in rule.effects if each is not effect))
    return changes


def replacing(state: State, event: Event, rule: Rule) -> Changes:
    """One rule replaced, or one added."""
    return {(state, event): rule}
