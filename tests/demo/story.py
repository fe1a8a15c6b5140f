"""What the stories have in common: a service starts, survives a crash, takes new code, refuses broken code, stops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.demo.ground import EXAMPLE, Facts, Ground, Service
from tests.demo.narrator import Narrator


class Story(ABC):
    """Told once, on one ground. Raises ClaimFailed where it turns out untrue."""

    service: Service
    introduction: str

    def __init__(self, ground_of: Callable[[Service], Ground], narrator: Narrator) -> None:
        self.ground, self.narrator = ground_of(self.service), narrator
        self.claim = narrator.claim
        self.facts = Facts(0, 0, (), 0, 0, "")
        self.restarts = 0
        """How often the supervisor should have been started again, so far."""
        self.rows: list[tuple[str, ...]] = []
        """Of the table at the end."""

    @abstractmethod
    def tell(self, sabotage: str) -> None:
        """From the start to the stop."""

    @abstractmethod
    def sum_up(self) -> str:
        """Print the table; a sentence."""

    @abstractmethod
    def client_saw(self, releases: Sequence[int], *, was_killed: bool) -> tuple[str, ...]:
        """Tell what the client saw of the step, after which the last of these releases serves; only these answered
        meanwhile; none is the end. What the table says of it."""

    # ------------------------------------------------------------------------------------------------- steps

    def start(self, sentence: str) -> None:
        with self.step(sentence):
            self.ground.deploy("1")
            outcome = self.ground.start()
            self.claim("the service starts", outcome.succeeded)
            now = self.look()
            self.tell_facts(f"{outcome.words}, {self.ground.pid_name} {now.main_pid}", now)
            self.end("start", "done", str(now.main_pid), [1])

    def kill_worker(self, sentence: str) -> None:
        with self.step(sentence) as before:
            victim = before.worker_pids[-1]
            self.ground.kill_worker(victim)
            now = self.look()
            self.claim("one crash was counted", now.crashes == before.crashes + 1)
            self.claim("the crash of a worker leaves the supervisor alone", now.main_pid == before.main_pid)
            (worker,) = set(now.worker_pids) - set(before.worker_pids) or {victim}
            self.claim("another worker serves", worker != victim and victim not in now.worker_pids)
            self.claim("there are as many workers as before", len(now.worker_pids) == len(before.worker_pids))
            self.tell_facts(f"{self.ground.pid_name} {now.main_pid} as before, worker {victim} -> {worker}", now)
            self.end("kill -9 of a worker", "-", str(now.main_pid), [1], was_killed=True)

    def take_new_code(self, sentence: str, old: int, new: int) -> None:
        with self.step(sentence) as before:
            self.ground.deploy(str(new))
            outcome = self.ground.reload(before.main_pid)
            self.claim(f"the reload to release {new} succeeds", outcome.succeeded)
            now = self.look()
            self.claim("the new supervisor is the main pid", now.main_pid != before.main_pid)
            self.claim("the new supervisor has workers of its own", set(now.worker_pids).isdisjoint(before.worker_pids))
            self.claim("the status names the new release", f"releases/{new}/" in now.sentence)
            pids = f"{before.main_pid} -> {now.main_pid}"
            self.tell_facts(f"{outcome.words}, {self.ground.pid_name} {pids}", now)
            self.ground.wait_until_gone(before.main_pid)
            self.end(f"reload to release {new}", "done", pids, [old, new])

    def refuse_broken_code(self, serving: int) -> None:
        sentence = "Deploy release 3, which imports a module that does not exist, and reload."
        self.refuse(sentence, "reload to broken code", "3", "No module named 'requsts'", [serving])

    def refuse(self, sentence: str, name: str, release: str, reason: str, answered: Sequence[int]) -> None:
        with self.step(sentence) as before:
            self.ground.deploy(release)
            outcome = self.ground.reload(before.main_pid)
            self.claim(f"the {name} fails", not outcome.succeeded)
            now = self.look()
            self.claim("the old supervisor stays the main pid", now.main_pid == before.main_pid)
            self.claim("no old worker was stopped", now.worker_pids == before.worker_pids)
            self.claim("the status gives the reason", reason in now.sentence)
            self.tell_facts(f"{outcome.words}, {self.ground.pid_name} {now.main_pid} as before", now)
            self.end(name, "failed", str(now.main_pid), answered)

    def stop(self, sentence: str) -> None:
        with self.step(sentence):
            outcome = self.ground.stop(self.facts.main_pid)
            self.claim("the service stops", outcome.succeeded)
            leftovers = self.ground.leftovers()
            self.claim(f"a stopped service leaves nothing behind, but there is {', '.join(leftovers)}", not leftovers)
            self.narrator.seen(self.ground.teller, f"{outcome.words}, no process is left")
            self.end("stop", "done", "none", [])

    # ------------------------------------------------------------------------------------------------ details

    @contextmanager
    def step(self, sentence: str) -> Iterator[Facts]:
        """Yields the facts before it."""
        self.narrator.step(sentence)
        yield self.facts

    def look(self) -> Facts:
        """The facts, and what must hold of them whatever was done."""
        now = self.facts = self.ground.facts()
        self.claim("the main pid is the supervisor's that serves", now.main_pid == now.supervisor_pid)
        self.claim("nobody had to restart the supervisor but when it was killed", now.restarts == self.restarts)
        return now

    def tell_facts(self, words: str, now: Facts) -> None:
        self.narrator.seen(self.ground.teller, words)
        self.narrator.seen("STATUS", now.sentence)

    def end(self, name: str, outcome: str, pids: str, releases: Sequence[int], *, was_killed: bool = False) -> None:
        """Of a step: what the client saw, and a row of the table."""
        self.rows.append((name, outcome, pids, *self.client_saw(releases, was_killed=was_killed)))


def unit(service: Service) -> str:
    """The example's unit."""
    return (EXAMPLE / f"{service.name}.service").read_text()


def source(service: Service, release: int) -> str:
    """The example, as it would be after some development."""
    return changed((EXAMPLE / f"{service.name}.py").read_text(), "RELEASE = 1\n", f"RELEASE = {release}\n")


def unloadable(code: str) -> str:
    """The code, importing what does not exist."""
    return changed(code, "import sys\n", "import requsts\nimport sys\n")


def changed(text: str, old: str, new: str) -> str:
    """The text with something else in one place."""
    assert text.count(old) == 1, f"the example no longer says {old!r} once"
    return text.replace(old, new)


def told_of(answers: Mapping[int, int]) -> str:
    """How many came from which release, in words."""
    counts = ", ".join(f"{count} from release {release}" for release, count in answers.items())
    return counts.replace(" from", " answers from", 1)


def milliseconds(seconds: float) -> str:
    """As people say it."""
    return f"{seconds * 1000:.0f} ms"
