"""The workers of one generation: started where they are wanted, started again when they die."""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from .config import Settings
from .core.respawn import Policy, Respawn
from .linux.event_loop import EventLoop, Timer
from .workers.worker import Worker, WorkerListener, WorkerState

_log = logging.getLogger("sdsupervise")


class Listener(NamedTuple):
    """Who hears what becomes of the workers."""

    forked: Callable[[Worker], None]
    ready: Callable[[Worker], None]
    gone: Callable[[Worker], None]
    gave_up: Callable[[str], None]  # too many crashes; the text says which


class Workforce:
    """One worker, for now; it comes from `start_worker(listener, index, spare)`, which raises OSError.

    Where a dead worker is to be replaced without delay a spare is kept: forked ahead, parked before any service code.
    A fork after the death costs most of its time in copying the pages that the new process touches (`make bench`).
    """

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        start_worker: Callable[[WorkerListener, int, bool], Worker],
        listener: Listener,
    ) -> None:
        self._loop, self._settings, self._start_worker, self._listener = loop, settings, start_worker, listener
        self._wanted = False
        self._respawn = Respawn(
            Policy(
                settings.delay_before_respawn,
                settings.respawn_backoff_limit,
                settings.respawn_forgiven_after,
                settings.crash_limit,
                settings.crash_window,
            )
        )
        self._respawn_timer: Timer | None = None
        self.first_crash_is_final = False  # while systemd waits for the start, its Restart= is the one to try again
        self.workers: dict[int, Worker] = {}
        self.trouble = ""  # the last crash in words, while no worker serves

    @property
    def crashes(self) -> int:
        """How many workers of this generation crashed."""
        return self._respawn.crashes

    @property
    def serves(self) -> bool:
        """A worker has been released and lives."""
        return any(worker.state is WorkerState.SERVING for worker in self.workers.values())

    def facts(self) -> list[dict[str, object]]:
        """What status shows of the workers."""
        return [worker.facts() for worker in self.workers.values() if worker.state is not WorkerState.SPARE]

    def pidfds(self) -> dict[int, int]:
        """Of all that live, by pid."""
        return {pid: worker.pidfd for pid, worker in self.workers.items()}

    def want(self, wanted: bool) -> None:
        """Whether there should be a worker; starts one at once if so, and stops none if not."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if not wanted:
            self._cancel_respawn()
        elif not self._active:
            self._start()

    def release(self) -> None:
        """Let those that are ready serve."""
        for worker in self.workers.values():
            if worker.state is WorkerState.READY:
                worker.release()
                self.trouble = ""
                self._loop.call_later(0, self._keep_spare)

    def stop(self) -> None:
        """SIGTERM to all."""
        for worker in self.workers.values():
            worker.stop()

    def kill(self) -> None:
        """SIGKILL to all that are left."""
        for worker in self.workers.values():
            _log.warning("Killing the worker (pid %d), which was told to stop and is still there", worker.pid)
            worker.kill()

    @property
    def spare(self) -> Worker | None:
        """The process that is forked ahead, if there is one."""
        return next((worker for worker in self.workers.values() if worker.state is WorkerState.SPARE), None)

    @property
    def _active(self) -> bool:
        return any(worker.state is not WorkerState.SPARE for worker in self.workers.values())

    def _start(self) -> None:
        self._respawn_timer = None
        spare = self.spare
        if spare is not None:
            spare.let_go()
            return
        try:
            self._fork_worker(spare=False)
        except OSError as error:
            delay = self._settings.delay_before_respawn or 1.0
            self.trouble = f"cannot fork a worker: {error.strerror}"
            _log.warning("Cannot fork a worker: %s; trying again in %g s", error.strerror, delay)
            self._respawn_timer = self._loop.call_later(delay, self._start)

    def _keep_spare(self) -> None:
        if self._settings.delay_before_respawn == 0 and self._wanted and self.serves and self.spare is None:
            try:
                self._fork_worker(spare=True)
            except OSError as error:
                _log.warning("Cannot fork a spare worker: %s; a dead worker will be replaced later", error.strerror)

    def _fork_worker(self, *, spare: bool) -> None:
        worker = self._start_worker(WorkerListener(self._listener.ready, self._worker_gone), 0, spare)
        self.workers[worker.pid] = worker
        self._listener.forked(worker)

    def _worker_gone(self, worker: Worker) -> None:
        del self.workers[worker.pid]
        give_up = False
        if worker.state is WorkerState.SPARE:
            _log.warning("The spare worker (pid %d) %s", worker.pid, worker.exit_in_words)
            return  # the next one comes with the next release
        if worker.state is WorkerState.STOPPING:
            if self._wanted and not self._active:
                self._start()  # it was stopped before another was wanted, as by a successor that gave up too early
        else:
            give_up = self._plan_respawn(worker)
            _log.warning("Supervised process %d %s", worker.pid, worker.exit_in_words)
        self._listener.gone(worker)
        if give_up:
            self._listener.gave_up(self.trouble)

    def _plan_respawn(self, worker: Worker) -> bool:
        """Set the respawn timer where a worker is wanted; True if the crashes are too many."""
        self.trouble = f"the worker {worker.exit_in_words}{_last_line(worker.failure)}"
        delay: float | None
        if worker.exit_status == 0:
            delay = self._respawn.worker_exited()
        else:
            delay = self._respawn.worker_crashed(now=time.monotonic(), lived=worker.lived)
        too_many = delay is None or self.first_crash_is_final
        if self._wanted:
            # A verdict to give up is the table's to follow; where it does not, trying goes on at the slowest pace.
            pause = delay if delay is not None else self._settings.respawn_backoff_limit
            if pause or too_many:
                self._respawn_timer = self._loop.call_later(pause, self._start)
                self.trouble += "" if too_many else f", the next starts in {pause:g} s"
            else:
                self._start()  # before anything is said of it: nobody serves meanwhile
        return too_many

    def _cancel_respawn(self) -> None:
        if self._respawn_timer is not None:
            self._respawn_timer.cancel()
            self._respawn_timer = None


def _last_line(traceback_text: str) -> str:
    lines = traceback_text.strip().splitlines()
    return f" ({lines[-1]})" if lines else ""
