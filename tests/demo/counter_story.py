"""An exclusive service: its client is refused for a moment by each reload, and gets no number twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.demo.ground import COUNTER, NUMBERS_CLIENT, Facts
from tests.demo.story import Story, changed, milliseconds, source, told_of, unit, unloadable
from tests.demo.talk import Talk

HEADS = ("Counter, exclusive", "outcome", "main pid", "answers from", "longest pause")
ANSWERS_AFTERWARDS = 25  # awaited after each step: the client is still served

SABOTAGE = ("new-code-is-broken", "broken-code-works", "numbers-repeat")
"""Ways to make the story untrue, to prove that the demo would notice."""


def releases(sabotage: str) -> dict[str, str]:
    """Four of the example; the third cannot be imported."""
    sources = {str(number): source(COUNTER, number) for number in (1, 2, 3, 4)}
    if sabotage != "broken-code-works":
        sources["3"] = unloadable(sources["3"])
    if sabotage == "new-code-is-broken":
        sources["2"] = unloadable(sources["2"])
    if sabotage == "numbers-repeat":
        sources["2"] = changed(sources["2"], "if state.exists() else 0", "if 0 else 0")
    return {f"{name}/counter.py": text for name, text in sources.items()}


class CounterStory(Story):
    """Told with a client that asks for numbers all the time."""

    service = COUNTER
    introduction = "Counter hands out numbers, each of them once: it is exclusive. A client asks it all the time."

    def tell(self, sabotage: str) -> None:
        self.ground.install(releases(sabotage), unit(COUNTER))
        with Talk(self.ground.client(NUMBERS_CLIENT, str(self.ground.port))) as self.talk:
            self.start("Start the service.")
            self.kill_worker("Kill the worker, which runs the service's code; the next is due 0.2 s later.")
            self.take_new_code("Deploy release 2 and reload.", 1, 2)
            self.refuse_broken_code(2)
            self.take_new_code("Deploy release 4, which mends it, and reload.", 2, 4)
            self.stop("Stop the service.")
        self.check_the_numbers()

    @contextmanager
    def step(self, sentence: str) -> Iterator[Facts]:
        self.began = time.monotonic()
        with super().step(sentence) as before:
            yield before

    def client_saw(self, releases: Sequence[int], *, was_killed: bool) -> tuple[str, ...]:
        if not releases:
            self.talk.wait_for_silence()
            self.narrator.seen("client", "nobody answers any more")
            return ("nobody", "-")
        self.talk.wait_for_answers(releases[-1], count=ANSWERS_AFTERWARDS)
        seen = self.talk.since(self.began)
        self.claim(f"only release {' and '.join(map(str, releases))} answered", set(seen.answers) <= set(releases))
        pause = milliseconds(seen.longest_pause)
        self.narrator.seen("client", f"{told_of(seen.answers)}; longest pause {pause}")
        return (" -> ".join(map(str, seen.answers)), pause)

    def check_the_numbers(self) -> None:
        answers = [answer for answer in self.talk.answers() if answer.release]
        by_release = [answer.release for answer in answers]
        numbers = [answer.number for answer in answers]
        self.claim("no number came twice", len(set(numbers)) == len(numbers))
        self.claim("the numbers only rose", numbers == sorted(numbers))
        self.claim("once new code had answered, old code never did", by_release == sorted(by_release))
        self.got, self.lost = len(numbers), numbers[-1] - numbers[0] + 1 - len(numbers)

    def sum_up(self) -> str:
        """The table, and a sentence."""
        self.narrator.table(HEADS, self.rows)
        return f"Counter's client got {self.got} numbers, none twice, {self.lost or 'none'} lost."
