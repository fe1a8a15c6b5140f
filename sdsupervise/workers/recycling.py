"""Decides when to replace a worker that serves: it is old enough, too big, or asks for it.

A pool replaces one worker at a time, and none during a reload, which replaces all of them.
"""

import logging
import os
import time
from collections.abc import Callable

from ..core.respawn import Policy, Respawn
from ..linux import memory
from ..linux.event_loop import EventLoop, Timer
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields
from .worker import Worker, WorkerState

_log = logging.getLogger("sdsupervise")

_SAMPLING_SECONDS = 10.0  # in which the memory of every worker is read once
_LEAST_PAUSE_SECONDS = 0.1  # after a failed replacement; the old worker still serves
_JITTER = 0.1  # of max_lifetime, so that workers that started together do not end together


class Recycler:
    """Calls `replace(worker, why)` for one worker at a time. The owner answers with `done`, `failed` or `abandon`."""

    def __init__(
        self, loop: EventLoop, settings: Settings, policy: Policy, *, replace: Callable[[Worker, str], None]
    ) -> None:
        self._loop, self._replace = loop, replace
        self._max_lifetime, self._max_memory = settings.max_lifetime, settings.max_memory
        self._allowed = False
        self._serving: dict[Worker, float] = {}  # the monotonic time at which each is old enough
        self._due: dict[Worker, str] = {}  # workers to replace and the reason, in order
        self._current: Worker | None = None  # being replaced; until its replacement serves
        self._failures = Respawn(policy._replace(crash_limit=0))  # never give up: the old worker still serves
        self._turn: Timer | None = None  # until the next replacement
        self._next_end: tuple[float, Timer] | None = None
        self._to_sample: list[Worker] = []
        self._sampling: Timer | None = None
        if self._max_memory:
            memory.prepare()

    def why(self, worker: Worker) -> str:
        """Why this worker should be replaced; "" if it should not."""
        return self._due.get(worker, "")

    def replaces(self, index: int) -> bool:
        """Whether the worker of this index is being replaced."""
        return self._current is not None and self._current.index == index

    def allow(self, allowed: bool) -> None:
        """Set whether workers may be replaced now."""
        self._allowed = allowed
        if allowed:
            self._go_on()

    def serves(self, worker: Worker) -> None:
        """This worker was released."""
        self._serving[worker] = worker.started_at
        if self._max_lifetime:
            self._serving[worker] += self._max_lifetime * (1 - _JITTER * int.from_bytes(os.urandom(4)) / 2**32)
            self._await_end(self._serving[worker])
        if self._max_memory and self._sampling is None:
            self._sampling = self._loop.call_later(0, self._sample)  # all others serve when the next sample is taken
        self._go_on()

    def ask(self, worker: Worker, why: str) -> None:
        """Replace this worker as soon as that is allowed."""
        if worker not in self._due and worker.state is not WorkerState.STOPPING:
            self._due[worker] = why
            self._go_on()

    def forget(self, worker: Worker) -> None:
        """This worker was asked to stop, or is dead."""
        self._serving.pop(worker, None)
        self._due.pop(worker, None)

    def done(self) -> None:
        """Another worker serves in its place."""
        self._current = None
        self._failures.worker_exited()
        self._go_on()

    def abandon(self) -> None:
        """The replacement is cancelled."""
        self._current = None
        self._go_on()

    def failed(self, how: str, *, lived: float) -> None:
        """The replacement died before it was ready, after so many seconds (`lived`)."""
        worker, self._current = self._current, None
        pause = self._failures.worker_crashed(now=time.monotonic(), lived=lived)
        assert pause is not None
        pause = max(pause, _LEAST_PAUSE_SECONDS)
        if worker is not None:
            _log.warning(
                "The replacement of worker %d %s; pid %d keeps serving; trying again in %g s",
                worker.index,
                how,
                worker.pid,
                pause,
                extra=entry_fields(CatalogEntry.WORKER_NOT_REPLACED, worker=worker, reason=how),
            )
        if self._turn is None:
            self._turn = self._loop.call_later(pause, self._begin)

    def _go_on(self) -> None:
        """Schedule the next replacement for the next turn of the event loop, if there is one."""
        if self._due and self._turn is None:
            self._turn = self._loop.call_later(0, self._begin)

    def _begin(self) -> None:
        self._turn = None
        if not self._allowed or self._current is not None:
            return
        worker = next((worker for worker in self._due if worker.state is WorkerState.SERVING), None)
        if worker is not None:
            self._current = worker
            self._replace(worker, self._due[worker])

    # ------------------------------------------------------------------------------------------------- lifetimes

    def _await_end(self, end: float) -> None:
        if self._next_end is not None:
            if self._next_end[0] <= end:
                return
            self._next_end[1].cancel()
        self._next_end = end, self._loop.call_later(max(0.0, end - time.monotonic()), self._end)

    def _end(self) -> None:
        self._next_end = None
        now = time.monotonic()
        for worker, end in list(self._serving.items()):
            if worker.state is WorkerState.STOPPING:
                self.forget(worker)  # it already stops
            elif end <= now:
                self.ask(worker, f"it has lived {worker.lived:.0f} s")
        ends = [end for worker, end in self._serving.items() if worker not in self._due]
        if ends:
            self._await_end(min(ends))

    # --------------------------------------------------------------------------------------------------- memory

    def _sample(self) -> None:
        """Read the memory of one worker, then schedule the next one: hundreds at once would block the event loop."""
        self._to_sample = self._to_sample or list(reversed(self._serving))
        pause = _SAMPLING_SECONDS / max(1, len(self._serving))
        self._sampling = self._loop.call_later(pause, self._sample) if self._to_sample else None
        while self._to_sample:
            worker = self._to_sample.pop()
            if worker in self._serving and worker not in self._due:
                size = memory.private_bytes(worker.pid)
                if size > self._max_memory:
                    self.ask(worker, f"it has {size / 2**20:.1f} MB of private memory")
                return
