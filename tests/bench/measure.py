"""Measuring in turns, and the numbers that come of it."""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Figures(NamedTuple):
    """Samples of one quantity."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The one in the middle."""
        return statistics.median(self.samples)

    @property
    def least(self) -> float:
        """The smallest one."""
        return min(self.samples)

    @property
    def most(self) -> float:
        """The largest one."""
        return max(self.samples)


class Row(NamedTuple):
    """One number of the table beside its baseline."""

    what: str
    unit: str
    ours: Figures
    baseline_name: str
    baseline: Figures
    limit: float | None  # at most so many times the baseline; None: one of the two below, or only told
    at_most: float | None = None  # at most as much; 0 in every sample, else the median
    within_noise: bool = False  # at most as much as the baseline's worst sample

    @property
    def ratio(self) -> float | None:
        """How many times the baseline; None where that is 0."""
        return self.ours.median / self.baseline.median if self.baseline.median else None

    @property
    def met(self) -> bool | None:
        """The goal is met; None where there is none."""
        if self.limit is not None and self.ratio is not None:
            return self.ratio <= self.limit
        if self.at_most is not None:
            return (self.ours.median if self.at_most else self.ours.most) <= self.at_most
        if self.within_noise:
            return self.ours.median <= self.baseline.most
        return None


def in_turns(rounds: int, *measures: Callable[[], float]) -> tuple[Figures, ...]:
    """Call A B A B …, so that whatever else the machine does meets all of them alike."""
    samples: Sequence[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for measure, into in zip(measures, samples, strict=True):
            into.append(measure())
    return tuple(Figures(tuple(into)) for into in samples)
