"""Random rounds: reload after reload under a client's load, and at random moments random harm.

A round deploys code that is good, broken or slow, asks for a reload, and meanwhile kills, stops (SIGSTOP), wakes or
ends whoever its dice name: at the so-manieth step any supervisor takes (it is held there for that moment), or after a
random while. Then everything must come to rest and be as promised. What a round does follows from its seed; what comes
of it also from the scheduler.
"""

from __future__ import annotations

import random
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import NamedTuple

from sdsupervise.core.takeover import Effect
from tests.chaos.kill import oracle
from tests.chaos.kill.cases import Outcome
from tests.chaos.kill.hub import Broken, Place, Process
from tests.chaos.kill.instance import Instance, Plain, Release, Unit
from tests.chaos.kill.places import LEAVING, next_state, rule_of
from tests.chaos.kill.stage import Side, Stage, Target

CLIENT_PAUSE_SECONDS = 0.002
MOST_PLACES = 45  # a reload without trouble takes some forty steps
LONGEST_WHILE_SECONDS = 0.4
CROSSING_SECONDS = 0.1

KINDS = ("good",) * 6 + ("start", "serve", "import", "slow", "check")
DEEDS = ("kill",) * 4 + ("stop",) * 3 + ("end",)
POOLS = (1, 1, 1, 2, 3)
HOW_MANY = (0, 1, 1, 1, 2, 2, 3)
WAKES_AGAIN = 0.75
SPARES = 0.2
EACH = 0.3

DRAINS_SLOWLY = 0.5
LONGEST_DRAIN_SECONDS = 2.0

SETTINGS: Mapping[str, object] = {"reload_timeout": 1.5, "takeover_timeout": 0.6, "worker_timeout": 0.6}
STOP_TIMEOUTS = (0.5, 2.5)
# Asks at each listener; passes if the release that it is told of answers, and leaves word if another one does.
ASKS = """
import os, socket, sys
for place in [value for name, value in os.environ.items() if name.startswith("SDSUPERVISE_LISTEN_")]:
    host, _, port = place.rpartition(":")
    client = socket.socket(socket.AF_INET if host else socket.AF_UNIX)
    if host:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("", 61000 + os.getpid() % 1000))
    client.connect((host, int(port)) if host else place)
    answer = client.recv(100).decode()
    if answer and answer != sys.argv[1]:
        open(sys.argv[2], "a").write(f"MISTAKEN release={sys.argv[1]} answered={answer} at={place}\\n")
    if answer != sys.argv[1]:
        sys.exit(f"{place} says {answer!r}")
"""
CHECKS: tuple[list[str], ...] = ([],) * 3 + (["/bin/true"], ["/bin/sleep", "0.1"], ["ask"], ["ask"])
HANDOVERS = {"exclusive": ("exclusive",), "overlap": ("overlap",), "mixed": ("overlap", "overlap", "exclusive")}


class Chain(NamedTuple):
    """So many rounds of one service; each of its releases is for one of the handovers of its kind."""

    systemd: bool
    kind: str
    seed: int
    rounds: int

    def __str__(self) -> str:
        return f"{'systemd' if self.systemd else 'plain'} {self.kind} {self.rounds} rounds with seed {self.seed}"


class Deed(NamedTuple):
    """Something to do to somebody, once as many places were passed, or so many seconds."""

    places: int | None
    seconds: float
    what: str
    target: Target
    spare: bool  # not this worker, but the one its supervisor keeps in reserve
    wakes_after: float | None


