"""What all surfaces have: inputs by chance, and a way to feed one; and how they are fed many."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from .chance import Chance

LIMIT_SECONDS = 5.0  # of processor time, for one input; after twice as much it is given up
_LOOK_EVERY = 250  # inputs; then nothing that was opened meanwhile may be open


class TakesTooLong(Exception):
    """An input is given up."""


class Find(NamedTuple):
    """Something that must not be."""

    surface: str
    seed: int
    number: int  # of the input, from 0
    what: str
    given: str

    def __str__(self) -> str:
        again = f"python -m tests.chaos.fuzz --surface {self.surface} --seed {self.seed} --only {self.number}"
        return f"{self.surface}, input {self.number}: {self.what}\n    {self.given}\n    again: {again}"


class Surface(ABC):
    """A place where somebody else's words come in."""

    name: ClassVar[str]
    declared: ClassVar[tuple[type[BaseException], ...]] = ()  # what may be raised for a wrong input

    def __init__(self, chance: Chance) -> None:
        self.chance = chance

    @abstractmethod
    def make(self) -> object:
        """The next input; its repr() shows what it is."""

    @abstractmethod
    def feed(self, given: object) -> None:
        """Take one in, to the end."""

    def rest(self) -> None:  # noqa: B027 - many have nothing to close
        """Now and then, after a find, and at the end: close all that the inputs before have opened."""

    def close(self) -> None:
        """At the end: close what is open from the beginning."""
        self.rest()


def seeded(surface: type[Surface], seed: int, number: int) -> Chance:
    """Each input has a seed of its own, so that it can be made again without those before it."""
    return Chance(f"{seed} {surface.name} {number}")


def fuzz(surface: type[Surface], seed: int, numbers: range) -> Iterator[Find]:
    """Feed the inputs with these numbers; what was found, one for each kind of it."""
    subject = surface(Chance(0))
    before = signal.signal(signal.SIGPROF, _give_up)
    try:
        yield from _feed_all(subject, seed, numbers)
    finally:
        signal.signal(signal.SIGPROF, before)
        subject.close()


def _give_up(_number: int, _frame: object) -> None:
    raise TakesTooLong


def _feed_all(subject: Surface, seed: int, numbers: range) -> Iterator[Find]:
    kinds: set[str] = set()
    surface = type(subject)

    def found(kind: str, number: int, what: str, given: object) -> Iterator[Find]:
        if kind not in kinds:
            kinds.add(kind)
            yield Find(surface.name, seed, number, what, _shown(given))

    opened = descriptors()
    for number in numbers:
        subject.chance = seeded(surface, seed, number)
        given = subject.make()
        began = time.process_time()
        try:
            signal.setitimer(signal.ITIMER_PROF, 2 * LIMIT_SECONDS)
            subject.feed(given)
        except surface.declared:
            pass
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} in {place.name} ({os.path.basename(place.filename)}:{place.lineno})"
            yield from found(kind, number, f"{kind}: {str(error)[:200]}\n{traceback.format_exc()}", given)
            subject.rest()  # what was left half done would stop the inputs after it
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        took = time.process_time() - began
        if took > LIMIT_SECONDS:
            yield from found("slow", number, f"took {took:.1f} s", given)
        if (number + 1) % _LOOK_EVERY == 0 or number + 1 == numbers.stop:
            subject.rest()
            left = descriptors() - opened
            if left:
                shown = ", ".join(sorted(_target(fd) for fd in left))
                yield from found("leak", number, f"descriptors are open: {shown}", "one of the inputs before")
                opened |= left
            missing = opened - descriptors()
            if missing:
                yield from found("closed", number, f"descriptors were closed: {missing}", "one of the inputs before")
                opened -= missing


def descriptors() -> set[int]:
    """Those of this process that are open."""
    listed = {int(name) for name in os.listdir("/proc/self/fd")}
    return {fd for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}")}


def _target(fd: int) -> str:
    with contextlib.suppress(OSError):
        return f"{fd} ({os.readlink(f'/proc/self/fd/{fd}')})"
    return str(fd)


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) < 1500 else f"{text[:1000]} … {text[-300:]}"
