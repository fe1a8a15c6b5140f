"""A reload by `reload_signal`: the workers get a signal, and go on with what they read again.

No generation begins, so the takeover table has no part in it: the supervisor stays in SERVING. The verdict follows from
whether the workers live on. A worker that answers with RELOADING=1 has as long as any reload to say READY=1. Any other
worker has a short time in which a wrong configuration would end it.
"""

import logging
import os
from collections.abc import Callable

from ..code.code_version import CodeVersion, read_version_of_command
from ..core.takeover import State
from ..handover.failed_reload import fail
from ..handover.reload import OldCode, Reload
from ..linux import signals
from ..linux.event_loop import EventLoop, Timer
from ..linux.unpatched import signal
from ..systemd.catalog import CatalogEntry, entry_fields
from ..workers.worker import Worker
from .shell import Shell

_log = logging.getLogger("sdsupervise")

_SETTLE_SECONDS = 1.0  # without ready_after
_ENDED = "ended and was started again"
_SOME_ENDED = "did not all live on, and those that ended were started again"


class SignalReload:
    """Signals the workers, and gives the verdict of each reload."""

    def __init__(self, loop: EventLoop, shell: Shell) -> None:
        self._loop, self._shell = loop, shell
        self._name = shell.settings.reload_signal
        self._workers: list[Worker] = []  # that were signalled
        self._pending: set[Worker] = set()  # those that may still end, or have to say READY=1
        self._on_disk = ""  # the fingerprint of what they read
        self._reason = ""  # why the reload fails; "" as far as we know
        self._timer: Timer | None = None
        self.running: Reload | None = None

    def begin(self, reload: Reload) -> None:
        """Signal all workers that serve. Refuses the reload if one would not survive that."""
        shell, number = self._shell, signal.Signals[self._name]
        workers = [worker for worker in shell.pool.in_service() if worker.up]
        deaf = next((worker for worker in workers if signals.handles(worker.pid, number) is False), None)
        refusal = "" if workers else "No worker serves; a restart starts one."
        if deaf is not None:
            what = f"has no handler for {self._name}: it would end, or do nothing"
            refusal = f"Worker (pid {deaf.pid}) {what}; see reload_signal."
        if refusal:
            shell.handover.refuse(reload, refusal, stops=False)
            return
        self.running = shell.handover.reloads.running = reload
        self._workers, self._pending, self._reason = workers, set(workers), ""
        self._on_disk = _fingerprint_on_disk(shell.started.code_version)
        settle = shell.settings.ready_after or _SETTLE_SECONDS
        sentence = f"{self._name} goes to {self._whom()}"
        _log.info("%s, asked by %s", sentence, reload.asked_by, extra=entry_fields(CatalogEntry.RELOAD_SIGNALLED))
        reload.enter("signalled", sentence, at_most=settle + shell.settings.reload_timeout)
        for worker in workers:
            worker.reloading, worker.on_reloaded = False, self._worker_reloaded
            signals.send(worker.pidfd, number)
        self._expect(settle, self._settle)
        shell.tell_status_soon()

    def look(self) -> None:
        """A worker may have ended, or another one may serve in its place: give the verdict if it is known."""
        if self.running is None:
            return
        dead = next((worker for worker in self._workers if worker.exit_status is not None), None)
        if self._shell.state is not State.SERVING:
            self._fail(self._reason or "A stop was requested.", stops=True)
        elif dead is not None and not self._reason:
            self._reason = f"The worker (pid {dead.pid}) {dead.end_in_words} after {self._name}."
            self._expect(self._shell.settings.worker_start_allowance, lambda: self._fail(self._reason))
        if self._reason and self.running is not None and self._shell.pool.settled:
            self._fail(self._reason)

    def _worker_reloaded(self, worker: Worker) -> None:
        self._pending.discard(worker)
        self._succeed_if_all()

    def _settle(self) -> None:
        """The short time is over. Only workers that have said RELOADING=1 are still awaited."""
        self._pending = {worker for worker in self._pending if worker.reloading}
        self._expect(self._shell.settings.reload_timeout, self._too_late)
        self._succeed_if_all()

    def _too_late(self) -> None:
        worker, limit = next(iter(self._pending)), self._shell.settings.reload_timeout
        self._fail(f"Worker (pid {worker.pid}) said RELOADING=1, and no READY=1 within {limit:g} s.")

    def _succeed_if_all(self) -> None:
        reload, shell = self.running, self._shell
        if self._pending or self._reason or reload is None:
            return
        generation, code = shell.generation, str(shell.started.code_version)
        done = f"Sent {self._name} to {self._whom()}; {'it lives' if len(self._workers) == 1 else 'they live'} on."
        now = {"generation": generation, "pid": os.getpid(), "code": code, "same_code": True}
        shell.started.code_version.read_again = self._on_disk
        reload.succeed({**now, "old_generation": generation, "old_pid": os.getpid(), "by_signal": done})
        self._end()
        extra = entry_fields(CatalogEntry.RELOADED, generation=generation, verdict="done", seconds=reload.seconds)
        _log.info("Reloaded: %s", done, extra=extra)
        shell.reload_ended(CatalogEntry.RELOADED, reload.facts(), None)

    def _fail(self, reason: str, *, stops: bool = False) -> None:
        reload, shell = self.running, self._shell
        if reload is None:
            return
        how = _ENDED if shell.pool.size == 1 else _SOME_ENDED
        old_code = OldCode.now(
            *(shell.started, shell.pool), was_stopped=bool(self._reason), from_disk=True, stops=stops, how=how
        )
        entry, facts = fail(reload, reason, old_code)
        self._end()
        if not stops:
            shell.reload_ended(entry, facts, None)

    def _end(self) -> None:
        self._cancel_timer()
        self._shell.handover.reloads.end(tell_counters=self._shell.handover.tell_counters)
        self._workers, self._pending, self.running = [], set(), None

    def _expect(self, seconds: float, then: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.expect_within(seconds, then)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _whom(self) -> str:
        pids = ", ".join(str(worker.pid) for worker in self._workers)
        return f"worker (pid {pids})" if len(self._workers) == 1 else f"{len(self._workers)} workers (pids {pids})"


def _fingerprint_on_disk(code_version: CodeVersion) -> str:
    """The fingerprint that the command would have if it started now; "" if its directory is gone."""
    executable, *words = code_version.words
    try:
        return read_version_of_command(executable, words).fingerprint
    except FileNotFoundError:
        return ""