def run(chain: Chain) -> Outcome:
    """All rounds of a chain, on one service; it ends at the first that breaks a promise."""
    instance: Instance = Unit() if chain.systemd else Plain()
    players = Players(instance, chain.kind, random.Random(chain.seed))
    stage, result, reason, story = players.stage, "held", "", list[str]()
    try:
        stage.start()
        for number in range(chain.rounds):
            players.play(number, random.Random(f"{chain.seed}/{number}"))
        if stage.hub.living("supervisor"):
            oracle.stop(stage)
        left = instance.left()
        if left:
            raise Broken(f"This is left after the end: {'; '.join(left)}.")
        reason = f"{players.answers} answers"
    except Broken as broken:
        result, reason = "broken", str(broken)
    except Exception:
        result, reason = "broken", traceback.format_exc()
    if result == "broken":
        begin = max((n for n, line in enumerate(stage.hub.story) if "=== round" in line), default=0)
        story = [*stage.hub.story[begin:], *instance.log()[players.log_begins :], instance.last_words()[-8000:]]
    instance.close()
    return Outcome(str(chain), result, reason, story, sorted(stage.hub.transitions), [])


class Players:
    """The client, the operator and the dice."""

    def __init__(self, instance: Instance, kind: str, dice: random.Random) -> None:
        self.instance, self.hub = instance, instance.hub
        self.kind, self.dice = kind, dice
        self.stage = Stage(instance, Release(settings=self._settings(dice)), Release())
        self.answers = 0
        self.log_begins = 0
        self.plan: list[Deed] = []
        self.passed = 0
        self._on_place, self._on_worker = self.hub.on_place, self.hub.on_worker
        self.hub.on_place = self._count_place
        self.hub.on_worker = self._may_take_its_time
        self.hub.on_answer = self._answered
        self.hub.on_begin = self._ask

    def play(self, number: int, dice: random.Random) -> None:
        """One round."""
        stage = self.stage
        self._begin(number)
        kind = dice.choice(KINDS)
        breaks = kind if kind in ("start", "serve", "import") else ""
        check = ["/bin/false"] if kind == "check" else dice.choice(CHECKS)
        if check == ["ask"]:
            log = str(self.instance.directory / "log")
            check = [sys.executable, "-c", ASKS, str(self.instance.number + 1), log]
        fitting = {"probation": dice.choice((0.0, 0.0, 0.1)), "before_commit": check, "before_commit_timeout": 2.0}
        settings = {**self._settings(dice), **fitting}
        settings["before_commit_each"] = settings["handover"] == "overlap" and dice.random() < EACH
        stage.new = Release(breaks, settings)
        if kind == "slow":
            stage.hold_workers(Side.NEW, "start")
        self.plan = [self._throw(dice) for _ in range(dice.choice(HOW_MANY))]
        for deed in self.plan:
            if deed.places is None:
                self.hub.call_later(deed.seconds, lambda deed=deed: self._due(deed))  # type: ignore[misc]
        stage.reload()
        stage.wait(lambda: self._is_over(), "a service that has got over it")
        self.plan.clear()
        if not self.hub.living("supervisor") and not self._crossed():
            oracle.check_end(stage)
        oracle.check_history(stage, self.log_begins)
        oracle.check_kept(stage)
        if self.hub.living("supervisor"):
            oracle.check_present(stage, restarts_expected=True)
        else:
            left = self.instance.left()
            if left:
                raise Broken(f"This is left after the end: {'; '.join(left)}.")
            stage.start_again()

    def _crossed(self) -> bool:
        """A supervisor was killed just when the other, seeing it alive, had decided to leave the service to it, or when
        it was killing the other. Out here nobody can tell which came first; the matrix holds them apart."""
        supervisors = self.hub.supervisors
        killed = [supervisor for supervisor in supervisors if supervisor.killed]
        left_to_it = any(
            next_state(place) in LEAVING and at - victim.died_at < CROSSING_SECONDS
            for victim in killed
            for other in supervisors
            if other is not victim and other not in self.stage.draining
            for place, at in zip(other.heard, other.heard_at, strict=True)
        )
        took_the_other_along = any(
            Effect.KILL_PEER in rule_of(place).effects and victim.died_at - at < CROSSING_SECONDS
            for victim in killed
            for place, at in zip(victim.heard[-1:], victim.heard_at[-1:], strict=True)
        )
        return left_to_it or took_the_other_along

    def _begin(self, number: int) -> None:
        self.hub.tell(f"=== round {number}")
        self.log_begins = len(self.instance.log())
        self.passed = 0
        self.stage.begin_anew()

    def _is_over(self) -> bool:
        """The caller has its answer, and from then on nothing is broken or slow any more; then, the usual."""
        if all(call.status is not None for call in self.stage.calls):
            self.stage.open()
        return oracle.is_settled(self.stage, beside_draining=True)

    def _settings(self, dice: random.Random) -> dict[str, object]:
        return {
            **SETTINGS,
            "listen": self.instance.listen,
            "handover": dice.choice(HANDOVERS[self.kind]),
            "workers": dice.choice(POOLS),
            "stop_timeout": dice.choice(STOP_TIMEOUTS),
        }

    def _may_take_its_time(self, worker: Process, word: str) -> bool:
        """Hold it back? It may have begun a long job, and drain beside later rounds."""
        held = self._on_worker(worker, word)
        if word == "start" or not self.instance.overlaps(worker.release) or self.dice.random() > DRAINS_SLOWLY:
            return held
        worker.waits_for = ""
        self.hub.call_later(self.dice.uniform(0, LONGEST_DRAIN_SECONDS), lambda: self.hub.say(worker, "stop"))
        return True

    def _throw(self, dice: random.Random) -> Deed:
        by_place = dice.random() < 0.6
        return Deed(
            dice.randrange(MOST_PLACES) if by_place else None,
            dice.uniform(0, LONGEST_WHILE_SECONDS),
            dice.choice(DEEDS),
            dice.choice(list(Target)),
            dice.random() < SPARES,
            dice.uniform(0, LONGEST_WHILE_SECONDS) if dice.random() < WAKES_AGAIN else None,
        )

    def _count_place(self, place: Place) -> bool:
        for deed in [deed for deed in self.plan if deed.places == self.passed]:
            self._due(deed)
        self.passed += 1
        return self._on_place(place)

    def _due(self, deed: Deed) -> None:
        if deed not in self.plan:
            return
        self.plan.remove(deed)
        victim = self._find(deed)
        if victim is None:
            return
        if deed.what == "kill":
            self.stage.harm(victim, signal.SIGKILL)
        elif deed.what == "stop":
            self.stage.harm(victim, signal.SIGSTOP)
            if deed.wakes_after is not None:
                self.hub.call_later(deed.wakes_after, lambda: self._wake(victim))
        elif self.stage.stopper is None and not self.stage.ends:
            self.stage.ask_stop()

    def _find(self, deed: Deed) -> Process | None:
        if not deed.spare:
            return self.stage.find(deed.target)
        supervisor = self.stage.supervisor(deed.target.side)
        return self.hub.spare_of(supervisor) if supervisor is not None and supervisor.alive else None

    def _wake(self, victim: Process) -> None:
        if victim.alive and victim.hung:
            self.hub.send(victim, signal.SIGCONT)

    # The client asks whoever works, all the time.

    def _ask(self, worker: Process) -> None:
        if worker.alive:
            self.hub.ask(worker)

    def _answered(self, worker: Process) -> None:
        self.stage.witness.sees_answer(worker)
        self.answers += 1
        if worker.answered == worker.asked:
            self.hub.call_later(CLIENT_PAUSE_SECONDS, lambda: self._ask(worker))


def chains(systemd: bool, seed: int, rounds: int, number: int) -> list[Chain]:
    """So many rounds, shared among so many services; each has a seed of its own, and the kinds take turns."""
    number = max(1, min(number, rounds))
    return [
        Chain(
            systemd,
            list(HANDOVERS)[index % len(HANDOVERS)],
            seed * 1000 + index,
            rounds // number + (index < rounds % number),
        )
        for index in range(number)
    ]
