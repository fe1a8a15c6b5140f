"""The shell around the takeover table: what happens becomes an event, the table's effects are performed.

No decision about who serves is made here; see core/takeover.py. Everything runs in one thread, from callbacks of one
event loop, and nothing blocks.
"""

import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, assert_never

from ..child import class_main
from ..control.server import ControlServer
from ..core.phases import PHASES, Clients
from ..core.takeover import RULES, Effect, Event, State, step
from ..errors import ExitStatus, ImpossibleEvent, SdsuperviseError
from ..handover.failure_reason import tell_reason
from ..handover.handover import Handover, Hooks
from ..handover.lock import Lock
from ..handover.peer import NotifySetting, Peer
from ..handover.reload import Reload
from ..handover.start_record import unlink_control
from ..handover.started import Started
from ..input.printable import last_line
from ..linux import limits, processes
from ..linux.event_loop import EventLoop, Timer
from ..linux.inheritance import RUN_DIRECTORY_VARIABLE
from ..settings.settings import Settings
from ..sockets.lane_drain import LaneDrain
from ..systemd import logs
from ..systemd.catalog import CatalogEntry, entry_fields
from ..systemd.control_process import ask_control_pid
from ..systemd.journal import stderr_is_journal
from ..systemd.reporter import Reporter
from ..workers.pool import Listener, Pool
from ..workers.source import Source, Surroundings
from ..workers.worker import Worker, WorkerListener, WorkerState
from . import scaling
from .generation_log import GenerationLog
from .requests import Answers, Requests
from .status import Status

if TYPE_CHECKING:
    from ..hooks.before_commit import BeforeCommit

_log = logging.getLogger("sdsupervise")

_LAST_WORDS_SECONDS = 1.0  # to write what nobody has read yet, before we leave


def supervise(
    name: str,
    source: Callable[[Surroundings], Source],
    settings: Settings,
    started: Started,
    *,
    stop_signals: Iterable[signal.Signals],
    can_reload: bool,
) -> int:
    """Be the supervisor of a generation whose workers come from a source; the exit status.

    Raises SdsuperviseError for what makes the source impossible.
    """
    try:
        supervisor = Supervisor(name, source, settings, started, stop_signals=stop_signals, can_reload=can_reload)
        status = supervisor.run()
        processes.flush_for_good()
        return status
    except Exception as error:
        if started.welcome is not None:
            tell_reason(error, started.welcome.channel)
        if isinstance(error, SdsuperviseError):
            raise
        _log.critical(
            "A bug in sdsupervise, leaving; please report it", exc_info=True, extra=entry_fields(CatalogEntry.BUG)
        )
        return ExitStatus.SOFTWARE
    finally:
        logs.finish(within_seconds=_LAST_WORDS_SECONDS)


