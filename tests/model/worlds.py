"""Which worlds are walked: what is quick enough for every test run, and the full set."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from sdsupervise.core.takeover import IGNORED, RULES, Event, State

from .joint import EVENTS, STATES
from .model import TwoSupervisors
from .walk import Outcome, walk
from .world import World

# (crashes, hangs, stops)
_STANDARD = ((0, 0, 1), (0, 0, 2), (1, 0, 1), (0, 1, 1), (1, 1, 1))
_PATIENT = ((0, 0, 1), (0, 0, 2), (1, 0, 1))
_FULL = (*_STANDARD, (2, 0, 1), (2, 1, 0), (1, 0, 2), (0, 1, 2), (2, 1, 1), (3, 0, 1))


def _worlds(budgets: Iterable[tuple[int, int, int]], **more: bool) -> tuple[World, ...]:
    return tuple(
        World(systemd, trial, *budget, overlap=overlap, **more)
        for overlap, systemd, trial, budget in product((False, True), (False, True), (False, True), budgets)
    )


def _is_quick(world: World) -> bool:
    """A trial can do all that its absence can, so hangs are left to it; the largest worlds are left to --full."""
    if not world.hangs:
        return True
    return world.trial and not (world.crashes and world.systemd)


_MIXED = (World(trial=True, crashes=1, stops=1, mixed=True), World(trial=True, hangs=1, stops=1, mixed=True))
_LATE = tuple(world for world in _worlds(((0, 0, 1), (1, 0, 0)), late=True) if not world.overlap)
FULL = (*_worlds(_PATIENT, patient=True), *_LATE, *_MIXED, *_worlds(_FULL))
STANDARD = (*_worlds(_PATIENT, patient=True), *_LATE, *filter(_is_quick, (*_MIXED, *_worlds(_STANDARD))))


class Walked(NamedTuple):
    """One world's result."""

    world: World
    outcome: Outcome
    met: frozenset[tuple[State, Event]]

    def line(self) -> str:
        """For the summary."""
        outcome = self.outcome
        return (
            f"{self.world!s:72} {outcome.states:>9,} states {outcome.moves:>10,} moves {outcome.seconds:5.1f} s  "
            f"{'BROKEN' if outcome.broken else 'ok'}"
        )


def walk_all(worlds: Sequence[World]) -> Iterator[Walked]:
    """Walk each world with the real table."""
    for world in worlds:
        model = TwoSupervisors(world)
        outcome = walk(model)
        yield Walked(world, outcome, frozenset((STATES[state], EVENTS[event]) for state, event in model.met))


def total_line(walks: Sequence[Walked]) -> str:
    """The last line of the summary."""
    states = sum(each.outcome.states for each in walks)
    moves = sum(each.outcome.moves for each in walks)
    seconds = sum(each.outcome.seconds for each in walks)
    return f"{len(walks)} walks: {states:,} joint states, {moves:,} moves, {seconds:.0f} s"


def never_met(walks: Iterable[Walked]) -> tuple[list[str], list[str]]:
    """The rules and the ignored pairs that no walk came across."""
    met = frozenset[tuple[State, Event]]().union(*(each.met for each in walks))
    rules = [(state, event) for state in State for event in RULES[state]]
    ignored = [(state, event) for state, events in IGNORED.items() for event in events]
    return _names(rules, met), _names(ignored, met)


def _names(pairs: Iterable[tuple[State, Event]], met: frozenset[tuple[State, Event]]) -> list[str]:
    return sorted(f"{state.name} + {event.name}" for state, event in pairs if (state, event) not in met)
