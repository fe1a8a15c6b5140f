"""The workers of one generation: one for each slot, started where they are wanted, started again when they die."""

import logging
import time
from typing import Protocol

from ..core.respawn import CrashCount, Policy, Respawn
from ..input.printable import last_line
from ..linux import limits, processes, signals
from ..linux.event_loop import EventLoop
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields
from .crash_loops import CrashLoops
from .recycling import Recycler
from .start_queue import Slot, StartQueue
from .worker import Worker, WorkerOwner, WorkerState

_log = logging.getLogger("sdsupervise")


_DESCRIPTORS = 512  # beside those of workers, at most
_DESCRIPTORS_OF_A_WORKER = 8  # with those that two older generations leave us, at most
_DESCRIPTORS_OF_A_START = 5  # with those that are closed again
_MOST_FACTS = 1000  # workers: more would not fit into an answer of the control socket


class PoolOwner(Protocol):
    """Where the workers of a pool come from, and what it says of them."""

    def start_worker(self, owner: WorkerOwner, *, index: int, spare: bool) -> Worker:
        """Start one for a slot; a spare runs no code of the service yet.

        Raises OSError.
        """

    def workers_forked(self, workers: list[Worker]) -> None:
        """These were, and have run no code of the service."""

    def cannot_start_worker(self, why: str) -> None:
        """The kernel forks none; the text says why."""

    def worker_ready(self, worker: Worker) -> None:
        """It waits for its release."""

    def worker_up(self, worker: Worker) -> None:
        """It serves, later than it was released; see Worker.up."""

    def worker_extends(self, worker: Worker, seconds: float) -> None:
        """It asks for so many seconds more, to start or to stop."""

    def worker_gone(self, worker: Worker) -> None:
        """It is dead."""

    def pool_gave_up(self, why: str) -> None:
        """There are too many crashes; the text says which."""

    def crash_loop(self, why: str) -> None:
        """One has begun, and why; "": it is over."""