class Supervisor:
    """One generation's supervisor. `run` returns its exit status when it has left."""

    def __init__(
        self,
        name: str,
        source: Callable[[Surroundings], Source],
        settings: Settings,
        started: Started,
        *,
        stop_signals: Iterable[signal.Signals],
        can_reload: bool,
    ) -> None:
        self._settings, self._started = settings, started
        self._loop = EventLoop()
        logs.attach(self._loop)
        self._reporter = Reporter(self._loop, started.notifier)
        self.generation = started.generation
        self._pool_size = scaling.size_of_pool(settings)
        self._source = source(
            Surroundings(
                *(self._loop, settings, self.generation, self._let_go_in_child, started.listeners, self._lock_in_child),
                code_version=started.code_version,
            )
        )
        self._pool = Pool(
            self._loop,
            settings,
            self._start_worker,
            Listener(
                self._workers_forked,
                self._worker_ready,
                self._worker_gone,
                self._workers_gave_up,
                self._cannot_start_worker,
                self._worker_up,
                self._worker_extends,
                self._crash_loop,
            ),
            generation=self.generation,
            size=scaling.first_size(self._pool_size, started.welcome),
            forks=self._source.forks,
        )
        self._lock = Lock(started.pid_file)
        self._events: deque[Event] = deque()
        self._stepping = False
        self._deadline: Timer | None = None
        self._status_timer: Timer | None = None
        self._lane_drain: LaneDrain | None = None
        if settings.before_commit:
            from ..hooks import before_commit  # noqa: F401  # not in the middle of an upgrade; most services do without
            from ..settings.check_words import may_ask_old_code

            if remark := may_ask_old_code(settings):
                _log.warning("%s; %s", *remark)
        self._owes_serving = False  # to the predecessor, which waits to hear it
        self._check: BeforeCommit | None = None
        self._is_main = started.welcome is None
        self._was_interrupted = self._ends_at_once = False  # by Ctrl-C, and by another
        self._named_main = False  # systemd has been, or is being, told that we are
        self._exit_status = int(ExitStatus.OK)
        self._generation_log = GenerationLog(
            *(self._loop, name, settings, self.generation, started.code_version), on_quiet=self._reconsider
        )
        self._handover = Handover(
            self._loop,
            started,
            settings,
            self._generation_log.counters,
            hooks=Hooks(
                event=self._happen,
                lock_may_be_free=self._lock_may_be_free,
                unwanted=self._be_unwanted,
                caller=self._adopt_caller,
                named_main=self._be_named,
                passed_fds=self._passed_fds,
                workers=self._pool.pidfds,
                holders=self._pool.holders,
                pool=self._pool_facts,
                size=lambda: self._pool.size,
                draining_gone=self._reconsider,
                words_heard=self._reconsider,
                put_off=self._put_off_deadline,
                bound_anew=self._bind_anew,
                gives_up=self._let_peer_leave,
                lane_is_needed=self._lane_is_needed,
                verdict=self._hear_verdict,
            ),
        )
        self.state = State.WARMING if started.welcome else State.OPENING
        parts = (self._pool, self._handover, self._generation_log.counters)
        self._status = Status(name, settings, self._pool_size, started, *parts, can_reload=can_reload)
        self._requests = Requests(
            self._pool,
            Answers(
                state=lambda: self.state,
                is_main=lambda: self._is_main,
                reload_waits=lambda: self._handover.waits,
                facts=lambda: self._status.facts(self.state),
                code=self._status.code,
                stop=lambda: self._happen(Event.STOP_ASKED),
                interrupt=self._interrupt,
                pass_on=lambda number: [*self._pool.pass_on(number), *self._handover.pass_on(number)],
                reload=self._ask_reload,
                refuse=self._refuse_reload,
                scaled=self._tell_status_soon,
                ask_control_pid=lambda on_answer: ask_control_pid(self._loop, on_answer),
            ),
            self._pool_size,
            stop_signals=stop_signals,
            why_never="" if can_reload else f"{name} cannot be reloaded: its class does not set can_do_hot_reload.",
        )
        self._control = (
            ControlServer(self._loop, started.control, self._requests.take_call, privileged=self._requests.commanders)
            if started.control is not None
            else None
        )

    @property
    def _peer(self) -> Peer | None:
        return self._handover.peer

    def run(self) -> int:
        """Supervise until we leave; the exit status."""
        self._loop.watch(self._requests.fileno(), self._requests.take_signals)
        if self._started.init is not None:
            self._started.init.say_here()
        if self._started.welcome is not None:
            self._handover.meet_predecessor(self._started.welcome)
        else:
            self._pool.first_crash_is_final = self._started.notifier.active
            self._become_main("starting")
        class_main.prepare()
        self._generation_log.starts()
        # The state's own consequences, from within the loop: a worker forked now must not outlive an error below.
        self._loop.call_later(0, self._enter_first_state)
        self._loop.run()
        return self._exit_status

    def _enter_first_state(self) -> None:
        self._stepping = True
        if self.state is State.WARMING:
            self._pool.start_once()  # and no other if one dies
        self._enter()
        self._drain_events()

    # ------------------------------------------------------------------------------------------ events and rules

    def _happen(self, event: Event) -> None:
        """Take an event; what its effects cause comes after it, in order."""
        self._events.append(event)
        if not self._stepping:
            self._drain_events()

    def _reconsider(self) -> None:
        """A lasting condition may have become true."""
        if not self._stepping:
            self._drain_events()

    def _drain_events(self) -> None:
        self._stepping = True
        try:
            while self._events or self._note_conditions():
                self._step(self._events.popleft())
        finally:
            self._stepping = False

    def _note_conditions(self) -> bool:
        """Nothing has happened that is not dealt with: give the events that stand for a lasting condition to a state
        that waits for it; True if there is one."""
        rules = RULES[self.state]
        if Event.NO_WORKER in rules and not self._pool.workers and not self._sees_somebody_out():
            if Event.PEER_GONE in rules and self._peer is not None:
                self._peer.look()  # whoever leaves first makes sure that the other is there to serve, or to clean up
            if not self._events:
                self._events.append(Event.NO_WORKER)
        elif Event.NO_PEER in rules and (self._peer is None or self._peer.gone):
            self._events.append(Event.NO_PEER)
        elif Event.WORKERS_SETTLED in rules and self._pool.settled and not self._handover.listens_for_words:
            self._events.append(Event.WORKERS_SETTLED)
        return bool(self._events)

    def _sees_somebody_out(self) -> bool:
        """We leave and have no worker left, but people are still being told of something; or the service stops, and a
        generation before ours still has a worker."""
        if self._generation_log.busy and self.state in (State.DRAINING, State.STOPPING, State.LEAVING):
            return True
        draining = self._handover.draining
        if self.state not in (State.STOPPING, State.LEAVING) or not draining:
            return False
        draining.tell_empty()
        return bool(draining)

    def _step(self, event: Event) -> None:
        before = self.state
        if event is Event.PEER_EMPTY and before is State.DRAINING:
            self._generation_log.abandon()  # the service stops, and waits for nobody but us
        try:
            rule = step(before, event)
        except ImpossibleEvent as error:
            # A bug of ours, and no reason to leave the service without a supervisor: nothing changes, and we say so.
            _log.critical(
                "%s Please report this; ignoring it", error, extra=entry_fields(CatalogEntry.BUG, reason=str(error))
            )
            return
        if rule is None:
            return
        self.state = rule.next
        if rule.next is not before:
            self._steer_clients()  # before anybody acts on what the effects tell
        if rule.next is State.STOPPING:
            self._tell_status()  # before the caller of a reload is answered, whose job systemd is about to judge
        for effect in rule.effects:  # performed nowhere else: tests hold a supervisor here (tests/support/breakpoints)
            self._perform(effect)
        if rule.next is not before:
            _log.debug("%s+%s: %s", before.name, event.name, rule.next.name)
            self._enter(event)
        elif event is Event.DEADLINE:
            self._set_deadline()

    def _steer_clients(self) -> None:
        clients = PHASES[self.state].clients
        if clients is not None and not (clients is Clients.THEIRS and self._is_brief):
            self._started.listening.steer(clients)

    def _enter(self, event: Event | None = None) -> None:
        """What follows from the state alone, but for what the last event says of the peer."""
        state = self.state
        if state is not State.COMMITTING:
            self._reporter.forget_barrier()
        if state is not State.ON_TRIAL and self._check is not None:
            self._check.cancel()
            self._check = None
        if PHASES[state].is_main and not self._is_main:
            self._become_main("ready")
            if event is Event.PEER_COMMITTED:
                self._handover.let_drain()
        if state is State.STOPPING and self._named_main and not self._is_main:
            self._reporter.become_main(systemd_believes="ready")  # the stop came in the middle of the commit
        if state is State.SERVING:
            self._note_serving(by_verdict=event is Event.PEER_COMMITTED)
            self._pool.first_crash_is_final = False
            self._started.listening.settle(alone=not self._handover.draining)
        if state is State.DRAINING:
            self._retire()
        if state is State.STOPPING:
            self._handover.refuse_waiting()
            self._generation_log.stops(self._status.gave_up_because, is_main=self._is_main)
        if state is not State.WARMING:
            self._pool.want(PHASES[state].wants_workers)
        self._pool.recycle(state is State.SERVING)
        self._set_deadline()
        self._tell_status()
        sentence = "" if self._is_brief else self._status.sentence_of_phase(state)
        self._handover.enter(state, sentence, at_most=self._longest_wait())
        if self._ends_at_once and state is State.EMPTY:
            self._happen(Event.DEADLINE)
        if PHASES[state].awaits_lock:
            self._try_lock()
        self._settle()

    def _note_serving(self, *, by_verdict: bool = False) -> None:
        """Where this generation is the one that serves: from its first worker that does, it is said to."""
        if self.state is State.SERVING and (by_verdict or self._pool.serving):
            self._generation_log.serves(by_verdict=by_verdict)
            self._status.begin_serving()

    def _settle(self) -> None:
        """In SERVING nothing is left to do for a peer that left nothing behind."""
        if self.state is State.SERVING and self._handover.settle():
            self._set_deadline()

    # ------------------------------------------------------------------------------------------------- effects

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Effect.RELEASE_WORKERS:
                self._pool.release()
                self._tell_status()
                self._note_serving()
            case Effect.STOP_WORKERS:
                self._stop_workers()
            case Effect.KILL_WORKERS:
                self._pool.kill()
            case Effect.OPEN_LOCK:
                self._lock.open()
            case Effect.CLOSE_LOCK:
                self._lock.close()
                self._handover.tell("unlocked")
            case Effect.WRITE_PID:
                self._lock.write_pid()
            case Effect.START_SUCCESSOR:
                self._handover.start_successor()
            case Effect.ASK_YIELD:
                self._handover.tell("yield")
            case Effect.TELL_SERVING:
                self._owes_serving = True
                self._tell_serving()
            case Effect.TELL_CHECKED:
                self._handover.tell("checked")
            case Effect.TELL_FAILED:
                self._handover.tell("failed")
            case Effect.TELL_COMMITTED:
                self._started.listening.close()  # before anybody hears that the reload is done
                self._handover.tell("committed")
            case Effect.TELL_STOP:
                self._handover.stop_peer()
            case Effect.TELL_EMPTY:
                self._handover.tell("empty")
            case Effect.KILL_PEER:
                self._handover.kill_peer()
            case Effect.KILL_PEER_WORKERS:
                if self._peer is not None:
                    self._peer.kill_workers()
            case Effect.NAME_MAIN_PID:
                self._name_main_pid()
            case Effect.ANSWER_DONE:
                self._handover.answer_done()
            case Effect.ANSWER_FAILED:
                self._handover.answer_failed(
                    serving=self._pool.serving,
                    trouble=self._pool.trouble,
                    stops=self.state is State.STOPPING,
                )
            case Effect.EXIT:
                self._leave()
            case _:
                assert_never(effect)

    def _stop_workers(self) -> None:
        """At once, unless they only drain, and their lanes must become empty first."""
        lanes = self._started.listening.leave_lanes()
        if lanes and self.state is State.DRAINING:
            patience = self._settings.stop_timeout / 2
            self._lane_drain = LaneDrain(self._loop, lanes, self._stop_workers, at_most=patience)
            return
        if self._lane_drain is not None:
            self._lane_drain.cancel()
            self._lane_drain = None
        self._pool.stop()

    def _lane_is_needed(self) -> None:
        if self._lane_drain is not None:
            self._stop_workers()

    def _tell_serving(self) -> None:
        """Say so once it is true: an exclusive command was only started by its release, and takes its time."""
        if self._owes_serving and self.state is State.ON_TRIAL and self._pool.up:
            self._owes_serving = False
            self._handover.tell("serving")
            self._begin_check()

    def _begin_check(self) -> None:
        """Let before_commit have its say, if there is one."""
        settings = self._settings
        if not settings.before_commit:
            self._happen(Event.CHECK_PASSED)
            return
        from ..hooks.before_commit import BeforeCommit

        places = self._started.listening.places()
        self._check = BeforeCommit(self._loop, settings, self._checked, generation=self.generation, places=places)
        self._check.begin(self._pool.in_service())

    def _checked(self, why_failed: str, output: str) -> None:
        self._check = None
        if why_failed:
            self._handover.tell_reason(f"{why_failed}.", output)
        self._happen(Event.CHECK_FAILED if why_failed else Event.CHECK_PASSED)

    def _name_main_pid(self) -> None:
        peer = self._peer
        assert peer is not None and peer.pid is not None
        self._handover.tell("naming")
        self._reporter.name_main_pid(peer.pid, self._status.sentence(self.state), self._main_pid_named)

    def _main_pid_named(self) -> None:
        self._look_and_happen(Event.BARRIER_RETURNED)

    def _look_and_happen(self, event: Event) -> None:
        """Last looks before the main pid is named, and before "done" is said: that is only true of a successor that
        lives, and a stop goes first."""
        state = self.state
        self._requests.take_signals()
        if self._peer is not None:
            self._peer.look()
        if self.state is state:
            self._happen(event)

    def _leave(self) -> None:
        if self._is_main or (self._peer is not None and self._peer.gone):
            self._started.listening.end(files_stay=self._started.notifier.active)
        if self._control is not None:
            self._control.stop_accepting()
            if not self._is_main:
                self._control.leave_idle_callers(self._handover.leave_caller)
            self._control.answer_the_rest()
            if self._is_main and self.state is State.GONE and self._started.control is not None:
                unlink_control(self._started.control.getsockname())
            if self._is_main:
                self._lock.forget_pid()
        self._source.close()
        if self._is_main and self.state is State.GONE:
            self._take_away_run_directory()
        self._generation_log.leaves(is_main=self._is_main)
        self._loop.stop()

    def _take_away_run_directory(self) -> None:
        directory = self._started.invocation.environment.get(RUN_DIRECTORY_VARIABLE)
        if directory:
            from ..instances.run_directory import take_away

            take_away(directory, self._lock.name)

    # ------------------------------------------------------------------------------------------------- deadlines

    def _set_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        parts = PHASES[self.state].deadline
        if not parts or (self.state is State.SERVING and self._peer is None):
            return
        seconds = sum(self._seconds(part) for part in parts)
        if self.state is State.EMPTY:
            seconds += self._handover.draining.seconds_left()  # the peer, if it is the main one, leaves after them
        self._deadline = self._loop.expect_within(seconds, self._deadline_passed)

    def _bind_anew(self, seconds: float) -> None:
        """The deadline that runs ends in so many seconds."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = self._loop.expect_within(seconds, self._deadline_passed)

    def _put_off_deadline(self, seconds: float) -> None:
        """The same, where it were to end sooner."""
        if self._deadline is not None and self._deadline.seconds_left < seconds:
            self._bind_anew(seconds)

    def _let_peer_leave(self, seconds: float) -> None:
        """A successor that does not serve yet and gives up has its own workers to stop."""
        if self.state is State.STARTING_SUCCESSOR:
            self._put_off_deadline(seconds)
            if self._handover.reload is not None:
                self._handover.reload.bound("", at_most=seconds + self._settings.takeover_timeout)

    def _longest_wait(self) -> float:
        """Seconds until this state ends at the latest, by its deadline or by the death of a process that was killed."""
        parts = PHASES[self.state].deadline or ("takeover_timeout",)
        return sum(self._seconds(part) for part in parts) + self._settings.takeover_timeout

    def _seconds(self, part: str) -> float:
        if part.startswith("peer_"):
            return float(getattr(self._peer, part.removeprefix("peer_"))) if self._peer is not None else 0.0
        return float(getattr(self._settings, part))

    def _deadline_passed(self) -> None:
        if PHASES[self.state].awaits_lock:
            if self._try_lock():
                return
            if self.state in (State.TAKING_LOCK, State.TAKING_LOCK_BACK) and (
                self._peer is None or self._peer.left_nothing
            ):
                self._give_up_lock()
                return
        elif PHASES[self.state].awaited and self._peer is not None:
            limit = sum(self._seconds(part) for part in PHASES[self.state].deadline)
            self._peer.fails_for(f"The new code was not {PHASES[self.state].awaited} within {limit:g} s.")
        elif self.state is State.WARMING:  # it waits no longer itself, where the old code would have
            limit = self._settings.reload_timeout
            self._handover.tell_reason(f"The new code was not ready within its {limit:g} s.")
        if self.state in (State.WATCHING, State.COMMITTING):
            self._look_and_happen(Event.DEADLINE)
        else:
            self._happen(Event.DEADLINE)

    def _give_up_lock(self) -> None:
        name = self._lock.name or "The nameless lock"
        self._give_up(ExitStatus.UNAVAILABLE, f"{name} is locked by a process that is none of ours.")
        self._happen(Event.STOP_ASKED)

    def _give_up(self, status: ExitStatus, why: str) -> None:
        """We leave with this status, whatever comes; the reason is the last STATUS, which outlives us."""
        self._exit_status, self._status.gave_up_because = status, why
        self._generation_log.gave_up(why)

    def _try_lock(self) -> bool:
        """Take the lock if it is free: asked whenever a process that may have held it says so or dies."""
        if Event.LOCK_GAINED in self._events:
            return True
        if not PHASES[self.state].awaits_lock or self._must_not_serve_beside_peer() or not self._lock.try_take():
            return False
        self._happen(Event.LOCK_GAINED)
        return True

    def _must_not_serve_beside_peer(self) -> bool:
        """A worker of the peer's lives and either service is exclusive. Mostly the lock alone says so, for an exclusive
        worker holds it too; one that was started for overlap does not."""
        return self._peer is not None and self._peer.has_workers and not self._handover.overlaps

    # ------------------------------------------------------------------------------------------------- workers

    def _start_worker(self, listener: WorkerListener, index: int, spare: bool) -> Worker:
        wait_for_go = self._peer is not None and not self._peer.gone
        may_serve = PHASES[self.state].releases
        return self._source.start(listener, index=index, spare=spare, wait_for_go=wait_for_go, may_serve=may_serve)

    def _let_go_in_child(self) -> None:
        """In a freshly forked worker: let go of all that is the supervisor's, and keep the lock's description."""
        logs.close_in_child()
        self._requests.close_in_child()
        self._started.notifier.close_in_child()
        if self._control is not None:
            self._control.close()
        self._handover.close_in_child()
        self._started.listening.close_in_child()
        # An overlapping service's lock is to be free as soon as its supervisor gives it up.
        self._lock.become_workers(keep=not self._settings.overlaps)
        self._loop.close_in_child()  # and what it watches: of the other workers all
        limits.restore_in_child()

    def _lock_in_child(self) -> int | None:
        return None if self._settings.overlaps else self._lock.fileno()

    def _workers_forked(self, workers: list[Worker]) -> None:
        self._count("starts", amount=sum(worker.state is not WorkerState.SPARE for worker in workers))
        if self._peer is not None and not self._peer.gone:
            holders = {worker.holder.pid: worker.holder.pidfd for worker in workers if worker.holder is not None}
            self._peer.tell_workers({worker.pid: worker.pidfd for worker in workers}, holders)
            for worker in workers:
                if worker.state is not WorkerState.SPARE:
                    worker.let_go(worker.index)
        self._tell_status_soon()

    def _cannot_start_worker(self, why: str) -> None:
        if PHASES[self.state].wants_workers:  # it is tried again
            self._reconsider()
            return
        self._handover.tell_reason(f"The new supervisor {why}.")
        self._happen(Event.WORKER_GONE)

    def _worker_ready(self, worker: Worker) -> None:
        extra = entry_fields(CatalogEntry.WORKER_READY, worker=worker, seconds=worker.lived)
        until = " to be started" * worker.waits_to_start
        _log.info("Worker (pid %d) of generation %d is ready%s", worker.pid, self.generation, until, extra=extra)
        if self.state is State.WARMING:
            self._handover.tell_warm(self._pool.ready, self._pool.size)
        if self._pool.complete or self.state not in (State.OPENING, State.WARMING):
            self._happen(Event.WORKER_READY)
        self._tell_status_soon()

    def _worker_up(self, worker: Worker) -> None:
        extra = entry_fields(CatalogEntry.WORKER_READY, worker=worker, seconds=worker.lived)
        _log.info("Worker (pid %d) of generation %d is up", worker.pid, self.generation, extra=extra)
        self._tell_serving()
        self._note_serving()
        self._reconsider()  # for RESTORING
        self._tell_status_soon()

    def _worker_extends(self, _worker: Worker, seconds: float) -> None:
        if PHASES[self.state].for_workers:
            self._put_off_deadline(seconds)
            self._handover.extend(seconds)

    def _worker_gone(self, worker: Worker) -> None:
        if worker.crashed and worker.state is not WorkerState.STOPPING:
            self._count("crashes", worker.cause)
        # One that we told to stop is no reason, but what followed from one.
        is_reason = worker.exit_status != 0 or worker.crashed or self.state in (State.WARMING, State.CLAIMING)
        if is_reason and worker.state is not WorkerState.STOPPING:
            silent = worker.pid if self._settings.executes and not worker.failure and stderr_is_journal() else None
            self._handover.tell_reason(self._why_gone(worker), worker.failure, silent=silent)
        self._happen(Event.WORKER_GONE)
        self._tell_status_soon()

    def _why_gone(self, worker: Worker) -> str:
        """Why a worker of a successor ended, and when: it may have served already."""
        said, when = last_line(worker.failure), "before it was ready"
        if worker.was_up and self._check is not None:
            when = "while before_commit ran"
        elif worker.was_up:
            when = "on probation" if self._settings.probation else "as soon as it served"
        if said:
            return f"{said} ({when})" if worker.was_up else said
        status = f', and last said "{worker.status}"' if worker.status else ""
        return f"The worker {worker.exit_in_words} {when}{status}{self._where_words_are()}."

    def _where_words_are(self) -> str:
        """Where a command has written why it ended, for the end of a sentence; the journal's is looked up."""
        if self._peer is None or self._peer.pid is None or not self._settings.executes or stderr_is_journal():
            return ""
        from ..hooks.stderr_tail import where_they_are

        return f"; {where_they_are(self._peer.pid)}"

    def _workers_gave_up(self, why: str) -> None:
        hopeless = self._pool.is_hopeless
        if self.state is State.OPENING and (self._pool.first_crash_is_final or hopeless):
            status = ExitStatus.CONFIG if hopeless else ExitStatus.UNAVAILABLE
            self._give_up(status, f"The service did not get ready: {why}.")
        elif self.state in (State.OPENING, State.SERVING):
            self._give_up(ExitStatus.GAVE_UP, f"Gave up after {self._settings.crash_limit} crashes: {why}.")
        else:
            return  # a reload is going on, which may bring the cure
        self._happen(Event.GAVE_UP)

    def _crash_loop(self, why: str) -> None:
        self._generation_log.crash_loop(why, is_main=self._is_main)
        self._handover.tell_counters()

    # -------------------------------------------------------------------------------------------- the other side

    def _passed_fds(self) -> dict[str, int]:
        """The descriptors a successor gets beside the channel."""
        fds = {"lock": self._lock.path_fd()}
        if self._control is not None:
            fds["control"] = self._control.fileno()
        if self._started.init is not None:
            fds["init"] = self._started.init.fileno()
        return fds | self._started.listening.passed_fds()

    def _pool_facts(self) -> dict[str, object]:
        """What a successor has to know of how many we are."""
        return {"configured": self._pool_size.configured, "workers": self._pool.size}

    def _hear_verdict(self, entry: CatalogEntry, facts: Mapping[str, object], hook: NotifySetting | None) -> None:
        self._generation_log.verdict(entry, facts, hook)
        self._tell_status_soon()  # which may have to remember it

    def _adopt_caller(self, connection: int) -> None:
        if self._control is not None:
            self._control.adopt(connection)
        else:
            os.close(connection)

    def _be_named(self) -> None:
        self._named_main = True

    def _be_unwanted(self) -> None:
        if self.state in (State.WARMING, State.CLAIMING):
            _log.warning("The predecessor wants no successor any more, leaving")
            self._happen(Event.STOP_ASKED)

    def _lock_may_be_free(self) -> None:
        self._try_lock()
        self._settle()

    # -------------------------------------------------------------------------------------- people and systemd

    def _ask_reload(self, reload: Reload) -> None:
        self._handover.ask(reload, at_most=self._longest_wait())

    def _refuse_reload(self, reload: Reload, why: str) -> None:
        self._handover.refuse(reload, why, stops=PHASES[self.state].main_state == "stopping")

    def _interrupt(self) -> None:
        """Ctrl-C, by somebody who waits: the first is a stop and says how long that may take, the next one ends it."""
        if not self._was_interrupted:
            self._was_interrupted = True
            self._happen(Event.STOP_ASKED)
            if self._is_main and self.state is not State.GONE:
                peer_seconds = self._peer.stop_timeout if self._peer is not None else 0.0
                seconds = max(self._settings.stop_timeout, peer_seconds, self._handover.draining.seconds_left())
                _log.warning("Stopping; workers may take up to %.0f s; Ctrl-C again ends them at once", seconds)
        elif not self._ends_at_once and PHASES[self.state].main_state == "stopping" and self.state is not State.GONE:
            self._ends_at_once = True
            self._exit_status = ExitStatus.INTERRUPTED
            _log.warning("Ctrl-C again; ending all workers at once")
            self._generation_log.abandon()
            self._handover.draining.kill()
            self._happen(Event.DEADLINE)  # of the stop

    def _count(self, what: str, *which: str, amount: float = 1) -> None:
        self._generation_log.counters.count(what, *which, amount=amount)
        self._handover.tell_counters()

    def _become_main(self, systemd_believes: str) -> None:
        self._is_main = True
        if self._started.init is not None:
            self._started.init.say_main(self._settings.stop_timeout)
        self._handover.draining.take_over()
        self._reporter.become_main(systemd_believes=systemd_believes)
        if self._control is not None:
            self._control.accept_calls()

    def _retire(self) -> None:
        self._is_main = False
        still_telling = self._generation_log.retires()
        if still_telling:
            self._handover.extend(still_telling)  # whoever sees us out is to wait for that
        self._handover.draining.leave_to_successor()
        self._reporter.retire()
        if self._control is not None:
            self._control.stop_accepting()
            # At once, not when we leave, which may be hours from now: what they ask is of whoever serves.
            self._control.leave_idle_callers(self._handover.leave_caller)

    @property
    def _is_brief(self) -> bool:
        """Nothing is checked, tried or waited for in this state: it is over at once, or with the successor's next word,
        and not worth one of ours."""
        match self.state:
            case State.CHECKING:
                return not self._seconds("peer_check_timeout")
            case State.WATCHING:
                return not self._seconds("peer_probation")
            case State.RESTORING:
                return self._pool.settled  # what else is waited for takes no time to speak of
            case _:
                return False

    def _tell_status_soon(self) -> None:
        """Of hundreds of workers to which something happens at the same time systemd need hear only once."""
        if self._status_timer is None:
            self._status_timer = self._loop.call_later(0, self._tell_status)

    def _tell_status(self) -> None:
        if self._status_timer is not None:
            self._status_timer.cancel()
            self._status_timer = None
        if self._is_brief:
            return
        reload = self._handover.reload
        self._reporter.report(
            PHASES[self.state].main_state,
            self._status.sentence(self.state),
            systemd_reloads=reload is not None and reload.by_systemd,
        )
