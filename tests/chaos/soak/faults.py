"""What can go wrong, each of it once and for a while."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.chaos.soak.instance import PLACE, Instance, Process, end_of, send, systemctl

TARGETS = ("old supervisor", "new supervisor", "old worker", "new worker", "old shim", "new shim", "reload", "anybody")
TO_PROCESSES = ("kill", "stop")
BY_OPERATORS = ("restart", "stop and start")
# These harm no process: a reload to good code succeeds all the same, and no client loses anything.
AROUND = ("daemon-reload", "full disk", "journald gone", "journald killed", "journald hangs", "wrong clock")
# The harm of these is done to all processes at once.
TO_ALL = ("freeze",)
WEIGHTS = {
    **dict.fromkeys(TO_PROCESSES, 6),
    **dict.fromkeys(BY_OPERATORS, 1),
    **dict.fromkeys(AROUND, 1),
    **dict.fromkeys(TO_ALL, 2),
}
HOW_MANY = (0, 1, 1, 1, 1, 2, 2, 3)
LONGEST_SECONDS = 2.5  # that something lasts
STILLBORN_SECONDS = 0.1
WAKES_AGAIN = 0.6  # of those that are stopped
JOURNALD = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service")
STEPS_SECONDS = (-86400.0, -3.0, 3.0, 86400.0, 1e9)


class Fault(NamedTuple):
    """Something to do so many seconds after the reload was asked for, which lasts so long; None: for ever."""

    what: str
    at: float
    lasts: float | None
    target: str
    pick: float  # of "anybody": who
    step: float  # of a clock: by how much it is wrong, in seconds

    def __str__(self) -> str:
        whom = f" {self.target}" if self.what in TO_PROCESSES else ""
        lasts = (
            "" if self.what in ("kill", *BY_OPERATORS) else f" for {self.lasts:.2f} s" if self.lasts else " for good"
        )
        return f"{self.what}{whom} after {self.at:.3f} s{lasts}"


def throw(dice: random.Random) -> list[Fault]:
    """The faults of a round."""
    return [_throw_one(dice) for _ in range(dice.choice(HOW_MANY))]


def _throw_one(dice: random.Random) -> Fault:
    (what,) = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
    # Half of them while the new generation is born, a quarter of a second or so; the others whenever.
    at = dice.uniform(0, 0.5) if dice.random() < 0.6 else dice.uniform(0, 2)
    lasts = dice.uniform(0.05, LONGEST_SECONDS)
    wakes = what != "stop" or dice.random() < WAKES_AGAIN
    step = dice.choice(STEPS_SECONDS)
    return Fault(what, at, lasts if wakes else None, dice.choice(TARGETS), dice.random(), step)


class Faults:
    """Does them to one instance, and sees to it that they end."""

    def __init__(self, instance: Instance, tell: Callable[[str], None]) -> None:
        self._instance, self._tell = instance, tell
        self._undo: list[Callable[[], None]] = []
        self._calls: list[subprocess.Popen[str]] = []
        self.done: list[str] = []  # what has been done in this round
        self.harmed: set[int] = set()  # pids, in the life of the instance
        self.hit: set[int] = set()  # of this round
        # Stopped for good in its first moment, before it could ask the kernel to end it with its parent.
        self.stillborn: set[int] = set()

    def forget(self) -> None:
        """A round begins."""
        self.done.clear()
        self.hit.clear()

    def begin(self, fault: Fault) -> Callable[[], None] | None:
        """Do it; how it is undone, where that is not at once."""
        undo = self._begin(fault)
        if undo is None:
            return None

        def undo_once() -> None:
            if undo_once in self._undo:
                self._undo.remove(undo_once)
                self._tell(f"no more: {fault.what}")
                undo()

        self._undo.append(undo_once)
        return undo_once

    def end(self) -> None:
        """End everything that is not for ever, and wait for the operator's commands."""
        for undo in list(self._undo):
            undo()

    def are_over(self) -> bool:
        """All commands of operators have ended."""
        self._calls = [call for call in self._calls if not end_of(call, 0)]
        return not self._calls

    def _begin(self, fault: Fault) -> Callable[[], None] | None:
        what = fault.what
        if what in TO_PROCESSES:
            return self._to_process(fault)
        self.done.append(what)
        self._tell(str(fault))
        if what in BY_OPERATORS or what == "daemon-reload":
            self._call(what)
            return None
        stack = contextlib.ExitStack()
        if what == "full disk":
            stack.enter_context(full(*self._instance.disks))
        elif what == "wrong clock":
            self._instance.set_clock(fault.step)
            stack.callback(self._instance.set_clock, 0)
        elif what == "freeze":
            self.hit |= (everybody := {process.pid for process in self._instance.processes()})
            self.harmed |= everybody
            stack.enter_context(self._instance.frozen())
        elif not stack.enter_context(journald(what)):
            self._tell("somebody else sees to journald now")
            self.done.remove(what)
        return stack.close

    def _call(self, what: str) -> None:
        unit = self._instance.unit
        words = {
            "restart": f"systemctl restart {unit}",
            "stop and start": f"systemctl stop {unit}; systemctl start {unit}",
            "daemon-reload": "systemctl daemon-reload",
        }[what]
        nowhere = subprocess.DEVNULL
        call = subprocess.Popen(["/bin/sh", "-c", words], stdin=nowhere, stdout=nowhere, stderr=nowhere, text=True)
        self._calls.append(call)

    def _to_process(self, fault: Fault) -> Callable[[], None] | None:
        processes = self._instance.processes()
        victim = find(processes, fault.target, fault.pick)
        if victim is None:
            self._tell(f"nobody to harm: {fault}")
            return None
        number = signal.SIGKILL if fault.what == "kill" else signal.SIGSTOP
        self._tell(f"{fault}: {number.name} to {victim}, of {[(each.pid, each.role) for each in processes]}")
        self.hit.add(victim.pid)
        self.harmed.add(victim.pid)
        self.done.append(fault.what)
        send(victim.pid, number, self._instance.cgroup)
        if fault.what == "stop" and victim.age < STILLBORN_SECONDS:
            self.stillborn.add(victim.pid)
        if fault.what == "kill" or fault.lasts is None:
            return None
        return lambda: _wake(victim.pid, self._instance.cgroup)


