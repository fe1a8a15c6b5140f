"""The workers of one generation: one for each slot, started where they are wanted, started again when they die."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .config import Settings
from .core.respawn import CrashCount, Policy, Respawn
from .linux.event_loop import EventLoop, Timer
from .workers.worker import Worker, WorkerListener, WorkerState

_log = logging.getLogger("sdsupervise")

_FORKING_SECONDS = 0.01  # in one go; then whatever else has happened is looked at


class Listener(NamedTuple):
    """Who hears what becomes of the workers."""

    forked: Callable[[list[Worker]], None]
    ready: Callable[[Worker], None]
    gone: Callable[[Worker], None]
    gave_up: Callable[[str], None]  # too many crashes; the text says which
    cannot_start: Callable[[str], None]  # one of those that are tried only once; the text says why
    up: Callable[[Worker], None]  # one that was released before it was; see Worker.up


class Slot:
    """A place for one worker, and what is remembered of those who had it."""

    def __init__(self, index: int, respawn: Respawn) -> None:
        self.index, self.respawn = index, respawn
        self.worker: Worker | None = None
        self.timer: Timer | None = None  # until the next start

    def cancel_start(self) -> None:
        """Nobody is to start here any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Workforce:
    """A pool of workers; they come from `start_worker(listener, index, spare)`, which raises OSError.

    Where a dead worker is to be replaced without delay a spare is kept, one for all: forked ahead, parked before any
    service code. A fork after the death costs most of its time in copying the pages that the new process touches
    (`make bench`).

    With hundreds of workers nothing here may search through all of them for what befalls one.
    """

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        start_worker: Callable[[WorkerListener, int, bool], Worker],
        listener: Listener,
        *,
        generation: int,
    ) -> None:
        self._loop, self._settings, self._start_worker, self._listener = loop, settings, start_worker, listener
        self._generation = generation
        self._worker_listener = WorkerListener(self._worker_ready, self._worker_gone, listener.up)
        self._policy = Policy(
            settings.delay_before_respawn,
            settings.respawn_backoff_limit,
            settings.respawn_forgiven_after,
            settings.crash_limit,
            settings.crash_window,
        )
        self._count = CrashCount(self._policy)
        self._wanted = False
        self._slots = [self._new_slot(index) for index in range(how_many(settings))]
        self._queue: deque[Slot] = deque()  # whose workers are to be started now
        self._starting: Timer | None = None  # until the queue's next turn
        self._ready: dict[Worker, None] = {}  # wait for their release
        self._serving: set[Worker] = set()
        self._spare_timer: Timer | None = None
        self.spare: Worker | None = None  # the process that is forked ahead
        self.forks = True  # else each is executed from disk: nothing to fork ahead, and a delay bounds only the rate
        self.first_crash_is_final = False  # while systemd waits for the start, its Restart= is the one to try again
        self.workers: dict[int, Worker] = {}  # all that live, by pid: also the spare, and those that leave
        self.trouble = ""  # the last crash in words, while a worker is missing

    @property
    def crashes(self) -> int:
        """How many workers of this generation crashed."""
        return self._count.crashes

    @property
    def size(self) -> int:
        """How many workers there are to be."""
        return len(self._slots)

    @property
    def serving(self) -> int:
        """How many workers have been released and live."""
        return len(self._serving)

    @property
    def up(self) -> bool:
        """Every worker there is to be serves, as far as can be known."""
        return len(self._serving) >= len(self._slots) and all(worker.up for worker in self._serving)

    @property
    def complete(self) -> bool:
        """Every worker there is to be is ready, or serves."""
        return len(self._ready) + len(self._serving) >= len(self._slots)

    def facts(self) -> list[dict[str, object]]:
        """What status shows of the workers."""
        shown = sorted((worker for worker in self.workers.values() if worker is not self.spare), key=_by_index)
        return [worker.facts() | {"crashes": self._slots[worker.index].respawn.crashes} for worker in shown]

    def pidfds(self) -> dict[int, int]:
        """Of all that live, by pid."""
        return {pid: worker.pidfd for pid, worker in self.workers.items()}

    def holders(self) -> dict[int, int]:
        """Of the processes that hold the lock for others that live, by pid."""
        holders = [worker.holder for worker in self.workers.values() if worker.holder is not None]
        return {holder.pid: holder.pidfd for holder in holders}

    def want(self, wanted: bool) -> None:
        """Whether there should be workers; starts those that are missing if so, and stops none if not."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if wanted:
            self.start_once()
        else:
            self._start_no_more()

    def start_once(self) -> None:
        """Start every worker that is missing; whether one that dies is started again is another question."""
        self._queue = deque(slot for slot in self._slots if slot.worker is None)
        self._start_queued()

    def release(self) -> None:
        """Let those that are ready serve."""
        for worker in self._ready:
            worker.release()
        self._serving.update(self._ready)
        self._ready.clear()
        if len(self._serving) >= len(self._slots):
            self.trouble = ""
        if self.forks and self._settings.delay_before_respawn == 0 and self._spare_timer is None:
            self._spare_timer = self._loop.call_later(0, self._keep_spare)

    def stop(self) -> None:
        """SIGTERM to all."""
        self._ready.clear()
        self._serving.clear()
        for worker in self.workers.values():
            worker.stop()

    def kill(self) -> None:
        """SIGKILL to all that are left; the log says what is cut."""
        for worker in self.workers.values():
            _log.warning(
                "Killing worker %d of generation %d (pid %d), which %s",
                worker.index,
                self._generation,
                worker.pid,
                worker.overdue_in_words,
            )
            worker.kill()

    # ----------------------------------------------------------------------------------------------- their starts

    def _new_slot(self, index: int) -> Slot:
        return Slot(index, Respawn(self._policy, self._count))

    def _start_no_more(self) -> None:
        for slot in self._slots:
            slot.cancel_start()
        self._queue.clear()
        self._cancel_turn()

    def _cancel_turn(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None

    def _start(self, slot: Slot) -> None:
        slot.cancel_start()
        self._queue.append(slot)
        if self._starting is None:
            self._start_queued()

    def _start_queued(self) -> None:
        """Start those whose turn it is, a few at a time."""
        self._cancel_turn()
        forked: list[Worker] = []
        until = time.monotonic() + _FORKING_SECONDS
        while self._queue and (not forked or time.monotonic() < until):
            slot = self._queue.popleft()
            slot.worker = self._let_spare_go(slot) or self._fork(slot)
            if slot.worker is None:
                break
            forked.append(slot.worker)
        if forked:
            self._listener.forked(forked)
        if self._queue and self._starting is None:
            self._starting = self._loop.call_later(0, self._start_queued)

    def _let_spare_go(self, slot: Slot) -> Worker | None:
        spare, self.spare = self.spare, None
        if spare is not None:
            spare.let_go(slot.index)
        return spare

    def _fork(self, slot: Slot) -> Worker | None:
        try:
            worker = self._start_worker(self._worker_listener, slot.index, False)
        except OSError as error:
            self._cannot_fork(slot, error)
            return None
        self.workers[worker.pid] = worker
        return worker

    def _cannot_fork(self, slot: Slot, error: OSError) -> None:
        self.trouble = f"cannot fork a worker: {error.strerror}"
        if not self._wanted:
            self._queue.clear()
            _log.warning("Cannot fork a worker: %s", error.strerror)
            self._listener.cannot_start(self.trouble)
            return
        delay = self._settings.delay_before_respawn or 1.0
        _log.warning("Cannot fork a worker: %s; trying again in %g s", error.strerror, delay)
        self._queue.appendleft(slot)
        self._starting = self._loop.call_later(delay, self._start_queued)

    def _keep_spare(self) -> None:
        self._spare_timer = None
        if self.spare is not None or not self._wanted or not self._serving or self._queue:
            return
        try:
            self.spare = self._start_worker(self._worker_listener, 0, True)
        except OSError as error:
            _log.warning("Cannot fork a spare worker: %s; a dead worker will be replaced later", error.strerror)
            return
        self.workers[self.spare.pid] = self.spare
        self._listener.forked([self.spare])

    # ------------------------------------------------------------------------------------------- what becomes of them

    def _worker_ready(self, worker: Worker) -> None:
        self._ready[worker] = None
        self._listener.ready(worker)

    def _worker_gone(self, worker: Worker) -> None:
        del self.workers[worker.pid]
        self._ready.pop(worker, None)
        self._serving.discard(worker)
        slot = self._slots[worker.index]
        give_up = False
        if worker is self.spare:
            self.spare = None
            if worker.state is WorkerState.SPARE:
                _log.warning("The spare worker (pid %d) %s", worker.pid, worker.exit_in_words)
                return  # the next one comes with the next release
        elif slot.worker is worker:
            slot.worker = None
            if worker.state is not WorkerState.STOPPING:
                give_up = self._plan_respawn(slot, worker)
                _log.warning("Supervised process %d %s", worker.pid, worker.exit_in_words)
            elif self._wanted:
                self._start(slot)  # it was stopped before another was wanted, as by a successor that gave up too early
        self._listener.gone(worker)
        if give_up:
            self._listener.gave_up(self.trouble)

    def _plan_respawn(self, slot: Slot, worker: Worker) -> bool:
        """Set the respawn timer where a worker is wanted; True if the crashes are too many."""
        which = f"worker {worker.index}" if len(self._slots) > 1 else "the worker"
        self.trouble = f"{which} {worker.exit_in_words}{_last_line(worker.failure)}"
        delay: float | None
        if not worker.crashed:
            delay = slot.respawn.worker_exited()
        else:
            delay = slot.respawn.worker_crashed(now=time.monotonic(), lived=worker.lived)
        too_many = delay is None or self.first_crash_is_final
        if self._wanted:
            # A verdict to give up is the table's to follow; where it does not, trying goes on at the slowest pace.
            pause = delay if delay is not None else self._settings.respawn_backoff_limit
            if not self.forks:
                pause = max(0.0, pause - worker.lived)
            if pause or too_many:
                slot.timer = self._loop.call_later(pause, lambda: self._start(slot))
                self.trouble += "" if too_many else f", the next starts in {pause:g} s"
            else:
                self._start(slot)  # before anything is said of it: nobody serves in its place meanwhile
        return too_many


def how_many(settings: Settings) -> int:
    """The number of workers that the settings ask for."""
    return len(os.sched_getaffinity(0)) if isinstance(settings.workers, str) else settings.workers


def _by_index(worker: Worker) -> tuple[int, float]:
    return worker.index, worker.started_at


def _last_line(traceback_text: str) -> str:
    lines = traceback_text.strip().splitlines()
    return f" ({lines[-1]})" if lines else ""
