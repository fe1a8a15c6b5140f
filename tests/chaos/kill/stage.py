"""A service in a case: the two sides of its reload, who is held where, and what we did to whom.

A way (tests/chaos/kill/ways.py) leads the service to a place by these means; then the case does its harm there.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from sdsupervise.core.takeover import RULES, Effect, Event, State
from tests.chaos.kill.hub import PATIENCE_SECONDS, Place, Process
from tests.chaos.kill.instance import Instance, Release
from tests.chaos.kill.places import LEAVING, has_done, is_same_step, next_state, rule_of
from tests.chaos.kill.witness import Witness

DRAINING = Release(settings={"stop_timeout": 3.0})


class Side(Enum):
    """The two supervisors of a reload, and one that still drains, by age."""

    DRAINING = "draining"
    OLD = "old"
    NEW = "new"


class Target(Enum):
    """Whom to harm."""

    DRAINING_SUPERVISOR = "draining supervisor"
    DRAINING_WORKER = "draining worker"
    OLD_SUPERVISOR = "old supervisor"
    NEW_SUPERVISOR = "new supervisor"
    OLD_WORKER = "old worker"
    NEW_WORKER = "new worker"

    @property
    def side(self) -> Side:
        return Side(self.value.partition(" ")[0])

    @property
    def is_supervisor(self) -> bool:
        return self.value.endswith("supervisor")


class Focus(NamedTuple):
    """A place, and the side that passes it."""

    side: Side
    state: State
    event: Event
    effect: int

    @property
    def place(self) -> str:
        return f"{self.state.name}+{self.event.name}/{self.effect}"


class Call:
    """One `sdsupervise reload` or `systemctl reload`."""

    def __init__(self, pid: int, release: int, asked: Process | None, workers: list[Process]) -> None:
        self.pid, self.release, self.asked = pid, release, asked
        self.workers = workers  # who served when it was asked
        self.status: int | None = None


class Stage:
    """Means to lead one service somewhere. Everything that waits has the hub's patience."""

    def __init__(
        self,
        instance: Instance,
        old: Release,
        new: Release,
        focus: Focus | None = None,
        *,
        beside_draining: bool = False,
    ) -> None:
        self.instance, self.hub = instance, instance.hub
        self.old, self.new, self.focus = old, new, focus
        self.beside_draining = beside_draining
        self.draining: list[Process] = []  # supervisors that drain since before the case
        self.witness = Witness(self.hub, instance)
        self.reached: Place | None = None  # where the focus is held
        self.calls: list[Call] = []
        self.ends = False  # the service was told to stop, or has reason to give up
        self.last_one_killed = False  # a supervisor was killed by us while no other could serve
        self.harmed: list[Process] = []
        self.questions: dict[Process, int] = {}  # what workers were asked to see whether they serve
        self.starter: int | None = None  # the pid of the command that starts the service, while it runs
        self.stopper: int | None = None  # the same of the one that stops it
        self.stop_asked = False  # by an operator
        self._holds: set[tuple[Side, str]] = set()
        self._held_workers: set[tuple[Side, str]] = set()
        self._told_to_stop: list[Process] = []
        self._open = self._still = False
        self._seized = -1
        self.hub.on_place = self._on_place
        self.hub.on_worker = self._on_worker
        self.hub.on_answer = self.witness.sees_answer
        self.hub.on_child_gone = self._on_child_gone

    def begin_anew(self) -> None:
        """From a service that serves by one supervisor: that one is the old side now, and nothing has happened yet."""
        self.draining = [process for process in self.hub.living("supervisor") if self.is_leaving(process)]
        self.hub.forget_the_dead(self.draining)
        self.witness.begin_anew()
        self.calls.clear()
        self.harmed.clear()
        self.questions.clear()
        self._holds.clear()
        self._held_workers.clear()
        self._told_to_stop.clear()
        self.ends = self.stop_asked = self.last_one_killed = self._open = self._still = False

    # The two sides

    def supervisor(self, side: Side) -> Process | None:
        if side is Side.DRAINING:
            return next((draining for draining in reversed(self.draining) if draining.alive), None)
        supervisors = [process for process in self.hub.supervisors if process not in self.draining]
        number = 0 if side is Side.OLD else 1
        return supervisors[number] if len(supervisors) > number else None

    def find(self, target: Target) -> Process | None:
        """The living process that is meant now."""
        supervisor = self.supervisor(target.side)
        if supervisor is None or target.is_supervisor:
            return supervisor if supervisor is not None and supervisor.alive else None
        workers = self.hub.workers_of(supervisor)
        return workers[-1] if workers else None

    def need(self, target: Target) -> Process:
        """The same, waiting for it to show up."""
        self.hub.wait(lambda: self.find(target) is not None, f"the {target.value}")
        process = self.find(target)
        assert process is not None
        return process

    # Doing what users do

    def start(self, *, wait: bool = True) -> None:
        """Start the old release, and wait until it serves."""
        if self.beside_draining:
            self._start_after_draining()
            return
        self.instance.deploy(self.old)
        self.start_again(wait=wait)

    def _start_after_draining(self) -> None:
        """The old release serves by a reload, and what was before it still drains."""
        self.instance.deploy(DRAINING)
        self.start_again()
        self.draining = self.hub.supervisors
        self.hold_workers(Side.DRAINING, "stop")
        release = self.instance.deploy(self.old)
        self.calls.append(Call(self.instance.reload(), release, self.draining[0], []))
        self.wait(lambda: self.calls[0].status is not None, "the verdict on the reload before")
        self.wait(
            lambda: any(worker.stopping for worker in self.hub.living("worker")), "a draining generation that drains"
        )
        self.until_passed(Side.OLD, "ON_TRIAL+PEER_COMMITTED/0")
        self.calls.clear()

    def start_again(self, *, wait: bool = True) -> None:
        """Start what is deployed. To wait is to be sure that all who were there have ended."""
        if wait:
            self.wait(lambda: not self.hub.living("worker"), "news of the end of the workers that were there")
        self.starter = self.instance.start()
        if wait:
            self.wait(lambda: any(worker.begun for worker in self.hub.living("worker")), "the service at work")
            self.until_started()

    def until_started(self) -> None:
        """The command that starts the service has ended: a reload asked before that would become part of the start."""
        self.wait(lambda: self.starter is None, "the end of the command that started the service")

    def reload(self) -> None:
        """Deploy the new release and ask for a reload."""
        release = self.instance.deploy(self.new)
        living = self.hub.living("supervisor")
        asked = living[-1] if living else None
        workers = [worker for worker in self.hub.workers_of(asked) if worker.begun] if asked is not None else []
        self.calls.append(Call(self.instance.reload(), release, asked, workers))

    def ask_stop(self) -> None:
        """Stop the service as an operator would."""
        self.ends = self.stop_asked = True
        self.stopper = self.instance.ask_stop()

    def ask_stop_again(self) -> None:
        """Do so if whom the pid file named was killed by the other before it could take the signal, or pass it on.
        Without systemd nobody else can know of it; an operator sees that the service goes on, and that the file names
        another."""
        told = next((each for each in self.hub.supervisors if each.pid == self.instance.told_to_stop), None)
        if told is None or told.alive or told in self.harmed or self.instance.named_pid() in (0, told.pid):
            return
        stops = [place for place in told.heard if "+STOP_ASKED" in place]
        owes_word = all(Effect.TELL_STOP in rule_of(place).effects for place in stops)
        if owes_word and not has_done(stops, Effect.TELL_STOP):
            self.ask_stop()

    # Holding, and being led on

    def hold(self, side: Side, place: str) -> None:
        """Hold this side when it comes to a place."""
        state, _, rest = place.partition("+")
        event, _, effect = rest.partition("/")
        assert int(effect) <= len(RULES[State[state]][Event[event]].effects), f"{place} is no place of the table"
        self._holds.add((side, place))

    def hold_workers(self, side: Side, word: str) -> None:
        """Let this side's workers not go on when they are about to "start" or to "stop"."""
        self._held_workers.add((side, word))

    def until_held(self, side: Side, place: str) -> None:
        self.wait(
            lambda: any(
                held.process is self.supervisor(side) and is_same_step(held.name, place) for held in self.hub.held
            ),
            f"the {side.value} side held at {place}",
        )

    def until_passed(self, side: Side, place: str) -> None:
        self.wait(lambda: self._has_heard(side, place), f"the {side.value} side past {place}")

    def let_go(self, side: Side) -> None:
        for place in list(self.hub.held):
            if place.process is self.supervisor(side):
                self._holds = {
                    (who, name) for who, name in self._holds if who is not side or not is_same_step(name, place.name)
                }
                self.hub.let_go(place)

    def let_worker(self, target: Target, word: str) -> None:
        """Let a held worker start or stop, as soon as it asks."""
        worker = self.need(target)
        self.wait(lambda: worker.waits_for == word, f"the {target.value} about to {word}")
        self.hub.let_worker(worker)

    def until_begun(self, side: Side) -> None:
        target = Target.OLD_WORKER if side is Side.OLD else Target.NEW_WORKER
        self.wait(lambda: (worker := self.find(target)) is not None and worker.begun, f"the {target.value} at work")

    def seize_lock(self) -> None:
        """Be somebody else who holds the lock of the pid file, until everything is let go."""
        pid_file = self.instance.pid_file
        self._seized = os.open(pid_file, os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._seized, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.hub.tell(f"we hold the lock of {pid_file}")

    def release_lock(self) -> None:
        """Hold the lock no more."""
        if self._seized >= 0:
            os.close(self._seized)
            self._seized = -1

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        self.hub.wait(condition, what, seconds)

    def open(self) -> None:
        """Let everybody go on, hold nobody any more, and mend the code that was made to be broken."""
        if self._open:
            return
        self.hub.tell("all are let go")
        self._open = True
        self.instance.cure()
        self.release_lock()
        for place in list(self.hub.held):
            self.hub.let_go(place)
        for worker in self.hub.living("worker"):
            self.hub.let_worker(worker)

    # Harm

    def kill(self, target: Target) -> None:
        """SIGKILL, and wait for the end."""
        process = self.need(target)
        self.harm(process, signal.SIGKILL)
        self.wait(lambda: not process.alive, f"the end of {process}")

    def freeze(self, target: Target) -> None:
        """SIGSTOP."""
        self.harm(self.need(target), signal.SIGSTOP)

    def terminate(self, side: Side, *, ends: bool = True) -> None:
        """SIGTERM to a supervisor: a stop, but for a successor that does not serve yet."""
        process = self.need(Target.OLD_SUPERVISOR if side is Side.OLD else Target.NEW_SUPERVISOR)
        self.ends = self.ends or ends
        self._told_to_stop.append(process)
        self.hub.send(process, signal.SIGTERM)

    def harm(self, process: Process, number: signal.Signals) -> None:
        self.harmed.append(process)
        if number == signal.SIGKILL:
            self._see_who_is_left_by(process)
        self.hub.send(process, number)

    def kill_while_all_stand_still(self, process: Process) -> None:
        """SIGKILL, and nobody comes further than to the next place before it is dead. Without that another supervisor
        could be seen serving, find this one alive, and leave the service to it, all while the signal is on its way."""
        self._still = True
        self.harm(process, signal.SIGKILL)
        self.wait(lambda: not process.alive, f"the end of {process}")
        self._see_who_is_left_by(process)

    def may_serve(self, supervisor: Process) -> bool:
        """It is neither leaving nor being killed by the other."""
        others = [other for other in self.hub.supervisors if other is not supervisor]
        return not self.is_leaving(supervisor) and not any(has_done(other.heard, Effect.KILL_PEER) for other in others)

    def has_left_anything(self, supervisor: Process) -> bool:
        """It lives, or a process of its that we know."""
        return any(process.alive and supervisor.pid in (process.pid, process.parent) for process in self.hub.processes)

    @property
    def must_end(self) -> bool:
        """A stop was asked, and there is nobody left who could not know."""
        told = any(has_done(process.heard, Effect.TELL_STOP) for process in self.hub.supervisors)
        return self.ends and (told or not any(process.role == "supervisor" for process in self.harmed))

    def drains(self, supervisor: Process) -> bool:
        """It has committed, and nobody has told it to stop the service since; or it has just left."""
        return bool(supervisor.heard) and next_state(supervisor.heard[-1]) in (State.DRAINING, State.GONE)

    def is_leaving(self, supervisor: Process) -> bool:
        """It was told to, by us or by what it passed last."""
        last = supervisor.heard[-1:]
        return supervisor in self._told_to_stop or any(next_state(place) in LEAVING for place in last)

    # Inside

    def _see_who_is_left_by(self, killed: Process) -> None:
        others = [other for other in self.hub.living("supervisor") if other is not killed and self.may_serve(other)]
        if killed.role == "supervisor" and not others and not self._is_one_being_born():
            self.last_one_killed = True

    def _is_one_being_born(self) -> bool:
        """A successor with good code was just started and cannot say a word yet. At random nobody could tell how far
        it is; at the place of a case it has all it needs."""
        old = self.supervisor(Side.OLD)
        started = old is not None and has_done(old.heard, Effect.START_SUCCESSOR)
        return self.focus is not None and started and self.supervisor(Side.NEW) is None and not self.new.breaks

    def _has_heard(self, side: Side, place: str) -> bool:
        supervisor = self.supervisor(side)
        return supervisor is not None and any(is_same_step(heard, place) for heard in supervisor.heard)

    def _on_place(self, place: Place) -> bool:
        if self._open:
            return False
        side = next((side for side in Side if self.supervisor(side) is place.process), None)
        if side is None:
            return False
        if (
            self.focus is not None
            and self.reached is None
            and (side, place.name) == (self.focus.side, self.focus.place)
        ):
            self.reached = place
            return True
        return self._still or any(who is side and is_same_step(name, place.name) for who, name in self._holds)

    def _on_worker(self, worker: Process, word: str) -> bool:
        if word == "stop":
            self.witness.sees_stopping(worker, service_ends=self.ends)
        if self._open:
            return False
        side = next((side for side in Side if _is(self.supervisor(side), worker.parent)), None)
        return side is not None and (side, word) in self._held_workers

    def _on_child_gone(self, pid: int, status: int) -> None:
        self.starter = None if pid == self.starter else self.starter
        self.stopper = None if pid == self.stopper else self.stopper
        for call in self.calls:
            if call.pid == pid:
                call.status = status
                self.instance.write(f"VERDICT {status} release={call.release}")
                if status == 0:
                    self.witness.sees_done(call.release)
                self.hub.tell(f"the reload's caller ends with status {status}")


def _is(process: Process | None, pid: int) -> bool:
    return process is not None and process.pid == pid
