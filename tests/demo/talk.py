"""The client that talks to the service all the time, and what it saw."""

from __future__ import annotations

import re
import subprocess
import time
from typing import NamedTuple

from tests.demo.lines import Lines

ANSWER_LIMIT_SECONDS = 20.0
ANSWER = re.compile(r"([\d.]+) (?:release (\d+) says (\d+))?")


class Answer(NamedTuple):
    """One line of the client's; release and number are 0 where nobody answered."""

    at: float
    release: int
    number: int


class Seen(NamedTuple):
    """What the client saw in some stretch of time."""

    answers: dict[int, int]  # release: how many
    longest_pause: float


class Talk:
    """A running client; a context manager that ends it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._process = process
        self._lines = Lines(process.stdout, "client")

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._lines.wait_for_end(timeout_seconds=5)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def wait_for_answers(self, release: int, *, count: int) -> None:
        """Wait until so many answers of this release have come from now on."""
        now = time.monotonic()
        left = count

        def is_the_last(line: str) -> bool:
            nonlocal left
            answer = parse(line)
            left -= answer.release == release and answer.at >= now
            return left <= 0

        after = len(self._lines.said)
        self._lines.wait_for(is_the_last, after=after, timeout_seconds=ANSWER_LIMIT_SECONDS)

    def wait_for_silence(self) -> None:
        """Wait until nobody answers."""
        if self.answers() and self.answers()[-1].release:
            self._lines.wait_for(
                lambda line: not parse(line).release,
                after=len(self._lines.said) - 1,
                timeout_seconds=ANSWER_LIMIT_SECONDS,
            )

    def answers(self) -> list[Answer]:
        """All that came so far."""
        return [parse(line) for line in list(self._lines.said)]

    def since(self, moment: float) -> Seen:
        """What was seen from a moment on; a pause that was under way then is part of it."""
        counts: dict[int, int] = {}
        longest, previous = 0.0, None
        for answer in self.answers():
            if not answer.release:
                continue
            if answer.at >= moment:
                counts[answer.release] = counts.get(answer.release, 0) + 1
                if previous is not None:
                    longest = max(longest, answer.at - previous)
            previous = answer.at
        return Seen(counts, longest)


def parse(line: str) -> Answer:
    """A line of the client's."""
    match = ANSWER.fullmatch(line)
    if match is None:
        raise ValueError(f"The client got an answer that is none: {line!r}.")
    at, release, number = match.groups()
    return Answer(float(at), int(release or 0), int(number or 0))
