"""Requests that come at a steady pace whatever the service does, and what became of each."""

from __future__ import annotations

import math
import re
import subprocess
import time
from collections import Counter
from itertools import pairwise
from typing import NamedTuple

from tests.demo.lines import Lines, NoSuchLine

LIMIT_SECONDS = 40.0  # more than a request may take
LINE = re.compile(r"(\d+) ([\d.]+) ([\d.]+) (.+)")
RELEASE = re.compile(r"release (\d+)")


class Visit(NamedTuple):
    """One request that has ended."""

    number: int
    due: float
    ended: float
    release: int
    """Who answered; 0 for nobody."""
    failure: str
    """Kind and reason; empty when it was answered."""

    @property
    def was_cut(self) -> bool:
        """Its connection was made, and ended before the answer did."""
        return self.failure.startswith(("reset: ", "short: "))


class Seen(NamedTuple):
    """What became of the requests of some stretch of time."""

    requests: int
    answers: dict[int, int]
    """Release: how many."""
    cut: list[str]
    """Requests whose connection was made and then lost with the process that had accepted it."""
    failed: list[str]
    """Requests that failed otherwise: refused, not answered in time, answered wrongly."""
    afterwards: set[int]
    """The releases that answered those which were due after the beginning of the look."""
    longest_pause: float
    """Seconds between two answers; one that was under way at the beginning counts."""


class Traffic:
    """A running client; close it, or use it as a context manager."""

    def __init__(self, process: subprocess.Popen[str], rate: int) -> None:
        assert process.stdout is not None
        self._process, self._rate = process, rate
        self._lines = Lines(process.stdout, "client")
        self._looked_at = 0
        self._last_answer = 0.0

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        self._lines.wait_for_end(timeout_seconds=5)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def look(self, *, afterwards: int) -> Seen:
        """Wait until all requests due by now have ended, and so many more; what became of them since the last look."""
        self._lines.wait_for(lambda _: True, after=0, timeout_seconds=LIMIT_SECONDS)
        first = parse(self._lines.said[0])
        now = first.number + math.ceil((time.monotonic() - first.due) * self._rate)
        missing = end = now + afterwards

        def is_the_last(line: str) -> bool:
            nonlocal missing
            missing -= parse(line).number < end
            return missing <= 0

        self._lines.wait_for(is_the_last, after=0, timeout_seconds=LIMIT_SECONDS)
        return self._seen(now, end)

    def end(self) -> Seen:
        """Send nothing more, and wait for what is under way; what became of the requests since the last look."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self._lines.wait_for_end(timeout_seconds=LIMIT_SECONDS):
            raise NoSuchLine("The client does not come to its end.")
        sent = len(self._lines.said)
        return self._seen(sent, sent)

    def _seen(self, now: int, end: int) -> Seen:
        """What became of the requests since the last look, up to this number."""
        visits = sorted(visit for visit in map(parse, list(self._lines.said)) if visit.number < end)
        those = visits[self._looked_at :]
        self._looked_at = end
        moments = sorted(visit.ended for visit in visits if visit.release)
        pauses = [after - before for before, after in pairwise(moments) if after > self._last_answer]
        self._last_answer = max(moments, default=0.0)
        return Seen(
            requests=len(those),
            answers=Counter(visit.release for visit in those if visit.release),
            cut=[visit.failure for visit in those if visit.was_cut],
            failed=[visit.failure for visit in those if visit.failure and not visit.was_cut],
            afterwards={visit.release for visit in those if visit.number >= now},
            longest_pause=max(pauses, default=0.0),
        )


def parse(line: str) -> Visit:
    """A line of the client's."""
    match = LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"The client said what is no line of its own: {line!r}.")
    number, due, ended, text = match.groups()
    answer = RELEASE.fullmatch(text)
    return Visit(int(number), float(due), float(ended), int(answer[1]) if answer else 0, "" if answer else text)