def _wake(pid: int, cgroup: Path) -> None:
    send(pid, signal.SIGCONT, cgroup)


def find(processes: list[Process], target: str, pick: float) -> Process | None:
    """Whom that means: of two supervisors the older one is the old one, of one it is both."""
    supervisors = [process for process in processes if process.role == "supervisor"]
    if target == "anybody":
        return processes[int(pick * len(processes))] if processes else None
    if target == "reload":
        return next((process for process in processes if process.role == "reload"), None)
    age, _, role = target.partition(" ")
    if not supervisors:
        return None
    supervisor = supervisors[0] if age == "old" else supervisors[-1]
    if role == "supervisor":
        return supervisor
    of_its = [process for process in processes if (process.role, process.supervisor) == (role, supervisor.pid)]
    return of_its[-1] if of_its else None


@contextlib.contextmanager
def full(*disks: Path) -> Iterator[None]:
    """No room on these disks."""
    for disk in disks:
        with contextlib.suppress(OSError), (disk / "fill").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    try:
        yield
    finally:
        for disk in disks:
            with contextlib.suppress(OSError):
                (disk / "fill").unlink()


@contextlib.contextmanager
def journald(what: str) -> Iterator[bool]:
    """It is gone, was killed, or hangs; False if somebody else does that to it now."""
    lock = os.open(PLACE / "journald", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if what == "journald gone":
            systemctl("stop", *JOURNALD, check=False)
        else:
            _signal_journald(signal.SIGKILL if what == "journald killed" else signal.SIGSTOP)
        try:
            yield True
        finally:
            _signal_journald(signal.SIGCONT)
            systemctl("start", *JOURNALD, check=False)
    finally:
        os.close(lock)


def _signal_journald(number: signal.Signals) -> None:
    systemctl("kill", f"--signal={number.name}", "systemd-journald.service", check=False)
