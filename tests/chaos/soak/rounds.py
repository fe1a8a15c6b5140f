"""Chains of rounds, each of one service; and the course of a round."""

from __future__ import annotations

import heapq
import itertools
import random
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from tests.chaos.kill.cases import Outcome
from tests.chaos.kill.hub import Broken
from tests.chaos.soak import faults
from tests.chaos.soak.client import Client
from tests.chaos.soak.faults import Faults
from tests.chaos.soak.instance import Instance, Release, end_of
from tests.chaos.soak.judge import Judge, Settled

# What runs, and its handover.
KINDS = (
    ("class", "exclusive"),
    ("class", "overlap"),
    ("command", "exclusive"),
    ("command", "overlap"),
    ("waiting", "exclusive"),
    ("class", "mixed"),
)
HANDOVERS = {"exclusive": ("exclusive",), "overlap": ("overlap",), "mixed": ("overlap", "exclusive")}
RELEASES = ("good",) * 7 + ("import", "start", "serve", "never", "check")
CHAIN_ROUNDS = 20
MOST_SECONDS = 90.0  # for a reload to end, whatever happens to it


class Soak(NamedTuple):
    """So many rounds of one service, from the first on."""

    kind: str
    handover: str
    seed: int
    first: int
    rounds: int
    systemd: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.handover} {self.seed}/{self.first}"


def plan(seed: int, rounds: int, in_a_chain: int = CHAIN_ROUNDS) -> list[Soak]:
    """So many rounds, in chains; the kinds take turns."""
    chains = []
    for number, begin in enumerate(range(0, rounds, in_a_chain)):
        kind, handover = KINDS[number % len(KINDS)]
        chains.append(Soak(kind, handover, seed * 1000 + number, 0, min(in_a_chain, rounds - begin)))
    return chains


def run(chain: Soak) -> Outcome:
    """All rounds of a chain; it ends at the first that breaks a promise, and names that."""
    player = Player(chain)
    result, reason, name, story = "held", "", str(chain), list[str]()
    try:
        player.start()
        for number in range(chain.first, chain.first + chain.rounds):
            name = str(chain._replace(first=number))
            player.play(number)
        player.faults.end()
        player.judge.stop()
        reason = f"{chain.rounds} rounds, {player.client.questions} questions, {player.faulty} faults"
    except Broken as broken:
        result, reason = "broken", str(broken)
    except Exception:
        result, reason = "broken", traceback.format_exc()
    player.faults.end()
    if result == "broken":
        story = [*player.story, *player.instance.last_words()]
    player.close()
    return Outcome(name, result, reason, story, [], [])


class Player:
    """The operator and the dice."""

    def __init__(self, chain: Soak) -> None:
        self._chain = chain
        self.instance = instance = Instance(chain.kind)
        self.story: list[str] = []
        self.faulty = 0
        self._began = time.monotonic()
        self.client = Client(instance.port)
        self.faults = Faults(instance, self.tell)
        self.judge = Judge(instance, self.client, self.faults, self.tell)
        self._settled: Settled | None = None

    @property
    def settled(self) -> Settled:
        """How the service was after the last round."""
        assert self._settled is not None
        return self._settled

    def close(self) -> None:
        """Take everything away."""
        self.client.close()
        self.instance.destroy()

    def tell(self, line: str) -> None:
        """Remember a line of the story."""
        self.story.append(f"{time.monotonic() - self._began:7.3f} {line}")

    def start(self) -> None:
        """It serves."""
        self.instance.deploy(self._release(random.Random(self._chain.seed), "good"))
        start = self.instance.begin("start")
        if not end_of(start, MOST_SECONDS) or start.returncode != 0:
            raise Broken(f"The first start ended with {start.returncode}.")
        self._settled = self.judge.settle(may_need_help=False)
        self.client.take_failures()

    def play(self, number: int) -> None:
        """One round."""
        before = self.settled
        dice = random.Random(f"{self._chain.seed}/{number}")
        release = self._release(dice, dice.choice(RELEASES))
        planned = faults.throw(dice)
        self.story.clear()
        self.tell(f"=== round {number}: {before}; {release}; {'; '.join(map(str, planned)) or 'no fault'}")
        self.faults.forget()
        deployed = self.instance.deploy(release)
        call = self.instance.begin("reload")
        agenda = Agenda(time.monotonic())
        for fault in planned:
            agenda.add(fault.at, lambda fault=fault: self._do(agenda, fault))  # type: ignore[misc]
        while (left := agenda.next_in()) is not None:
            if end_of(call, left) and left > 0:
                time.sleep(max(0.0, agenda.next_in() or 0.0))  # the reload is over; what comes, comes at its time
            agenda.do_due()
        if not end_of(call, MOST_SECONDS):
            raise Broken(f"A reload has not ended after {MOST_SECONDS:g} s.")
        self.tell(f"the reload's caller ends with status {call.returncode}: {(call.communicate()[1] or '').strip()}")
        self.faults.end()
        self.instance.cure()
        self._settled = self.judge.settle(may_need_help=release.kind == "import")
        self.tell(f"{self._settled}")
        self.judge.check(release, deployed, call.returncode, before, self.settled)

    def _do(self, agenda: Agenda, fault: faults.Fault) -> None:
        self.faulty += 1
        undo = self.faults.begin(fault)
        if undo is not None:
            agenda.add(agenda.elapsed + (fault.lasts or 0.0), undo)

    def _release(self, dice: random.Random, kind: str) -> Release:
        check = ["/bin/false"] if kind == "check" else dice.choice(([], [], ["/bin/true"], ["/bin/sleep", "0.1"]))
        handover = dice.choice(HANDOVERS[self._chain.handover])
        settings = {
            "workers": dice.choice((1, 1, 1, 2, 3)),
            "stop_timeout": dice.choice((1.0, 2.5)),
            "probation": dice.choice((0.0, 0.0, 0.2)),
            "before_commit": check,
        }
        return Release(kind, handover, dice.choice((0.0, 0.0, 0.0, 0.1, 0.8)), settings)


class Agenda:
    """What is to be done, and when."""

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begin

    def add(self, at: float, do: Callable[[], None]) -> None:
        """In so many seconds from the beginning."""
        heapq.heappush(self._entries, (at, next(self._order), do))

    def next_in(self) -> float | None:
        """Seconds until there is something to do; None where there is not."""
        return max(0.0, self._entries[0][0] - self.elapsed) if self._entries else None

    def do_due(self) -> None:
        """What it is time for."""
        while self._entries and self._entries[0][0] <= self.elapsed:
            heapq.heappop(self._entries)[2]()
