"""Starts workers: a few at a time, again when the kernel refuses to fork, and one spare ahead of its need."""

import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from ..core.respawn import Respawn
from ..linux.event_loop import EventLoop, Timer
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields
from .worker import Worker

_log = logging.getLogger("sdsupervise")

_FORKING_SECONDS = 0.01  # in one turn; then the event loop handles other events


class Slot:
    """The place of one worker, and the crash history of the workers that had it."""

    def __init__(self, index: int, respawn: Respawn) -> None:
        self.index, self.respawn = index, respawn
        self.worker: Worker | None = None
        self.replacement: Worker | None = None  # takes the place of `worker` as soon as it is ready
        self.timer: Timer | None = None  # until the next start
        self.failed = False  # the last start here failed, or its worker died
        self.is_over = False  # its worker's end is to be the end of the service

    def cancel_start(self) -> None:
        """Cancel the delayed start."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class StartOwner(Protocol):
    """What a start queue asks of its owner, and reports to it."""

    def fork_worker(self, index: int, *, spare: bool) -> Worker:
        """Fork a worker.

        Raises OSError if the kernel refuses to fork.
        """

    def workers_forked(self, workers: list[Worker]) -> None:
        """These workers were forked, and have run no code of the service yet."""

    def cannot_fork(self, why: str) -> None:
        """The kernel refused to fork; the text says so."""


class StartQueue:
    """Starts the workers of the enqueued slots.

    If a dead worker is to be replaced without delay, the queue keeps one spare for the whole pool: a process that is
    forked ahead and waits before any code of the service. A fork after the death would spend most of its time on copies
    of the pages that the new process touches (`make bench`).
    """

    def __init__(self, loop: EventLoop, settings: Settings, owner: StartOwner) -> None:
        self._loop, self._owner = loop, owner
        self._delay = settings.delay_before_respawn
        self._queue: deque[Slot] = deque()
        self._turn: Timer | None = None  # the next turn of starts
        self._spare_timer: Timer | None = None
        self.spare: Worker | None = None
        self.keeps_trying = False  # after a failed fork; also whether a spare is kept

    def enqueue(self, slots: Iterable[Slot]) -> None:
        """Start workers for these slots, and forget all that waited before."""
        self._queue = deque(slots)
        self._start()

    def enqueue_one(self, slot: Slot) -> None:
        """Start a worker for this slot too: at once if no other slot waits."""
        slot.cancel_start()
        self._queue.append(slot)
        if self._turn is None:
            self._start()

    def cancel(self) -> None:
        """Forget all waiting slots."""
        self._queue.clear()
        self._cancel_turn()

    def fork(self, slot: Slot) -> Worker:
        """Start a process for this slot; the spare is used if there is one.

        Raises OSError if the kernel refuses to fork.
        """
        spare, self.spare = self.spare, None
        if spare is None:
            return self._owner.fork_worker(slot.index, spare=False)
        spare.let_go(slot.index)
        return spare

    def keep_spare(self) -> None:
        """Fork a spare in the next turn, if the settings ask for one."""
        if self._delay == 0 and self.spare is None and self._spare_timer is None:
            self._spare_timer = self._loop.call_later(0, self._fork_spare)

    def _cancel_turn(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _start(self) -> None:
        self._cancel_turn()
        forked: list[Worker] = []
        until = time.monotonic() + _FORKING_SECONDS
        while self._queue and (not forked or time.monotonic() < until):
            slot = self._queue.popleft()
            try:
                slot.worker = self.fork(slot)
            except OSError as error:
                self._cannot_fork(slot, error)
                break
            forked.append(slot.worker)
        if forked:
            self._owner.workers_forked(forked)
        if self._queue and self._turn is None:
            self._turn = self._loop.call_later(0, self._start)

    def _cannot_fork(self, slot: Slot, error: OSError) -> None:
        if self.keeps_trying:
            delay = self._delay or 1.0
            extra = entry_fields(CatalogEntry.WORKER_NOT_STARTED, reason=error.strerror or "")
            _log.warning("Cannot fork a worker: %s; trying again in %g s", error.strerror, delay, extra=extra)
            self._queue.appendleft(slot)
            slot.failed = True
            self._turn = self._loop.call_later(delay, self._start)
        else:
            self._queue.clear()
        self._owner.cannot_fork(f"cannot fork a worker: {error.strerror}")

    def _fork_spare(self) -> None:
        self._spare_timer = None
        if self.spare is not None or self._queue or not self.keeps_trying:
            return
        try:
            self.spare = self._owner.fork_worker(0, spare=True)
        except OSError as error:
            _log.warning("Cannot fork a spare worker: %s; a dead worker will be replaced later", error.strerror)
            return
        self._owner.workers_forked([self.spare])
