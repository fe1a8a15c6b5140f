"""The story: a service starts, survives a crash, takes new code, refuses broken code, stops; while a client watches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.demo.ground import EXAMPLE, Facts, Ground, Outcome
from tests.demo.narrator import GREEN, Narrator
from tests.demo.talk import Talk

HEADS = ("what was done", "outcome", "main pid", "answers from", "longest pause")
ANSWERS_AFTERWARDS = 25  # awaited after each step: the client is still served

SABOTAGE = ("new-code-is-broken", "broken-code-works", "numbers-repeat")
"""Ways to make the story untrue, to prove that the demo would notice."""


def releases(sabotage: str | None = None) -> dict[str, str]:
    """The example's source as four releases of it; the third cannot be imported."""
    example = (EXAMPLE / "counter.py").read_text()
    sources = {name: changed(example, "RELEASE = 1", f"RELEASE = {name}") for name in ("1", "2", "3", "4")}
    broken = changed(sources["3"], "import sys\n", "import requsts\nimport sys\n")
    sources["3"] = sources["3"] if sabotage == "broken-code-works" else broken
    if sabotage == "new-code-is-broken":
        sources["2"] = changed(sources["2"], "import sys\n", "import sys, requsts\n")
    if sabotage == "numbers-repeat":
        sources["2"] = changed(sources["2"], "if state.exists() else 0", "if 0 else 0")
    return sources


def changed(source: str, old: str, new: str) -> str:
    assert source.count(old) == 1, f"the example no longer says {old!r} once"
    return source.replace(old, new)


