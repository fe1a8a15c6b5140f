"""What a supervisor's shell does: it turns what happened into an event, asks the table, performs the effects in order.

The rules it keeps besides can each be broken, as a `Lapse`: a walk then has to end badly.
"""

from collections.abc import Callable, Iterator

from sdsupervise.core.phases import PHASES
from sdsupervise.core.takeover import Effect, Event, State
from tests.support.places import ENDS_WITH_TIME, WITHOUT_LOCK

from . import kernel
from .joint import (
    ABSENT,
    BOUND,
    BY_SYSTEMCTL,
    CALLED_OFF,
    CALLED_OFF_READY,
    CHECKED,
    CRASHES,
    DEAD,
    DOOMED,
    DRAINING,
    EVENT_INDEX,
    EVENTS,
    EXCUSED,
    HANGING,
    HUNG,
    INBOX,
    LOCK,
    LOCK_FD,
    MODE,
    NEW,
    NO_WORKER,
    NOBODY_TO_CLEAN,
    NOBODY_TO_SERVE,
    NOTIFY,
    OLD,
    PASSED,
    PID_FILE,
    PROVEN,
    READY,
    REFUTED,
    RELEASED,
    RETURNED,
    RUNS,
    SEEN_OUT,
    SIDES,
    STARTING,
    STARTING_LATE,
    STATE_INDEX,
    STATES,
    STOP,
    TERM,
    TOKEN,
    TOLD,
    TRIAL,
    UNREAD,
    UNREAPED,
    VERDICT,
    WAITING,
    WORKER,
    Joint,
    first_message,
    lives,
)
from .promises import check_answer
from .table import Compiled
from .walk import Broken, Kind, Move
from .world import Lapse, World

_WANTS_WORKERS = tuple(PHASES[state].wants_workers for state in STATES)
_HAS_DEADLINE = tuple(bool(PHASES[state].deadline) for state in STATES)
# Where a hung worker has a deadline of its own: where there may be one and it was not told to stop.
_WATCHES_WORKERS = tuple(
    PHASES[state].wants_workers or PHASES[state].is_unproven or state in WITHOUT_LOCK for state in STATES
)
_ENDS_WITH_TIME = frozenset(STATE_INDEX[state] for state in ENDS_WITH_TIME)
# A SIGTERM here cancels the reload, or comes after that; everywhere else it is a stop of the service.
_CANCELS = frozenset(STATE_INDEX[state] for state in (State.WARMING, State.CLAIMING, State.FAILED, State.LEAVING))
_GIVES_UP_CLEANING = frozenset(STATE_INDEX[state] for state in (State.LEAVING, State.FAILED))
_OPENING, _SERVING, _WARMING, _ACTING, _COMMITTING, _RESTORING, _GONE = (
    STATE_INDEX[state]
    for state in (
        *(State.OPENING, State.SERVING, State.WARMING, State.ON_TRIAL),
        *(State.COMMITTING, State.RESTORING, State.GONE),
    )
)
_MESSAGES = {
    Effect.ASK_YIELD: EVENT_INDEX[Event.PEER_ASKS_YIELD],
    Effect.TELL_CHECKED: EVENT_INDEX[Event.PEER_CHECKED],
    Effect.TELL_FAILED: EVENT_INDEX[Event.PEER_FAILED],
    Effect.TELL_COMMITTED: EVENT_INDEX[Event.PEER_COMMITTED],
    Effect.TELL_STOP: EVENT_INDEX[Event.PEER_STOPS],
    Effect.TELL_EMPTY: EVENT_INDEX[Event.PEER_EMPTY],
}
_PEER_COMMITTED = EVENT_INDEX[Event.PEER_COMMITTED]
_PEER_ASKS_LOCK = EVENT_INDEX[Event.PEER_ASKS_LOCK]
_PEER_SERVES = EVENT_INDEX[Event.PEER_SERVES]
_PEER_MESSAGES = frozenset(index for index, event in enumerate(EVENTS) if event.name.startswith("PEER_")) - {
    EVENT_INDEX[Event.PEER_GONE]
}
_CHECK_PASSED = EVENT_INDEX[Event.CHECK_PASSED]
_CHECK_FAILED = EVENT_INDEX[Event.CHECK_FAILED]
_CHECKS_END = {PASSED: _CHECK_PASSED, REFUTED: _CHECK_FAILED}
_WORKER_READY = EVENT_INDEX[Event.WORKER_READY]
_WORKER_GONE = EVENT_INDEX[Event.WORKER_GONE]
_NO_WORKER = EVENT_INDEX[Event.NO_WORKER]
_WORKERS_SETTLED = EVENT_INDEX[Event.WORKERS_SETTLED]
_GAVE_UP = EVENT_INDEX[Event.GAVE_UP]
_LOCK_GAINED = EVENT_INDEX[Event.LOCK_GAINED]
_PEER_GONE = EVENT_INDEX[Event.PEER_GONE]
_NO_PEER = EVENT_INDEX[Event.NO_PEER]
_BARRIER_RETURNED = EVENT_INDEX[Event.BARRIER_RETURNED]
_DEADLINE = EVENT_INDEX[Event.DEADLINE]
_RELOAD_ASKED = EVENT_INDEX[Event.RELOAD_ASKED]
_STOP_ASKED = EVENT_INDEX[Event.STOP_ASKED]


