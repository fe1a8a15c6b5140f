"""The workers of one generation: one per slot, started when wanted, and restarted when they die."""

import logging
import time
from typing import Protocol

from ..core.respawn import CrashCount, Policy, Respawn
from ..linux import limits, processes, signals
from ..linux.event_loop import EventLoop
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields
from .crash_loops import CrashLoops
from .recycling import Recycler
from .start_queue import Slot, StartQueue
from .worker import Worker, WorkerOwner, WorkerState

_log = logging.getLogger("sdsupervise")


_DESCRIPTORS = 512  # the most that are needed apart from workers
_DESCRIPTORS_OF_A_WORKER = 8  # the most per worker, including those from two older generations
_DESCRIPTORS_OF_A_START = 5  # including those that are closed again
_MOST_FACTS = 1000  # workers; more do not fit into one answer of the control socket


class PoolOwner(Protocol):
    """What a pool asks of its owner, and reports to it."""

    def start_worker(self, owner: WorkerOwner, *, index: int, spare: bool) -> Worker:
        """Start a worker for a slot. A spare runs no code of the service yet.

        Raises OSError if the kernel refuses to fork.
        """

    def workers_forked(self, workers: list[Worker]) -> None:
        """These workers were forked, and have run no code of the service yet."""

    def cannot_start_worker(self, why: str) -> None:
        """The kernel refused to fork a worker; the text gives the reason."""

    def worker_ready(self, worker: Worker) -> None:
        """This worker waits for its release."""

    def worker_up(self, worker: Worker) -> None:
        """This worker serves, some time after its release; see Worker.up."""

    def worker_extends(self, worker: Worker, seconds: float) -> None:
        """This worker asks for this many seconds more, to start or to stop."""

    def worker_refuses(self, worker: Worker) -> None:
        """The kernel does not let us signal this worker."""

    def worker_gone(self, worker: Worker) -> None:
        """This worker is dead."""

    def pool_gave_up(self, why: str, worker: Worker) -> None:
        """There were too many crashes, or the end of this worker is final; the text describes the last end."""

    def crash_loop(self, why: str) -> None:
        """A crash loop has begun, for this reason; or, with "", is over."""


