"""Turns events of the workers into events of the takeover table, counts, journal entries and failure reasons."""

import logging

from ..core.phases import PHASES
from ..core.takeover import Event, State
from ..errors import ExitStatus
from ..input.printable import last_line
from ..systemd.catalog import CatalogEntry, entry_fields
from ..systemd.journal import stderr_is_journal
from ..workers import refused
from ..workers.source import Source
from ..workers.worker import Worker, WorkerOwner, WorkerState
from .shell import Shell

_log = logging.getLogger("sdsupervise")


def leave_refused(shell: Shell) -> None:
    """If this generation ends, do not wait for workers that we may not signal: systemd kills them when we have
    exited."""
    if PHASES[shell.state].leaves_refused and refused.leave(shell.pool.workers):
        shell.exit_status = shell.exit_status or int(ExitStatus.NOT_PERMITTED)


def rejects_successor(shell: Shell) -> bool:
    """Fail the reload, and return True, if we could not stop our workers for the successor, which is ready now."""
    why_not = refused.why_not_stoppable(shell.pool.workers.values())
    if why_not and shell.state is State.STARTING_SUCCESSOR and shell.handover.peer is not None:
        shell.handover.peer.fails_for(why_not)
        shell.handover.kill_peer()
    return bool(why_not)


class PoolEvents:
    """The owner of the pool; see PoolOwner in workers/pool.py."""

    def __init__(self, shell: Shell, source: Source) -> None:
        self._shell, self._source = shell, source
        self._final: Worker | None = None  # its end is to be the end of the service

    def start_worker(self, owner: WorkerOwner, *, index: int, spare: bool) -> Worker:
        """See PoolOwner."""
        peer = self._shell.handover.peer
        return self._source.start(
            owner,
            index=index,
            spare=spare,
            wait_for_go=peer is not None and not peer.gone,
            may_serve=PHASES[self._shell.state].releases,
        )

    def workers_forked(self, workers: list[Worker]) -> None:
        """See PoolOwner. The peer gets the workers' pids before they run code of the service."""
        shell, peer = self._shell, self._shell.handover.peer
        shell.count("starts", amount=sum(worker.state is not WorkerState.SPARE for worker in workers))
        if peer is not None and not peer.gone:
            holders = {worker.holder.pid: worker.holder.pidfd for worker in workers if worker.holder is not None}
            peer.tell_workers({worker.pid: worker.pidfd for worker in workers}, holders)
            for worker in workers:
                if worker.state is not WorkerState.SPARE:
                    worker.let_go(worker.index)
        shell.tell_status_soon()

    def cannot_start_worker(self, why: str) -> None:
        """See PoolOwner."""
        shell = self._shell
        if PHASES[shell.state].wants_workers:  # the pool tries again
            shell.reconsider()
            return
        shell.handover.tell_reason(f"The successor {why}.")
        shell.happen(Event.WORKER_GONE)

    def worker_ready(self, worker: Worker) -> None:
        """See PoolOwner."""
        shell = self._shell
        extra = entry_fields(CatalogEntry.WORKER_READY, worker=worker, seconds=worker.lived)
        until = " to be started" * worker.waits_to_start
        _log.info("Worker (pid %d) of generation %d is ready%s", worker.pid, shell.generation, until, extra=extra)
        if shell.state is State.WARMING:
            shell.handover.tell_warm(shell.pool.ready, shell.pool.size)
        if shell.pool.complete or not PHASES[shell.state].waits_for_all:
            shell.happen(Event.WORKER_READY)
        shell.tell_status_soon()

    def worker_up(self, worker: Worker) -> None:
        """See PoolOwner."""
        extra = entry_fields(CatalogEntry.WORKER_READY, worker=worker, seconds=worker.lived)
        _log.info("Worker (pid %d) of generation %d is up", worker.pid, self._shell.generation, extra=extra)
        self._shell.worker_serves()
        self._shell.tell_status_soon()

    def worker_extends(self, worker: Worker, seconds: float) -> None:
        """See PoolOwner."""
        if PHASES[self._shell.state].for_workers:
            self._shell.put_off_deadline(seconds)
            self._shell.handover.extend(seconds)

    def worker_refuses(self, worker: Worker) -> None:
        """See PoolOwner. A start fails: nothing can end a worker that is not ready in time."""
        shell = self._shell
        if shell.state is State.OPENING:
            shell.give_up(ExitStatus.NOT_PERMITTED, worker.refused)
            shell.happen(Event.GAVE_UP)
        else:
            leave_refused(shell)
            shell.reconsider()

    def worker_gone(self, worker: Worker) -> None:
        """See PoolOwner. The end of a worker that was asked to stop is a consequence, not a failure reason."""
        shell = self._shell
        stopped = worker.state is WorkerState.STOPPING
        if worker.crashed and not stopped:
            shell.count("crashes", worker.cause)
        is_reason = worker.exit_status != 0 or worker.crashed or PHASES[shell.state].is_unproven
        if is_reason and not stopped:
            silent = worker.pid if shell.settings.executes and not worker.failure and stderr_is_journal() else None
            shell.handover.tell_reason(self._why_gone(worker), worker.failure, silent=silent)
        shell.happen(Event.WORKER_GONE)
        shell.tell_status_soon()

    def end_if_final(self) -> None:
        """End the service if the end of a worker was final.

        During a reload it waits: if the reload is done, the new code serves, and if it fails, the service ends then.
        """
        shell, worker = self._shell, self._final
        if worker is None or not PHASES[shell.state].gives_up:
            return
        listed = worker.end in shell.settings.restart_prevent
        why = "which restart_prevent lists" if listed else f'and restart is "{shell.settings.restart}"'
        shell.end(max(worker.end, 0), f"The command {worker.exit_in_words}, {why}")
        shell.happen(Event.GAVE_UP)

    def pool_gave_up(self, why: str, worker: Worker) -> None:
        """See PoolOwner. During a reload nothing is given up: the new code may be the repair."""
        shell = self._shell
        if worker.is_final:
            self._final = self._final or worker
            self.end_if_final()
            return
        if not PHASES[shell.state].gives_up:
            return
        hopeless = shell.pool.is_hopeless
        if shell.state is State.OPENING and (shell.pool.first_crash_is_final or hopeless):
            status = ExitStatus.CONFIG if hopeless else ExitStatus.UNAVAILABLE
            shell.give_up(status, f"The service did not get ready: {why}.")
        else:
            shell.give_up(ExitStatus.GAVE_UP, f"Gave up after {shell.settings.crash_limit} crashes: {why}.")
        shell.happen(Event.GAVE_UP)

    def crash_loop(self, why: str) -> None:
        """See PoolOwner."""
        self._shell.generation_log.crash_loop(why, is_main=self._shell.is_main)
        self._shell.handover.tell_counters()

    def _why_gone(self, worker: Worker) -> str:
        """Why and when a successor's worker ended, as a sentence; it may have served already."""
        said, when = last_line(worker.failure), "before it was ready"
        if worker.was_up and self._shell.checks:
            when = "while before_commit ran"
        elif worker.was_up:
            when = "on probation" if self._shell.settings.probation else "as soon as it served"
        if said:
            return f"{said} ({when})" if worker.was_up else said
        status = f', with the last status "{worker.status}"' if worker.status else ""
        return f"The worker {worker.exit_in_words} {when}{status}{self._where_words_are()}."

    def _where_words_are(self) -> str:
        """Where a command's standard error goes, as the end of a sentence; "" for the journal, which is searched."""
        peer = self._shell.handover.peer
        if peer is None or peer.pid is None or not self._shell.settings.executes or stderr_is_journal():
            return ""
        from ..hooks.stderr_tail import where_they_are

        return f"; {where_they_are(peer.pid)}"