class Shell:
    """The shells of both supervisors."""

    def __init__(self, table: Compiled, world: World, lapses: frozenset[Lapse]) -> None:
        self._table = table
        self._world = world
        self._lapses = lapses
        # An overlap's workers hold none: the lock has to be free while they serve.
        wrongly = (Lapse.WORKERS_KEEP_LOCK if world.overlap else Lapse.WORKERS_WITHOUT_LOCK) in lapses
        self._holds_copies = (world.overlap or world.mixed) == wrongly
        self._waits_for_peers_workers = world.mixed and Lapse.SERVES_BESIDE_PEER not in lapses
        self._rules = tuple(frozenset(event for event, rule in row.items() if rule) for row in table)
        self._labels = {
            (side, state, event): f"{SIDES[side]}: {STATES[state].name} + {EVENTS[event].name}"
            for side in (OLD, NEW)
            for state in range(len(STATES))
            for event in range(len(EVENTS))
        }
        self.met: set[tuple[int, int]] = set()  # the pairs of state and event that occurred
        self._answers_in = _OPENING  # the state whose rule is being followed
        self._perform: dict[Effect, Callable[[list[int], int], None]] = {
            Effect.RELEASE_WORKERS: _release_workers,
            Effect.STOP_WORKERS: _stop_workers,
            Effect.KILL_WORKERS: self._kill_workers,
            Effect.OPEN_LOCK: _open_lock,
            Effect.CLOSE_LOCK: self._close_lock,
            Effect.WRITE_PID: _write_pid,
            Effect.START_SUCCESSOR: _start_successor,
            Effect.TELL_SERVING: self._prove,
            Effect.KILL_PEER: self._kill_peer,
            Effect.KILL_PEER_WORKERS: self._kill_peer_workers,
            Effect.TELL_READY: _tell_ready,
            Effect.NAME_MAIN_PID: self._name_main_pid,
            Effect.ANSWER_DONE: self._answer_done,
            Effect.ANSWER_FAILED: self._answer_failed,
            Effect.EXIT: kernel.die,
        }
        for effect, message in _MESSAGES.items():
            self._perform[effect] = _telling(message)
        if world.overlap:
            self._perform[Effect.ASK_YIELD] = _telling(_PEER_ASKS_LOCK)
        assert set(self._perform) == set(Effect)

    def waits_for_lock(self, state: int) -> bool:
        """Whether a supervisor in this state tries to get it."""
        return _LOCK_GAINED in self._rules[state]

    def may_take_lock(self, joint: Joint, side: int) -> bool:
        """Whether it does so next: the lock is free, and whoever must not serve beside it is gone."""
        free = not joint[LOCK] and joint[side + LOCK_FD] and self.waits_for_lock(joint[side])
        return bool(free and not (self._waits_for_peers_workers and lives(joint[kernel.other(side) + WORKER])))

    def settled(self, joint: list[int]) -> Joint:
        """See `kernel.settled`."""
        return kernel.settled(joint, systemd=self._world.systemd, workers_hold_copies=self._holds_copies)

    def moves(self, joint: Joint, side: int) -> Iterator[Move]:
        """Everything one supervisor can do next."""
        state, worker = joint[side], joint[side + WORKER]
        if state >= DEAD or joint[side + MODE] & HUNG:
            return
        news = self._news(joint, side)
        for event in news:
            yield from self._answer(joint, side, event, Kind.ITSELF)
        rules = self._rules[state]
        if worker == NO_WORKER:
            in_haste = Lapse.LEAVES_IN_HASTE in self._lapses and joint[TRIAL] not in _CHECKS_END
            sees_out = side == NEW and joint[DRAINING]
            if _NO_WORKER in rules and not sees_out and (not news or in_haste):
                yield from self._answer(joint, side, _NO_WORKER, Kind.ITSELF)
            if _WANTS_WORKERS[state]:
                after = list(joint)
                after[side + WORKER] = STARTING
                yield f"{SIDES[side]}: starts a worker", self.settled(after), Kind.ITSELF
                if _GAVE_UP in rules:
                    yield from self._answer(joint, side, _GAVE_UP, Kind.OUTSIDE)
        if _WORKERS_SETTLED in rules and worker % HANGING in (RELEASED, NO_WORKER):  # one that is no more has tried
            yield from self._answer(joint, side, _WORKERS_SETTLED, Kind.ITSELF)
        if worker > HANGING and _WATCHES_WORKERS[state] and Lapse.NO_WORKER_DEADLINE not in self._lapses:
            after = list(joint)
            kernel.kill_worker(after, side)
            yield f"{SIDES[side]}: kills its hung worker", self.settled(after), Kind.DEADLINE
        if side == NEW and joint[TRIAL] == STARTING_LATE and worker == RELEASED:
            after = list(joint)
            self._say_serving(after)
            yield f"{SIDES[side]}: its worker is up", self.settled(after), Kind.ITSELF
        if (
            side == NEW
            and joint[DRAINING]
            and not self._world.patient
            and (joint[OLD] < DEAD or lives(joint[OLD + WORKER]))
        ):
            after = list(joint)
            self._kill_peer(after, side)
            self._kill_peer_workers(after, side)
            yield f"{SIDES[side]}: kills what should have left by now", self.settled(after), Kind.DEADLINE
        if _NO_PEER in rules and joint[kernel.other(side)] == ABSENT:
            yield from self._answer(joint, side, _NO_PEER, Kind.ITSELF)
        if self._deadline_can_pass(joint, side):
            soon = state in _ENDS_WITH_TIME and not self._world.trial
            yield from self._answer(joint, side, _DEADLINE, Kind.ITSELF if soon else Kind.DEADLINE)

    def reload(self, joint: Joint) -> Iterator[Move]:
        """Somebody asks the old side for a reload. Elsewhere it is refused, without asking the table."""
        idle = (
            joint[OLD] == _SERVING
            and not joint[OLD + MODE]
            and joint[NEW] == ABSENT
            and not joint[NEW + WORKER]
            and joint[NOTIFY] != UNREAD
            and joint[STOP] != BY_SYSTEMCTL
            and not joint[BOUND]
        )
        if idle:
            yield from self._answer(joint, OLD, _RELOAD_ASKED, Kind.OUTSIDE)

    # ------------------------------------------------------------------------------------------------- events
    def _news(self, joint: Joint, side: int) -> list[int]:
        """What waits to be handled, in any order."""
        inbox, peer, worker = joint[side + INBOX], joint[kernel.other(side)], joint[side + WORKER]
        news = []
        if inbox:
            news.append(first_message(inbox))
        if peer == DEAD and (not inbox or Lapse.DEATH_BEFORE_MESSAGES in self._lapses):
            news.append(_PEER_GONE)
        if worker == UNREAPED:
            news.append(_WORKER_GONE)
        elif worker % HANGING in (READY, CALLED_OFF_READY):
            news.append(_WORKER_READY)
        if joint[side + TERM]:
            news.append(_STOP_ASKED)
        if joint[LOCK] == side + 1 and self.waits_for_lock(joint[side]):
            news.append(_LOCK_GAINED)
        if side == NEW and joint[TRIAL] in _CHECKS_END:
            news.append(_CHECKS_END[joint[TRIAL]])
        if side == OLD and joint[NOTIFY] == RETURNED and self._looked_around(joint):
            news.append(_BARRIER_RETURNED)
        return news

    def _looked_around(self, joint: Joint) -> bool:
        """Whether nothing else waits for a predecessor that is about to commit."""
        sees_death = joint[NEW] != DEAD or Lapse.COMMITS_BEFORE_DEATH in self._lapses
        sees_signal = not joint[OLD + TERM] or Lapse.COMMITS_BEFORE_SIGTERM in self._lapses
        return sees_death and sees_signal

    def _deadline_can_pass(self, joint: Joint, side: int) -> bool:
        state, peer = joint[side], kernel.other(side)
        if not _HAS_DEADLINE[state] or (self._world.patient and state not in _ENDS_WITH_TIME):
            return False
        if side == NEW and joint[DRAINING] and state == _SERVING:
            return False  # whoever drains has a deadline of its own, in every state
        if (joint[LOCK] == side + 1 and self.waits_for_lock(state)) or self.may_take_lock(joint, side):
            return Lapse.KILLS_BEFORE_TRYING_LOCK in self._lapses
        if state == _SERVING:  # set only while old processes remain
            return joint[peer] < DEAD or lives(joint[peer + WORKER])
        return state != _COMMITTING or self._looked_around(joint)

    def _answer(self, joint: Joint, side: int, event: int, kind: Kind) -> Iterator[Move]:
        """An event and its rule's effects, or as many of them as a crash leaves time for."""
        state = joint[side]
        self.met.add((state, event))
        if event not in self._table[state]:
            raise Broken(f"impossible: {self._labels[side, state, event]}")
        after = list(joint)
        self._consume(after, side, event)
        if side == NEW and after[DRAINING] and event == _STOP_ASKED:
            # Each event is an occasion to tell it once more that it may leave; this one, as it may come from there,
            # has to be.
            after[DRAINING] = SEEN_OUT
        binding = event == _GAVE_UP or (event == _STOP_ASKED and state not in _CANCELS)
        newly_bound = binding and not after[BOUND]
        if binding:
            after[BOUND] = 1
        rule = self._table[state][event]
        label = self._labels[side, state, event]
        if rule is None:
            yield label, self.settled(after), kind
            return
        next_state, effects = rule
        if next_state in _GIVES_UP_CLEANING and side == NEW and after[OLD + MODE] == HUNG:
            after[EXCUSED] |= NOBODY_TO_SERVE | NOBODY_TO_CLEAN  # it leaves a hung predecessor to itself
        if next_state != _GONE:
            after[side] = next_state
        self._answers_in = state
        for index, effect in enumerate(effects):
            if index and joint[CRASHES]:
                cut = list(after)
                kernel.crash(cut, side)
                if newly_bound and Effect.TELL_STOP in effects[index:]:
                    cut[BOUND] = 0  # it died before it could pass the stop on
                yield f"{label}, dies before {effect.name}", self.settled(cut), Kind.OUTSIDE
            self._perform[effect](after, side)
            kernel.free_lock(after, workers_hold_copies=self._holds_copies)
        if side == NEW and state == _ACTING and event == _PEER_COMMITTED and after[NEW] == _SERVING:
            kernel.watch_until_gone(after)
        yield label, self.settled(after), kind

    def _consume(self, joint: list[int], side: int, event: int) -> None:
        """What makes the event happen is used up by it."""
        if event in _PEER_MESSAGES:
            joint[side + INBOX] >>= 5
        elif event == _PEER_GONE:
            joint[kernel.other(side)] = ABSENT
            joint[side + INBOX] = 0
        elif event == _WORKER_GONE:
            joint[side + WORKER] = NO_WORKER
        elif event == _WORKER_READY:
            joint[side + WORKER] += WAITING - READY if joint[side + WORKER] % HANGING == READY else -1
        elif event == _STOP_ASKED:
            joint[side + TERM] = 0
        elif event == _BARRIER_RETURNED:
            joint[NOTIFY] = 0
        elif event in (_CHECK_PASSED, _CHECK_FAILED):
            joint[TRIAL] = PROVEN if event == _CHECK_PASSED and joint[side] == _ACTING else 0

    # ------------------------------------------------------------------------------------------------ effects
    def _close_lock(self, joint: list[int], side: int) -> None:
        joint[side + LOCK_FD] = 0
        if Lapse.UNLOCKS in self._lapses and joint[LOCK] == side + 1:
            joint[LOCK] = 0

    def _kill_peer(self, joint: list[int], side: int) -> None:
        peer = kernel.other(side)
        if joint[peer] >= DEAD:
            return
        self._needs_killing(peer)
        if Lapse.KILLS_WITHOUT_TOKEN not in self._lapses:
            if joint[TOKEN] not in (0, side + 1):
                return
            joint[TOKEN] = side + 1
        joint[peer + MODE] |= DOOMED

    def _kill_peer_workers(self, joint: list[int], side: int) -> None:
        peer = kernel.other(side)
        # A peer that was spared for want of the token kills us, and its workers are the ones to serve.
        ours = joint[peer] == ABSENT or joint[TOKEN] == side + 1 or Lapse.KILLS_WITHOUT_TOKEN in self._lapses
        if ours and Lapse.WORKERS_UNANNOUNCED not in self._lapses:
            self._kill_workers(joint, peer)

    def _kill_workers(self, joint: list[int], side: int) -> None:
        if lives(joint[side + WORKER]):
            self._needs_killing(side)
            kernel.kill_worker(joint, side)

    def _needs_killing(self, side: int) -> None:
        if self._world.patient and not self._world.crashes:
            raise Broken(f"a needless kill on the {SIDES[side]} side")

    def _prove(self, joint: list[int], side: int) -> None:
        if self._world.late:
            joint[TRIAL] = STARTING_LATE
        else:
            self._say_serving(joint)

    def _say_serving(self, joint: list[int]) -> None:
        kernel.send(joint, NEW, _PEER_SERVES)
        joint[TRIAL] = CHECKED if self._world.trial else PASSED

    def _name_main_pid(self, joint: list[int], side: int) -> None:
        joint[NOTIFY] = UNREAD if self._world.systemd else RETURNED

    def _answer_done(self, joint: list[int], side: int) -> None:
        check_answer(joint, Effect.ANSWER_DONE, self._world)
        joint[VERDICT] = 0
        if joint[NEW + MODE] & HUNG:
            joint[EXCUSED] |= NOBODY_TO_SERVE | NOBODY_TO_CLEAN  # nobody can tell a hung one from a busy one here

    def _answer_failed(self, joint: list[int], side: int) -> None:
        check_answer(joint, Effect.ANSWER_FAILED, self._world)
        if self._world.patient and not self._world.crashes and not joint[STOP] and not joint[BOUND]:
            raise Broken("a reload fails for no reason")
        serves = joint[side + WORKER] % HANGING == RELEASED
        if joint[side] == _SERVING and not serves and self._answers_in != _RESTORING:
            raise Broken("3: failed, before it is known whether the old code serves")
        joint[VERDICT] = 0