class Pool:
    """A pool of workers.

    The pool stops a worker that is replaced or not needed any more, and then only waits for its end. The worker that
    takes its slot has the same index, in overlap even while the old worker still finishes its work.

    A pool may have hundreds of workers: nothing here may search all of them because of an event of one.
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
        """With `forks` a worker is a fork of this process. Without, it is executed from disk, and there is no spare."""
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
        self._crash_loops = CrashLoops(loop, settings.respawn_forgiven_after, say=self._say_crash_loop)
        self._wanted = False
        self._ready: dict[Worker, None] = {}  # waiting for their release, in order
        self._serving: set[Worker] = set()
        self._has_served = self.is_hopeless = False
        self.first_crash_is_final = False  # while systemd waits for the start, its Restart= does the retries
        self.workers: dict[int, Worker] = {}  # all living ones by pid, including the spare and those that stop
        self.trouble = ""  # describes the last crash while a worker is missing
        self._start_queue = StartQueue(loop, settings, self)
        self._recycler = Recycler(loop, settings, self._policy, replace=self._replace)
        self._slots: list[Slot] = []
        self._resize(size)

    @property
    def crashes(self) -> int:
        """The number of crashes in this generation."""
        return self._count.crashes

    @property
    def size(self) -> int:
        """The number of workers that there should be."""
        return len(self._slots)

    @property
    def serving(self) -> int:
        """The number of workers that serve, as far as the supervisor can know."""
        return sum(worker.up for worker in self._serving)

    @property
    def up(self) -> bool:
        """Whether every slot has a worker that serves, as far as the supervisor can know."""
        return len(self._serving) >= len(self._slots) and all(worker.up for worker in self._serving)

    @property
    def settled(self) -> bool:
        """Whether the outcome is known for every slot: its worker serves, or its last start has failed."""
        return all(slot.failed or self._serves(slot.worker) for slot in self._slots)

    @property
    def ready(self) -> int:
        """The number of workers that are ready or serve."""
        return len(self._ready) + len(self._serving)

    @property
    def complete(self) -> bool:
        """Whether every slot has a worker that is ready or serves."""
        return self.ready >= len(self._slots)

    @property
    def spare(self) -> Worker | None:
        """The worker that is forked ahead; None if there is none."""
        return self._start_queue.spare

    def facts(self) -> list[dict[str, object]]:
        """What status shows of the workers, without the spare."""
        shown = [worker for worker in self.workers.values() if worker is not self.spare]
        shown.sort(key=lambda worker: (worker.index, worker.started_at))
        return [self._facts_of(worker) for worker in shown[:_MOST_FACTS]]

    def in_service(self) -> list[Worker]:
        """The workers that serve, sorted by index."""
        return sorted(self._serving, key=lambda worker: worker.index)

    def pidfds(self) -> dict[int, int]:
        """The pidfds of all living workers, by pid."""
        return {pid: worker.pidfd for pid, worker in self.workers.items()}

    def holders(self) -> dict[int, int]:
        """The pidfds of the processes that hold the lock for living workers, by pid."""
        holders = [worker.holder for worker in self.workers.values() if worker.holder is not None]
        return {holder.pid: holder.pidfd for holder in holders}

    def want(self, wanted: bool) -> None:
        """Set whether there should be workers. True starts the missing ones; False stops none."""
        if wanted == self._wanted:
            return
        self._wanted = self._start_queue.keeps_trying = wanted
        if wanted:
            for slot in self._slots:
                slot.failed = slot.is_over  # its next start counts
            self.start_once()
        else:
            self._start_no_more()

    def start_once(self) -> None:
        """Start every missing worker. Whether a dead one is restarted is the decision of `want`."""
        self._start_queue.enqueue(slot for slot in self._slots if not (slot.worker or slot.timer or slot.is_over))

    def recycle(self, allowed: bool) -> None:
        """Set whether workers may be replaced now because of their age or size, or at their own request."""
        self._recycler.allow(allowed)

    def has_room_for(self, size: int) -> bool:
        """Whether the process may open enough descriptors for this many workers."""
        limits.make_room(_DESCRIPTORS + size * _DESCRIPTORS_OF_A_WORKER)
        return processes.can_open(max(0, size - len(self._slots)) * _DESCRIPTORS_OF_A_START)

    def scale(self, size: int) -> None:
        """Change the number of workers: the highest indexes leave, the lowest free ones are started."""
        self._resize(size)
        self._forget_trouble()
        if self._wanted:
            self.start_once()

    def release(self) -> None:
        """Release all workers that are ready, so that they serve."""
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
        """Ask all workers to stop (SIGTERM, or the configured signal)."""
        self._ready.clear()
        self._serving.clear()
        for worker in self.workers.values():
            worker.stop()

    def pass_on(self, number: int) -> list[int]:
        """Pass a signal on to the workers that have a handler for it. Returns their pids."""
        meant = [worker for worker in self.workers.values() if worker.state is not WorkerState.SPARE]
        return signals.pass_on({worker.pid: worker.pidfd for worker in meant}, number)

    def kill(self) -> None:
        """SIGKILL all remaining workers, and log what each of them was doing."""
        for worker in self.workers.values():
            self._cut_off(worker)

    # ----------------------------------------------------------------------------------- events of single workers

    def fork_worker(self, index: int, *, spare: bool) -> Worker:
        """See StartOwner.

        Raises OSError if the kernel refuses to fork.
        """
        worker = self._owner.start_worker(self, index=index, spare=spare)
        self.workers[worker.pid] = worker
        return worker

    def workers_forked(self, workers: list[Worker]) -> None:
        """See StartOwner."""
        self._owner.workers_forked(workers)

    def _start_no_more(self) -> None:
        for slot in self._slots:
            slot.cancel_start()
            self._give_up_replacement(slot)
        self._start_queue.cancel()
        self.trouble = ""

    def cannot_fork(self, why: str) -> None:
        """See StartOwner."""
        self.trouble = why
        self._owner.cannot_start_worker(why)

    def worker_ready(self, worker: Worker) -> None:
        """See WorkerOwner."""
        self._ready[worker] = None
        self._owner.worker_ready(worker)

    def worker_extends(self, worker: Worker, seconds: float) -> None:
        """See WorkerOwner."""
        self._owner.worker_extends(worker, seconds)

    def worker_up(self, worker: Worker) -> None:
        """See WorkerOwner."""
        self._has_served = True
        self._note_success(worker)
        self._forget_trouble()
        if self._recycler.replaces(worker.index):
            self._recycler.done()
        self._owner.worker_up(worker)

    def worker_refuses(self, worker: Worker) -> None:
        """See WorkerOwner."""
        self._owner.worker_refuses(worker)

    def worker_gone(self, worker: Worker) -> None:
        """See WorkerOwner."""
        if self.workers.pop(worker.pid, None) is None:
            return  # see refused.py
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
            self._recycler.failed(worker.end_in_words, lived=worker.lived)
        elif worker.state is not WorkerState.STOPPING:
            slot.worker = None
            give_up = self._plan_respawn(slot, worker)
            entry = CatalogEntry.WORKER_CRASHED if worker.crashed else CatalogEntry.WORKER_EXITED
            extra = entry_fields(entry, worker=worker, seconds=worker.lived, reason=worker.end_in_words)
            _log.warning("Worker (pid %d) %s", worker.pid, worker.exit_in_words, extra=extra)
            why = f"{self._which(worker)} {worker.end_in_words}"
            self._crash_loops.crashed(slot.index, slot.respawn.crashes_in_a_row, why)
        else:
            slot.worker = None
            if self._wanted:  # its slot is free for another worker, or a failed takeover had stopped it
                self._start_queue.enqueue_one(slot)
        self._owner.worker_gone(worker)
        if give_up:
            self._owner.pool_gave_up(self.trouble, worker)

    def _plan_respawn(self, slot: Slot, worker: Worker) -> bool:
        """Schedule the next start in this slot if workers are wanted. Returns True if it is to give up."""
        slot.failed, slot.is_over = True, worker.is_final
        self.trouble = f"{self._which(worker)} {worker.end_in_words}"
        if slot.is_over:
            return True
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
            # The takeover table decides whether to give up. If it does not, retries go on with the longest delay.
            pause = delay if delay is not None else self._settings.respawn_backoff_limit
            if pause or too_many:
                slot.timer = self._loop.call_later(pause, lambda: self._start_queue.enqueue_one(slot))
                self.trouble += "" if too_many else f", the next starts {round(pause, 2):g} s later"
            else:
                slot.failed = not worker.was_up  # the next start tells whether the slot has failed
                # Start it before anything is logged: until then this slot serves nothing.
                self._start_queue.enqueue_one(slot)
        return too_many

    # ------------------------------------------------------------------------------------------- stop and replace

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
                slot.worker = leaving.get(index)  # exclusive: never two workers with one index
            self._slots.append(slot)

    def _drain(self, worker: Worker) -> None:
        """Stop one worker for good, with a deadline of its own."""
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
        """See WorkerOwner."""
        self._recycler.ask(worker, "it asked to retire")

    def _replace(self, worker: Worker, why: str) -> None:
        """Replace a worker: in overlap start the new one first, in exclusive stop the old one first."""
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
        """A worker was released: if it replaces another one, stop that one."""
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

    # ------------------------------------------------------------------------------------------------- look-ups

    def _slot_of(self, worker: Worker) -> Slot | None:
        """The slot that a worker has or will take; None for a worker that leaves its slot."""
        slot = self._slots[worker.index] if worker.index < len(self._slots) else None
        return slot if slot is not None and worker in (slot.worker, slot.replacement) else None

    def _serves(self, worker: Worker | None) -> bool:
        return worker is not None and worker in self._serving and worker.up

    def _note_success(self, worker: Worker) -> None:
        slot = self._slot_of(worker)
        if slot is not None and worker.up:
            slot.failed = False

    def _forget_trouble(self) -> None:
        """Clear `trouble` if no worker is missing any more."""
        if self.trouble and self.serving >= len(self._slots):
            self.trouble = ""

    def _say_crash_loop(self, why: str) -> None:
        if why or self._wanted:  # irrelevant for a generation that leaves
            self._owner.crash_loop(why)

    def _which(self, worker: Worker) -> str:
        return f"worker {worker.index}" if len(self._slots) > 1 else "the worker"

    def _facts_of(self, worker: Worker) -> dict[str, object]:
        slot = self._slot_of(worker)
        crashes = slot.respawn.crashes if slot is not None else 0
        return worker.facts() | {"crashes": crashes, "retiring": self._recycler.why(worker)}
