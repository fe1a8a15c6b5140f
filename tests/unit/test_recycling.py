"""Whom a pool replaces, where that depends on a moment that no real process can be brought to."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from sdsupervise.core.respawn import Policy
from sdsupervise.linux.event_loop import EventLoop, Timer
from sdsupervise.settings.settings import Settings
from sdsupervise.workers.recycling import Recycler
from sdsupervise.workers.worker import Worker, WorkerState


class OldWorker:
    """One that has lived long enough."""

    index, pid, started_at, lived = 0, 1, 0.0, 1000.0

    def __init__(self) -> None:
        self.state = WorkerState.SERVING


class CountingLoop(EventLoop):
    """Knows how often somebody wanted to be called back."""

    asked = 0

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self.asked += 1
        return super().call_later(seconds, callback)

    def run_for_a_moment(self) -> None:
        super().call_later(0.05, self.stop)
        self.run()
        self.close()


def test_an_old_one_that_stops_is_not_looked_at_again_and_again() -> None:
    """A worker that has been told to stop, and takes its time, is past its lifetime: no reason to be awake."""
    loop, replaced = CountingLoop(), list[Worker]()
    recycler = Recycler(loop, Settings(max_lifetime=1.0), Policy(), replace=lambda worker, why: replaced.append(worker))
    worker = OldWorker()
    recycler.serves(cast("Worker", worker))
    worker.state = WorkerState.STOPPING
    loop.run_for_a_moment()
    assert replaced == [] and loop.asked == 1


def test_an_old_one_is_replaced_once() -> None:
    """It is asked for once, and the loop is idle until its replacement is done."""
    loop, replaced = CountingLoop(), list[Worker]()
    recycler = Recycler(loop, Settings(max_lifetime=1.0), Policy(), replace=lambda worker, why: replaced.append(worker))
    recycler.allow(True)
    worker = cast("Worker", OldWorker())
    recycler.serves(worker)
    loop.run_for_a_moment()
    assert replaced == [worker] and recycler.why(worker) == "it has lived 1000 s"
    assert loop.asked == 2  # for its end, and for its turn
