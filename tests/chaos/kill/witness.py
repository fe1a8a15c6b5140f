"""What overlap promises of the moments in between, seen when they happen.

The old workers serve until the commit and are told to stop then, when others serve. A reload that fails has not touched
them, and after one that is done they take on nothing more, and end what they have begun.
"""

from __future__ import annotations

import time

from sdsupervise.core.takeover import Effect, State
from tests.chaos.kill.hub import Hub, Process
from tests.chaos.kill.instance import Instance
from tests.chaos.kill.places import LEAVING, has_done, next_state

ENDS = LEAVING | {State.FAILED}  # a supervisor on its way there may stop its workers at any time
DYING_SECONDS = 0.5
KILLS = (Effect.KILL_WORKERS, Effect.KILL_PEER, Effect.KILL_PEER_WORKERS)


class Stopped:
    """A worker that stopped, and should not have if its supervisor was alive."""

    def __init__(self, supervisor: Process, sentence: str) -> None:
        self.sentence = sentence
        self._supervisor, self._at = supervisor, time.monotonic()

    @property
    def was_orphaned(self) -> bool:
        """Its supervisor was killed at that moment, and has not left by itself since."""
        left = any(next_state(place) is State.GONE for place in self._supervisor.heard[-1:])
        return not self._supervisor.alive and not left and self._supervisor.died_at < self._at + DYING_SECONDS


class Witness:
    """Remembers, in sentences, what should not have been."""

    def __init__(self, hub: Hub, instance: Instance) -> None:
        self._hub, self._instance = hub, instance
        self._too_late: dict[Process, int] = {}  # an old worker, and the first question it should not answer
        self._broken: list[str] = []
        self._stopped: list[Stopped] = []

    @property
    def broken(self) -> list[str]:
        """What is certain by now. A worker whose supervisor dies may know of it before us."""
        return self._broken + [each.sentence for each in self._stopped if not each.was_orphaned]

    def sees_stopping(self, worker: Process, *, service_ends: bool) -> None:
        """A worker says that it was told to stop, or has lost its supervisor."""
        supervisor = next((each for each in self._hub.living("supervisor") if each.pid == worker.parent), None)
        if service_ends or not self._instance.overlaps(worker.release) or supervisor is None or worker.harmed:
            return
        heard = supervisor.heard
        if has_done(heard, Effect.TELL_COMMITTED):
            younger = [each for each in self._hub.processes if each.release > worker.release]
            if not any(self._serves(each) or each.harmed or _has_failed(each) for each in younger):
                self._stopped.append(Stopped(supervisor, f"{worker} was told to stop, nobody serves in its place."))
        elif not any(
            next_state(place) in ENDS or place.startswith("STARTING_SUCCESSOR+PEER_ASKS_YIELD") for place in heard
        ):
            self._stopped.append(Stopped(supervisor, f"{worker} was told to stop before the commit."))

    def sees_done(self, release: int) -> None:
        """A reload to this release is said to be done: whoever takes on work from now on should be of it. One with a
        lane of its own is told later, and is spared only clients of its listeners; oracle.check_present asks there."""
        for worker in self._hub.living("worker"):
            if worker.begun and worker.release < release and not self._instance.listens(worker.release):
                self._too_late[worker] = self._hub.ask(worker)

    def sees_answer(self, worker: Process) -> None:
        """A worker has answered a question."""
        if worker.answered >= self._too_late.get(worker, worker.answered + 1):
            self._broken.append(f"{worker} took on new work after a reload to a later release was said to be done.")

    def begin_anew(self) -> None:
        """Forget who is gone."""
        self._too_late = {worker: number for worker, number in self._too_late.items() if worker.alive}

    def _serves(self, worker: Process) -> bool:
        """It was released. It may not have come to say so: whoever waits at its socket will be served."""
        if worker.role != "worker" or not worker.alive or worker.hung or worker.stopping:
            return False
        supervisor = next((each for each in self._hub.supervisors if each.pid == worker.parent), None)
        released = supervisor is not None and has_done(supervisor.heard, Effect.RELEASE_WORKERS)
        return worker.begun or ("ready" in worker.heard and released)


def _has_failed(worker: Process) -> bool:
    """Its code broke when it served."""
    return worker.begun and not worker.alive


def was_cut(worker: Process, supervisors: list[Process]) -> bool:
    """Somebody may have killed it before it had ended what it began: we, or a supervisor that lost its patience."""
    # The last to leave kills what may be left of a peer, which is nothing where all went well.
    passed = [place for each in supervisors for place in each.heard if not place.startswith("EMPTY+NO_PEER")]
    return worker.harmed or any(each.harmed for each in supervisors) or any(has_done(passed, each) for each in KILLS)