class Pool:
    """A pool of workers.

    A worker that is replaced or not needed any more is told to stop, and from then on only waited for. Whoever comes to
    its place has its number: in overlap even while the old one still finishes what it began.

    With hundreds of workers nothing here may search through all of them for what befalls one.
    """

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        owner: PoolOwner,
        *,
        generation: int,
        size: int,
        forks: bool,
    ) -> None:
        """With `forks` a worker is a fork of this process; else it is executed from disk, and there is nothing to fork
        ahead."""
        self._loop, self._settings, self._owner = loop, settings, owner
        self._generation, self._forks = generation, forks
        self._policy = Policy(
            settings.delay_before_respawn,
            settings.respawn_backoff_limit,
            settings.respawn_forgiven_after,
            settings.crash_limit,
            settings.crash_window,
            counts_from_start=not forks,
        )
        self._count = CrashCount(self._policy)
        self._crash_loops = CrashLoops(loop, settings.respawn_forgiven_after, self._say_crash_loop)
        self._wanted = False
        self._ready: dict[Worker, None] = {}  # wait for their release
        self._serving: set[Worker] = set()
        self._has_served = self.is_hopeless = False
        self.first_crash_is_final = False  # while systemd waits for the start, its Restart= is the one to try again
        self.workers: dict[int, Worker] = {}  # all that live, by pid: also the spare, and those that leave
        self.trouble = ""  # the last crash in words, while a worker is missing
        self._start_queue = StartQueue(loop, settings, self)
        self._recycler = Recycler(loop, settings, self._policy, self._replace)
        self._slots: list[Slot] = []
        self._resize(size)

    @property
    def crashes(self) -> int:
        """How many workers of this generation crashed."""
        return self._count.crashes

    @property
    def size(self) -> int:
        """How many workers are wanted."""
        return len(self._slots)

    @property
    def serving(self) -> int:
        """How many workers serve, as far as can be known."""
        return sum(worker.up for worker in self._serving)

    @property
    def up(self) -> bool:
        """Every worker there is to be serves, as far as can be known."""
        return len(self._serving) >= len(self._slots) and all(worker.up for worker in self._serving)

    @property
    def settled(self) -> bool:
        """Of every worker there is to be it is known whether it serves: it does, or its last start has failed."""
        return all(slot.failed or self._serves(slot.worker) for slot in self._slots)

    @property
    def ready(self) -> int:
        """How many workers are ready, or serve."""
        return len(self._ready) + len(self._serving)

    @property
    def complete(self) -> bool:
        """Every worker there is to be is ready, or serves."""
        return self.ready >= len(self._slots)

    @property
    def spare(self) -> Worker | None:
        """The process that is forked ahead, if there is one."""
        return self._start_queue.spare

    def facts(self) -> list[dict[str, object]]:
        """What status shows of the workers."""
        shown = [worker for worker in self.workers.values() if worker is not self.spare]
        shown.sort(key=lambda worker: (worker.index, worker.started_at))
        return [self._facts_of(worker) for worker in shown[:_MOST_FACTS]]

    def in_service(self) -> list[Worker]:
        """Those that serve, by their number."""
        return sorted(self._serving, key=lambda worker: worker.index)

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
        self._wanted = self._start_queue.keeps_trying = wanted
        if wanted:
            for slot in self._slots:
                slot.failed = False  # it has another chance
            self.start_once()
        else:
            self._start_no_more()

    def start_once(self) -> None:
        """Start every worker that is missing; whether one that dies is started again is another question."""
        self._start_queue.enqueue(slot for slot in self._slots if slot.worker is None and slot.timer is None)

    def recycle(self, allowed: bool) -> None:
        """Whether workers may be replaced now because of their age or size, or because they ask for it."""
        self._recycler.allow(allowed)

    def has_room_for(self, size: int) -> bool:
        """There are descriptors enough for so many workers."""
        limits.make_room(_DESCRIPTORS + size * _DESCRIPTORS_OF_A_WORKER)
        return processes.can_open(max(0, size - len(self._slots)) * _DESCRIPTORS_OF_A_START)

    def scale(self, size: int) -> None:
        """There are to be so many workers from now on: the highest numbers leave, the lowest free ones come."""
        self._resize(size)
        self._forget_trouble()
        if self._wanted:
            self.start_once()

    def release(self) -> None:
        """Let those that are ready serve."""
        ready, self._ready = self._ready, {}
        for worker in ready:
            worker.release()
            self._has_served = self._has_served or worker.up
            self._serving.add(worker)
            self._complete_replacement(worker)
            self._note_success(worker)
            self._recycler.serves(worker)
            self._crash_loops.serves(worker.index)
        self._forget_trouble()
        if self._serving and self._forks:
            self._start_queue.keep_spare()

    def stop(self) -> None:
        """SIGTERM to all."""
        self._ready.clear()
        self._serving.clear()
        for worker in self.workers.values():
            worker.stop()

    def pass_on(self, number: int) -> list[int]:
        """A signal to those workers that have a handler for it; their pids."""
        meant = [worker for worker in self.workers.values() if worker.state is not WorkerState.SPARE]
        return signals.pass_on({worker.pid: worker.pidfd for worker in meant}, number)

    def kill(self) -> None:
        """SIGKILL to all that are left; the log says what is cut."""
        for worker in self.workers.values():
            self._cut_off(worker)

    # ------------------------------------------------------------------------------------------- what becomes of them

    def fork_worker(self, index: int, *, spare: bool) -> Worker:
        """For the start queue.

        Raises OSError.
        """
        worker = self._owner.start_worker(self, index=index, spare=spare)
        self.workers[worker.pid] = worker
        return worker

    def workers_forked(self, workers: list[Worker]) -> None:
        """As the start queue says."""
        self._owner.workers_forked(workers)

    def _start_no_more(self) -> None:
        for slot in self._slots:
            slot.cancel_start()
            self._give_up_replacement(slot)
        self._start_queue.cancel()
        self.trouble = ""

    def cannot_fork(self, why: str) -> None:
        """As the start queue says."""
        self.trouble = why
        self._owner.cannot_start_worker(why)

    def worker_ready(self, worker: Worker) -> None:
        """As the worker says."""
        self._ready[worker] = None
        self._owner.worker_ready(worker)

    def worker_extends(self, worker: Worker, seconds: float) -> None:
        """As the worker says."""
        self._owner.worker_extends(worker, seconds)

    def worker_up(self, worker: Worker) -> None:
        """As the worker says."""
        self._has_served = True
        self._note_success(worker)
        self._forget_trouble()
        if self._recycler.replaces(worker.index):
            self._recycler.done()
        self._owner.worker_up(worker)

    def worker_gone(self, worker: Worker) -> None:
        """As the worker says."""
        del self.workers[worker.pid]
        self._ready.pop(worker, None)
        self._serving.discard(worker)
        self._recycler.forget(worker)
        slot = self._slot_of(worker)
        give_up = False
        if worker is self.spare:
            self._start_queue.spare = None
            if worker.state is WorkerState.SPARE:
                extra = entry_fields(CatalogEntry.WORKER_EXITED, worker=worker, reason=worker.exit_in_words)
                _log.warning("The spare worker (pid %d) %s", worker.pid, worker.exit_in_words, extra=extra)
                return  # the next one comes with the next release
        elif slot is None:
            extra = entry_fields(
                CatalogEntry.WORKER_EXITED, worker=worker, seconds=worker.lived, reason=worker.exit_in_words
            )
            _log.info("Worker %d (pid %d) has left: it %s", worker.index, worker.pid, worker.exit_in_words, extra=extra)
        elif slot.replacement is worker:
            slot.replacement = None
            self._recycler.failed(_how_it_ended(worker), lived=worker.lived)
        elif worker.state is not WorkerState.STOPPING:
            slot.worker = None
            give_up = self._plan_respawn(slot, worker)
            entry = CatalogEntry.WORKER_CRASHED if worker.crashed else CatalogEntry.WORKER_EXITED
            extra = entry_fields(entry, worker=worker, seconds=worker.lived, reason=_how_it_ended(worker))
            _log.warning("Worker (pid %d) %s", worker.pid, worker.exit_in_words, extra=extra)
            why = f"{self._which(worker)} {_how_it_ended(worker)}"
            self._crash_loops.crashed(slot.index, slot.respawn.crashes_in_a_row, why)
        else:
            slot.worker = None
            if self._wanted:  # it made room for another, or was stopped by a successor that gave up too early
                self._start_queue.enqueue_one(slot)
        self._owner.worker_gone(worker)
        if give_up:
            self._owner.pool_gave_up(self.trouble)

    def _plan_respawn(self, slot: Slot, worker: Worker) -> bool:
        """Set the respawn timer where a worker is wanted; True if the crashes are too many."""
        slot.failed = True
        self.trouble = f"{self._which(worker)} {_how_it_ended(worker)}"
        delay: float | None
        if not worker.crashed:
            delay = slot.respawn.worker_exited(lived=worker.lived)
        else:
            delay = slot.respawn.worker_crashed(now=time.monotonic(), lived=worker.lived)
        self.is_hopeless = worker.hopeless and not self._has_served
        too_many = delay is None or self.first_crash_is_final or self.is_hopeless
        if slot.replacement is not None:
            slot.worker, slot.replacement = slot.replacement, None
            self._recycler.abandon()
        elif self._wanted:
            # A verdict to give up is the table's to follow; where it does not, trying goes on at the slowest pace.
            pause = delay if delay is not None else self._settings.respawn_backoff_limit
            if pause or too_many:
                slot.timer = self._loop.call_later(pause, lambda: self._start_queue.enqueue_one(slot))
                self.trouble += "" if too_many else f", the next starts {round(pause, 2):g} s later"
            else:
                slot.failed = not worker.was_up  # whether it can be started again is known in a moment
                self._start_queue.enqueue_one(
                    slot
                )  # before anything is said of it: nobody serves in its place meanwhile
        return too_many

    # ------------------------------------------------------------------------------------- those that are to leave

    def _resize(self, size: int) -> None:
        limits.make_room(_DESCRIPTORS + size * _DESCRIPTORS_OF_A_WORKER)
        while len(self._slots) > size:
            slot = self._slots.pop()
            slot.cancel_start()
            self._crash_loops.cured(slot.index)
            self._give_up_replacement(slot)
            if slot.worker is not None:
                self._drain(slot.worker)
        leaving = {worker.index: worker for worker in self.workers.values() if worker.index >= len(self._slots)}
        for index in range(len(self._slots), size):
            slot = Slot(index, Respawn(self._policy, self._count))
            if not self._settings.overlaps:
                slot.worker = leaving.get(index)  # never two of one number: it has to go first
            self._slots.append(slot)

    def _drain(self, worker: Worker) -> None:
        """Tell one to stop that is not to serve any more."""
        self._ready.pop(worker, None)
        self._serving.discard(worker)
        self._recycler.forget(worker)
        worker.drain(lambda: self._cut_off(worker))

    def _cut_off(self, worker: Worker) -> None:
        _log.warning(
            "Killing worker %d of generation %d (pid %d), which %s",
            worker.index,
            self._generation,
            worker.pid,
            worker.overdue_in_words,
            extra=entry_fields(CatalogEntry.WORKER_KILLED, worker=worker, reason=worker.overdue_in_words),
        )
        worker.kill()

    def worker_asks_to_retire(self, worker: Worker) -> None:
        """As the worker says."""
        self._recycler.ask(worker, "it asked to retire")

    def _replace(self, worker: Worker, why: str) -> None:
        """Have another worker serve in this one's place: beside it first, or, never two at a time, after it."""
        extra = entry_fields(CatalogEntry.WORKER_REPLACED, worker=worker, seconds=worker.lived, reason=why)
        _log.info("Replacing worker %d (pid %d): %s", worker.index, worker.pid, why, extra=extra)
        slot = self._slots[worker.index]
        if not self._settings.overlaps:
            self.trouble = f"{self._which(worker)} is being replaced: {why}"
            self._drain(worker)
            return
        try:
            slot.replacement = self._start_queue.fork(slot)
        except OSError as error:
            self._recycler.failed(f"cannot be forked: {error.strerror}", lived=0.0)
            return
        self._owner.workers_forked([slot.replacement])

    def _complete_replacement(self, worker: Worker) -> None:
        """A worker has been released: if it was to replace another, that one may go now."""
        slot = self._slots[worker.index]
        if slot.replacement is worker:
            old, slot.worker, slot.replacement = slot.worker, worker, None
            if old is not None:
                self._drain(old)
        if worker.up and self._recycler.replaces(slot.index):
            self._recycler.done()

    def _give_up_replacement(self, slot: Slot) -> None:
        replacement, slot.replacement = slot.replacement, None
        if replacement is not None:
            self._drain(replacement)
        if self._recycler.replaces(slot.index):
            self._recycler.abandon()

    # ------------------------------------------------------------------------------------------------- in words

    def _slot_of(self, worker: Worker) -> Slot | None:
        """The place a worker has, or is to take; None for one that is not wanted back."""
        slot = self._slots[worker.index] if worker.index < len(self._slots) else None
        return slot if slot is not None and worker in (slot.worker, slot.replacement) else None

    def _serves(self, worker: Worker | None) -> bool:
        return worker is not None and worker in self._serving and worker.up

    def _note_success(self, worker: Worker) -> None:
        slot = self._slot_of(worker)
        if slot is not None and worker.up:
            slot.failed = False

    def _forget_trouble(self) -> None:
        """If no worker is missing any more."""
        if self.trouble and self.serving >= len(self._slots):
            self.trouble = ""

    def _say_crash_loop(self, why: str) -> None:
        if why or self._wanted:  # to a generation that leaves it does not matter any more
            self._owner.crash_loop(why)

    def _which(self, worker: Worker) -> str:
        return f"worker {worker.index}" if len(self._slots) > 1 else "the worker"

    def _facts_of(self, worker: Worker) -> dict[str, object]:
        slot = self._slot_of(worker)
        crashes = slot.respawn.crashes if slot is not None else 0
        return worker.facts() | {"crashes": crashes, "retiring": self._recycler.why(worker)}


def _how_it_ended(worker: Worker) -> str:
    """In words, with the last line of the traceback it left, if there is one."""
    said = last_line(worker.failure)
    return worker.exit_in_words + (f" ({said})" if said else "")