def _release_workers(joint: list[int], side: int) -> None:
    if joint[LOCK] != side + 1:
        raise Broken("1: workers are released by one who does not hold the lock")
    if joint[side + WORKER] % HANGING == WAITING:
        joint[side + WORKER] += RELEASED - WAITING


def _stop_workers(joint: list[int], side: int) -> None:
    hung, worker = divmod(joint[side + WORKER], HANGING)
    if worker == RELEASED:
        joint[side + WORKER] = hung * HANGING + TOLD
    elif worker in (STARTING, WAITING):
        joint[side + WORKER] = hung * HANGING + CALLED_OFF
    elif worker == READY:
        joint[side + WORKER] = hung * HANGING + CALLED_OFF_READY


def _open_lock(joint: list[int], side: int) -> None:
    joint[side + LOCK_FD] = 1


def _write_pid(joint: list[int], side: int) -> None:
    if joint[LOCK] != side + 1:
        raise Broken("1: the pid file is written by one who does not hold the lock")
    joint[PID_FILE] = side + 1


def _tell_ready(joint: list[int], side: int) -> None:
    """systemd reads it; no promise of the model is about that."""


def _start_successor(joint: list[int], side: int) -> None:
    if joint[VERDICT]:
        raise Broken("3: a second reload while the first has no verdict")
    joint[VERDICT] = 1
    joint[TOKEN] = joint[NOTIFY] = joint[TRIAL] = 0
    joint[OLD + INBOX] = 0
    joint[NEW : NEW + 6] = [_WARMING, RUNS, STARTING, 0, 0, 1]


def _telling(message: int) -> Callable[[list[int], int], None]:
    def tell(joint: list[int], side: int) -> None:
        kernel.send(joint, side, message)

    return tell
