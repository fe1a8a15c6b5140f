"""The shell around the takeover table: it turns what happens into events, and performs the table's effects.

The shell decides nothing about which generation serves; see core/takeover.py. Everything runs in one thread, in
callbacks of one event loop, and nothing blocks.
"""

import logging
import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from ..child import class_main
from ..control.server import ControlServer
from ..core.phases import PHASES, Clients
from ..core.takeover import RULES, Event, State, step
from ..errors import ExitStatus, ImpossibleEvent
from ..handover.handover import Handover
from ..handover.lock import Lock
from ..handover.peer import NotifySetting
from ..handover.started import Started
from ..linux import limits, process_title
from ..linux.event_loop import EventLoop, Timer
from ..settings.settings import Settings
from ..systemd import logs
from ..systemd.catalog import CatalogEntry, entry_fields
from ..systemd.reporter import Reporter
from ..workers.pool import Pool
from ..workers.source import Source, WorkerContext
from . import scaling
from .deadline import Deadline
from .effects import Effects
from .generation_log import GenerationLog
from .main_role import MainRole
from .operators import Operators
from .pool_events import PoolEvents, leave_refused, rejects_successor
from .requests import Requests
from .status import Status
from .trial import Trial

_log = logging.getLogger("sdsupervise")


class Supervisor:
    """The supervisor of one generation. `run` returns the exit status.

    It is the Shell of its parts, and the owner of the handover, the deadline and the source of workers.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        started: Started,
        *,
        source: Callable[[WorkerContext], Source],
        stop_signals: Iterable[signal.Signals],
        can_reload: bool,
    ) -> None:
        self.settings, self.started, self.generation = settings, started, started.generation
        self.state = State.WARMING if started.welcome else State.OPENING
        self.is_main = started.welcome is None
        self._events: deque[Event] = deque()
        self._stepping = False
        self._status_timer: Timer | None = None
        self.exit_status = int(ExitStatus.OK)

        self._loop = loop = EventLoop()
        logs.attach(loop)
        self.reporter = Reporter(loop, started.notifier)
        self._source = source(
            WorkerContext(loop, settings, self.generation, self, started.listeners, started.code_version)
        )
        size = scaling.size_of_pool(settings)
        self._pool_events = PoolEvents(self, self._source)
        self.pool = Pool(
            loop,
            settings,
            self._pool_events,
            generation=self.generation,
            size=scaling.first_size(size, started.welcome),
            forks=self._source.forks,
        )
        self._lock = Lock(started.pid_file)
        self._trial = Trial(loop, self)
        self.generation_log = GenerationLog(
            *(loop, name, settings, self.generation, started.code_version), on_quiet=self.reconsider
        )
        why_never = "" if can_reload else f"{name} cannot be reloaded: its class does not set can_do_hot_reload."
        self._operators = Operators(loop, self)
        self._requests = Requests(self.pool, self._operators, size, stop_signals=stop_signals, why_never=why_never)
        self._control: ControlServer | None = None
        if started.control is not None:
            commanders = self._requests.commanders
            self._control = ControlServer(
                loop, started.control, on_call=self._requests.take_call, privileged=commanders
            )
        counters = self.generation_log.counters
        self.handover = Handover(
            *(loop, started, settings, counters, self),
            pool=self.pool,
            configured_workers=size.configured,
            lock=self._lock,
            control=self._control,
        )
        self._deadline = Deadline(loop, settings, self.handover, self)
        parts = (self.pool, self.handover, counters)
        self.status = Status(name, settings, size, started, *parts, can_reload=can_reload)
        self._main_role = MainRole(self, self._lock, self._control, self._source)
        self._effects = Effects(loop, self, self._lock, self._trial, self._main_role)

    def run(self) -> int:
        """Supervise until the end of this generation. Returns the exit status."""
        self._loop.watch(self._requests.fileno(), self._requests.take_signals)
        if self.started.init is not None:
            self.started.init.say_here()
        if self.started.welcome is not None:
            process_title.show("successor")  # anew: the service's code, loaded since, may have a title of its own
            self.handover.meet_predecessor(self.started.welcome)
        else:
            self.pool.first_crash_is_final = self.started.notifier.active
            self._main_role.take("starting")
        class_main.prepare()
        self.generation_log.starts()
        # Enter the state within the loop: a worker that is forked now must not outlive an error below.
        self._loop.call_later(0, self._enter_first_state)
        self._loop.run()
        return self.exit_status

    def _enter_first_state(self) -> None:
        self._stepping = True
        if self.state is State.WARMING:
            self.pool.start_once()  # a worker that dies is not replaced
        self._enter()
        self._drain_events()

    # ------------------------------------------------------------------------------------------ events and rules

    def happen(self, event: Event) -> None:
        """See Shell."""
        if event in (Event.PEER_ASKS_YIELD, Event.PEER_ASKS_LOCK) and rejects_successor(self):
            return
        self._events.append(event)
        if not self._stepping:
            self._drain_events()

    def reconsider(self) -> None:
        """See Shell."""
        if not self._stepping:
            self._drain_events()

    def look_and_happen(self, event: Event) -> None:
        """See Shell. Used before the main pid is named, and before a reload is reported as done: the successor must
        still live, and a stop goes first."""
        state = self.state
        self._requests.take_signals()
        if self.handover.peer is not None:
            self.handover.peer.look()
        if self.state is state:
            self.happen(event)

    def _drain_events(self) -> None:
        self._stepping = True
        try:
            while self._events or self._note_conditions():
                self._step(self._events.popleft())
        finally:
            self._stepping = False
        self._operators.look()

    def _note_conditions(self) -> bool:
        """Add the event of a lasting condition, if the state waits for it and no other event waits.

        Returns whether there is an event.
        """
        rules, peer = RULES[self.state], self.handover.peer
        if Event.NO_WORKER in rules and not self.pool.workers and not self._sees_somebody_out():
            if Event.PEER_GONE in rules and peer is not None:
                peer.look()  # one supervisor must stay, to serve or to clean up
            if not self._events:
                self._events.append(Event.NO_WORKER)
        elif Event.NO_PEER in rules and (peer is None or peer.gone):
            self._events.append(Event.NO_PEER)
        elif Event.WORKERS_SETTLED in rules and self.pool.settled and not self.handover.searches_words:
            self._events.append(Event.WORKERS_SETTLED)
        return bool(self._events)

    def _sees_somebody_out(self) -> bool:
        """Whether our exit must wait although we have no workers: notify_command runs, or the service stops and a
        draining generation still has a worker."""
        phase, draining = PHASES[self.state], self.handover.draining
        if phase.waits_for_hooks and self.generation_log.busy:
            return True
        if not phase.waits_for_draining or not draining:
            return False
        draining.tell_empty()
        return bool(draining)

    def _step(self, event: Event) -> None:
        before = self.state
        if event is Event.PEER_EMPTY and before is State.DRAINING:
            self.generation_log.abandon()  # the service stops, and only this generation is left
        try:
            rule = step(before, event)
        except ImpossibleEvent as error:
            # A bug of ours must not leave the service without a supervisor: report it, and change nothing.
            extra = entry_fields(CatalogEntry.BUG, reason=str(error))
            _log.critical("%s Please report this; ignoring it", error, extra=extra)
            return
        if rule is None:
            return
        self.state = rule.next
        if rule.next is not before:
            self._steer_clients()  # before the effects inform other processes
        if rule.next is State.STOPPING:
            self.tell_status()  # before the reload is answered: systemd then ends the reload job
        for effect in rule.effects:  # the only place; tests stop a supervisor here (tests/support/breakpoints)
            self._effects.perform(effect)
        if rule.next is not before:
            _log.debug("%s+%s: %s", before.name, event.name, rule.next.name)
            self._enter(event)
        elif event is Event.DEADLINE:
            self._deadline.begin()

    def _steer_clients(self) -> None:
        clients = PHASES[self.state].clients
        if clients is not None and not (clients is Clients.THEIRS and self._is_brief):
            self.started.listening.steer(clients)

    def _enter(self, event: Event | None = None) -> None:
        """Apply the consequences of the new state. The event matters only for what it says about the peer."""
        state, phase = self.state, PHASES[self.state]
        if state is not State.COMMITTING:
            self.reporter.forget_barrier()
        if state is not State.ON_TRIAL:
            self._trial.end()
        if phase.is_main and not self.is_main:
            self._main_role.take("ready")
            if event is Event.PEER_COMMITTED:
                self.handover.let_drain()
        match state:
            case State.SERVING:
                self.note_serving(by_verdict=event is Event.PEER_COMMITTED)
                self.pool.first_crash_is_final = False
                self.started.listening.settle(alone=not self.handover.draining)
                self._pool_events.end_if_final()
            case State.DRAINING:
                self._main_role.give_up()
            case State.STOPPING:
                self._main_role.take_for_stop()
                self.handover.refuse_waiting()
                self.generation_log.stops(self.status.gave_up_because, is_main=self.is_main)
        if state is not State.WARMING:
            self.pool.want(phase.wants_workers)
        self.pool.recycle(state is State.SERVING)
        leave_refused(self)
        self._deadline.begin()
        self.tell_status()
        sentence = "" if self._is_brief else self.status.sentence_of_phase(state)
        self.handover.reloads.enter(state, sentence, at_most=self._deadline.longest_wait())
        if self._operators.end_at_once and state is State.EMPTY:
            self.happen(Event.DEADLINE)
        if phase.awaits_lock:
            self._try_lock()
        self._settle()

    def _settle(self) -> None:
        """In SERVING, forget a peer that left nothing behind."""
        if self.state is State.SERVING and self.handover.settle():
            self._deadline.begin()

    # ----------------------------------------------------------------------------------- the deadline and the lock

    def put_off_deadline(self, seconds: float) -> None:
        """See Shell and HandoverOwner."""
        self._deadline.put_off(seconds)

    def bind_deadline(self, seconds: float) -> None:
        """See HandoverOwner."""
        self._deadline.bind(seconds)

    def deadline_passed(self) -> None:
        """See DeadlineOwner."""
        phase, peer = PHASES[self.state], self.handover.peer
        if phase.awaits_lock:
            if self._try_lock():
                return
            if phase.gives_up_lock and (peer is None or peer.left_nothing):
                name = self._lock.name or "The lock"
                self.give_up(
                    ExitStatus.UNAVAILABLE, f"{name} is locked by a process that does not belong to this service."
                )
                self.happen(Event.STOP_ASKED)
                return
        elif phase.awaited and peer is not None:
            limit = self._deadline.seconds_of(self.state)
            peer.fails_for(f"The new code was not {phase.awaited} within {limit:g} s.")
        elif self.state is State.WARMING:  # the old code may have a longer limit
            limit = self.settings.reload_timeout
            self.handover.tell_reason(f"The new code was not ready within its {limit:g} s.")
        if phase.looks_first:
            self.look_and_happen(Event.DEADLINE)
        else:
            self.happen(Event.DEADLINE)

    @property
    def longest_wait(self) -> float:
        """See Shell."""
        return self._deadline.longest_wait()

    def give_up(self, status: ExitStatus, why: str) -> None:
        """See Shell."""
        self.exit_status, self.status.gave_up_because = status, why
        self.generation_log.gave_up(why)

    def end(self, status: int, why: str) -> None:
        """See Shell."""
        self.exit_status, self.status.gave_up_because = status, f"{why}: the service ends."
        if self.state is State.OPENING and status == ExitStatus.OK:
            self.reporter.report("ready", self.status.gave_up_because, ready=True)  # or the start would have failed
        _log.warning("%s: the service ends", why)

    def lock_may_be_free(self) -> None:
        """See HandoverOwner."""
        self._try_lock()
        self._settle()

    def _try_lock(self) -> bool:
        """Take the lock if it is free. Called when a process that may have held it dies or releases it."""
        if Event.LOCK_GAINED in self._events:
            return True
        if not PHASES[self.state].awaits_lock or self._must_not_serve_beside_peer() or not self._lock.try_take():
            return False
        self.happen(Event.LOCK_GAINED)
        return True

    def _must_not_serve_beside_peer(self) -> bool:
        """Whether a worker of the peer lives and one of the services is exclusive.

        Usually the lock is not free then, because an exclusive worker holds it too. A worker of an overlapping service
        does not.
        """
        peer = self.handover.peer
        return peer is not None and peer.has_workers and not self.handover.overlaps

    # ------------------------------------------------------------------------------------------------ the workers

    def close_in_child(self) -> None:
        """See SourceOwner. Keeps the lock's open file description, except in overlap."""
        logs.close_in_child()
        self._requests.close_in_child()
        self.started.notifier.close_in_child()
        if self._control is not None:
            self._control.close()
        self.handover.close_in_child()
        self.started.listening.close_in_child()
        # In overlap the lock must be free as soon as the supervisor closes it.
        self._lock.become_workers(keep=not self.settings.overlaps)
        self._loop.close_in_child()  # with all that it watches, including what belongs to other workers
        limits.restore_in_child()

    def lock_in_child(self) -> int | None:
        """See SourceOwner."""
        return None if self.settings.overlaps else self._lock.fileno()

    @property
    def checks(self) -> bool:
        """See Shell."""
        return self._trial.checks

    def worker_serves(self) -> None:
        """See Shell."""
        self._trial.tell_serving()
        self.note_serving()
        self.reconsider()  # the workers may be settled now (RESTORING)

    def count(self, what: str, *which: str, amount: float = 1) -> None:
        """See Shell."""
        self.generation_log.counters.count(what, *which, amount=amount)
        self.handover.tell_counters()

    def note_serving(self, *, by_verdict: bool = False) -> None:
        """See Shell."""
        if self.state is State.SERVING and (by_verdict or self.pool.serving):
            self.generation_log.serves(by_verdict=by_verdict)
            self.status.begin_serving()

    # -------------------------------------------------------------------------------------------- the handover

    def main_pid_is_named(self) -> None:
        """See HandoverOwner."""
        self._main_role.is_named = True

    def peer_wants_no_successor(self) -> None:
        """See HandoverOwner."""
        if PHASES[self.state].is_unproven:
            _log.warning("The predecessor has given up the reload; leaving")
            self.happen(Event.STOP_ASKED)

    def let_successor_leave(self, seconds: float) -> None:
        """See HandoverOwner. Before it serves, a failing successor still has to stop its own workers."""
        if self.state is State.STARTING_SUCCESSOR:
            self._deadline.put_off(seconds)
            self.handover.reloads.bound("", at_most=seconds + self.settings.takeover_timeout)

    def lane_is_needed(self) -> None:
        """See HandoverOwner."""
        self._effects.lane_is_needed()

    def reload_ended(
        self, entry: CatalogEntry, facts: Mapping[str, object], notify_setting: NotifySetting | None
    ) -> None:
        """See HandoverOwner."""
        self.generation_log.verdict(entry, facts, notify_setting)
        self.tell_status_soon()  # it may mention the reload

    # --------------------------------------------------------------------------------------------------- systemd

    @property
    def _is_brief(self) -> bool:
        """Whether this state is over at once, or with the successor's next message, and needs no sentence."""
        if self.state is State.RESTORING:
            return self.pool.settled  # everything else in this state is quick
        lasts = PHASES[self.state].lasts
        return bool(lasts) and not self._deadline.seconds(lasts)

    def tell_status_soon(self) -> None:
        """See Shell and RequestsOwner. Many events in one turn of the event loop cause one notification."""
        if self._status_timer is None:
            self._status_timer = self._loop.call_later(0, self.tell_status)

    def tell_status(self, *, ready: bool = False) -> None:
        """See Shell."""
        if self._status_timer is not None:
            self._status_timer.cancel()
            self._status_timer = None
        if self._is_brief:
            return
        reload = self.handover.reloads.running
        self.reporter.report(
            PHASES[self.state].main_state,
            self.status.sentence(self.state),
            ready=ready,
            systemd_reloads=reload is not None and reload.by_systemd,
        )