class Story:
    """Told once, on one ground. Raises ClaimFailed where it turns out untrue."""

    def __init__(self, ground: Ground, narrator: Narrator, talk: Talk) -> None:
        self.ground, self.narrator, self.talk = ground, narrator, talk
        self.claim = narrator.claim
        self.facts = Facts(0, 0, 0, 0, 0, "")
        self.rows: list[tuple[str, ...]] = []
        self.row: tuple[str, ...] = ()

    def tell(self) -> None:
        self.start()
        self.crash()
        self.take_new_code("Deploy release 2 and reload.", "reload to release 2", "1", "2")
        self.refuse_broken_code()
        self.take_new_code("Deploy release 4, which mends it, and reload.", "reload to release 4", "2", "4")
        self.stop()
        self.sum_up()

    def start(self) -> None:
        with self.step("Start the service."):
            self.ground.deploy("1")
            outcome = self.ground.start()
            self.claim("the service starts", outcome.succeeded)
            now = self.facts = self.look()
            self.tell_facts(f"{outcome.words}, {self.ground.pid_name} {now.main_pid}", now)
            self.end("start", outcome.words, str(now.main_pid), [1])

    def crash(self) -> None:
        with self.step("Kill the worker, which runs the service's code; the next is due 0.2 s later."):
            before = self.facts
            self.ground.kill_worker(before.worker_pid)
            now = self.facts = self.look()
            self.claim("another worker serves", now.worker_pid != before.worker_pid)
            self.claim("one crash was counted", now.crashes == before.crashes + 1)
            self.claim("the crash of a worker leaves the supervisor alone", now.main_pid == before.main_pid)
            self.tell_facts(
                f"{self.ground.pid_name} {now.main_pid} as before, worker {before.worker_pid} -> {now.worker_pid}", now
            )
            self.end("kill -9 of the worker", "-", str(now.main_pid), [1])

    def take_new_code(self, sentence: str, name: str, old: str, new: str) -> None:
        with self.step(sentence):
            before = self.facts
            self.ground.deploy(new)
            outcome = self.ground.reload(before.main_pid)
            self.claim(f"the {name} succeeds", outcome.succeeded)
            now = self.facts = self.look()
            self.claim("the new supervisor is the main pid", now.main_pid != before.main_pid)
            self.claim("the new supervisor has a worker of its own", now.worker_pid != before.worker_pid)
            self.claim("the status names the new release", f"releases/{new}/" in now.sentence)
            pids = f"{before.main_pid} -> {now.main_pid}"
            self.tell_facts(f"{outcome.words}, {self.ground.pid_name} {pids}", now)
            self.end(name, outcome.words, pids, [int(old), int(new)])

    def refuse_broken_code(self) -> None:
        with self.step("Deploy release 3, which imports a module that does not exist, and reload."):
            before = self.facts
            self.ground.deploy("3")
            outcome = self.ground.reload(before.main_pid)
            self.claim("the reload to broken code fails", not outcome.succeeded)
            now = self.facts = self.look()
            self.claim("the old supervisor stays the main pid", now.main_pid == before.main_pid)
            self.claim("the old worker was never stopped", now.worker_pid == before.worker_pid)
            self.claim("the status gives the reason", "No module named 'requsts'" in now.sentence)
            self.tell_facts(f"{outcome.words}, {self.ground.pid_name} {now.main_pid} as before", now)
            self.end("reload to broken code", outcome.words, str(now.main_pid), [2])

    def stop(self) -> None:
        with self.step("Stop the service."):
            outcome = self.ground.stop(self.facts.main_pid)
            self.claim("the service stops", outcome.succeeded)
            leftovers = self.ground.leftovers()
            self.claim(f"a stopped service leaves nothing behind, but there is {', '.join(leftovers)}", not leftovers)
            self.talk.wait_for_silence()
            self.narrator.seen(self.ground.teller, f"{outcome.words}, no process is left")
            self.narrator.seen("client", "nobody answers any more")
            self.row = ("stop", outcome.words, "none", "nobody", "-")

    def sum_up(self) -> None:
        answers = [answer for answer in self.talk.answers() if answer.release]
        by_release = [answer.release for answer in answers]
        numbers = [answer.number for answer in answers]
        lost = numbers[-1] - numbers[0] + 1 - len(numbers)
        self.claim("no number came twice", len(set(numbers)) == len(numbers))
        self.claim("the numbers only rose", numbers == sorted(numbers))
        self.claim("once new code had answered, old code never did", by_release == sorted(by_release))
        self.narrator.table(HEADS, self.rows)
        restarts = f" {self.ground.restarts_name} stayed 0." if self.ground.restarts_name else ""
        self.narrator.say(
            f"The client got {len(numbers)} numbers, none twice, {lost or 'none'} lost.{restarts} "
            f"What you read was checked: {self.narrator.claims} claims, all true.",
            colour=GREEN,
        )

    # ------------------------------------------------------------------------------------------------ details

    @contextmanager
    def step(self, sentence: str) -> Iterator[None]:
        self.narrator.step(sentence)
        self.began = time.monotonic()
        yield
        self.rows.append(self.row)

    def look(self) -> Facts:
        """The facts, and what must hold of them whatever was done."""
        now = self.ground.facts()
        self.claim("the main pid is the supervisor's that serves", now.main_pid == now.supervisor_pid)
        self.claim("nobody had to restart the supervisor", now.restarts == 0)
        return now

    def tell_facts(self, words: str, now: Facts) -> None:
        self.narrator.seen(self.ground.teller, words)
        self.narrator.seen("STATUS", now.sentence)

    def end(self, name: str, words: str, pids: str, by: list[int]) -> None:
        """The end of a step after which the last of these releases serves; only these answered meanwhile."""
        self.talk.wait_for_answers(by[-1], count=ANSWERS_AFTERWARDS)
        seen = self.talk.since(self.began)
        self.claim(f"only release {' and '.join(map(str, by))} answered", set(seen.answers) <= set(by))
        pause = f"{seen.longest_pause * 1000:.0f} ms"
        counts = ", ".join(f"{count} from release {release}" for release, count in seen.answers.items())
        self.narrator.seen("client", f"{counts.replace(' from', ' answers from', 1)}; longest pause {pause}")
        self.row = (name, words, pids, " -> ".join(map(str, seen.answers)), pause)


def outcome_of(exit_status: int) -> Outcome:
    return Outcome(exit_status == 0, f"exit status {exit_status}")
