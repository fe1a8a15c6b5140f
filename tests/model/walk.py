"""A breadth-first walk through every state a model can reach, with the shortest way to the first one that is broken.

Safety is checked in every state and on every move. Liveness is: from every state, every path without further faults
arrives, where a deadline passes only if nothing else can happen. (That a deadline may also pass at any other moment is
part of the exploring; it is only not waited for.)

Alternatives considered: random sampling (hypothesis) missed the original's flaw in thousands of runs which this finds
in a second; TLA+ or SPIN would check a copy of the table in another language, not the table we ship.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from .joint import Joint


class Kind(Enum):
    """Why a move happens."""

    ITSELF = 0  # sooner or later, if nothing else comes
    DEADLINE = 1  # time passes
    OUTSIDE = 2  # a fault, a person: need not happen


Move = tuple[str, Joint, Kind]


class Broken(Exception):
    """A promise is not kept; the text says which."""


class Promise(NamedTuple):
    """Something that has to come true from wherever we are, unless this state excuses it."""

    name: str
    kept: Callable[[Joint], bool]
    excused: Callable[[Joint], bool]


class Model(Protocol):
    """What can be walked."""

    @property
    def initial(self) -> Joint: ...

    @property
    def promises(self) -> Sequence[Promise]: ...

    def moves(self, joint: Joint) -> Iterable[Move]:
        """Everything that can happen next. Raises Broken where a move itself breaks a promise."""

    def check(self, joint: Joint) -> None:
        """Raises Broken if a promise does not hold in this state."""

    def in_words(self, joint: Joint) -> str:
        """One line for a person."""


class Outcome(NamedTuple):
    """What a walk found."""

    states: int
    moves: int
    seconds: float
    broken: str = ""  # the promise that is not kept
    path: tuple[str, ...] = ()  # how to get there: what happened, and what it led to
    everything: tuple[Joint, ...] = ()  # all states seen, if nothing is broken

    def report(self) -> str:
        """What went wrong, as a person wants to read it."""
        return "\n    ".join((f"{self.broken} (after {self.states} states)", *self.path))


class Walk:
    """One exploration. Its two halves are `explore` and `judge`; `walk` is both."""

    def __init__(self, model: Model, limit: int) -> None:
        self._model = model
        self._limit = limit
        self._states = [model.initial]
        self._came_from: list[tuple[int, str]] = [(-1, "")]
        self._fair: list[list[int]] = []  # where each state goes by itself, or else by its deadlines
        self._moves = 0

    def explore(self) -> str:
        """Visit every state; the broken promise, or nothing."""
        model, states, came_from = self._model, self._states, self._came_from
        numbers = {model.initial: 0}
        number = 0
        while number < len(states):
            by_itself: list[int] = []
            by_deadline: list[int] = []
            try:
                model.check(states[number])
                for label, joint, kind in model.moves(states[number]):
                    self._moves += 1
                    other = numbers.get(joint)
                    if other is None:
                        other = numbers[joint] = len(states)
                        states.append(joint)
                        came_from.append((number, label))
                    if other != number:
                        if kind is Kind.ITSELF:
                            by_itself.append(other)
                        elif kind is Kind.DEADLINE:
                            by_deadline.append(other)
            except Broken as broken:
                self._end = number
                return str(broken)
            self._fair.append(by_itself or by_deadline)
            number += 1
            assert number <= self._limit, f"more than {self._limit} states: the model has no end"
        return ""

    def judge(self, promise: Promise) -> str:
        """Whether every state arrives at a promise; what is broken, or nothing."""
        count = len(self._states)
        arrives = bytearray(count)
        missing = [0] * count
        before: list[list[int]] = [[] for _ in range(count)]
        todo = []
        for number, joint in enumerate(self._states):
            if promise.kept(joint) or promise.excused(joint):
                arrives[number] = 1
                todo.append(number)
                continue
            missing[number] = len(self._fair[number])
            for other in self._fair[number]:
                before[other].append(number)
        while todo:
            for number in before[todo.pop()]:
                missing[number] -= 1
                if missing[number] == 0 and not arrives[number]:
                    arrives[number] = 1
                    todo.append(number)
        lost = [number for number in range(count) if not arrives[number]]
        if not lost:
            return ""
        stuck = [number for number in lost if not self._fair[number]]
        self._end = (stuck or lost)[0]
        return f"{promise.name}: never, from {len(lost)} states ({len(stuck)} of them ends)"

    def path(self) -> tuple[str, ...]:
        """The shortest way to where it broke."""
        lines = []
        number = self._end
        while number > 0:
            before, label = self._came_from[number]
            lines.append(f"{label:60} {self._model.in_words(self._states[number])}")
            number = before
        return tuple(reversed(lines))

    def outcome(self, seconds: float, broken: str) -> Outcome:
        """The findings so far."""
        if broken:
            return Outcome(len(self._states), self._moves, seconds, broken, self.path())
        return Outcome(len(self._states), self._moves, seconds, everything=tuple(self._states))


def walk(model: Model, *, limit: int = 5_000_000) -> Outcome:
    """Explore a model and judge its promises; stops at the first that is broken."""
    start = time.monotonic()
    a_walk = Walk(model, limit)
    broken = a_walk.explore()
    for promise in model.promises:
        broken = broken or a_walk.judge(promise)
    return a_walk.outcome(time.monotonic() - start, broken)
