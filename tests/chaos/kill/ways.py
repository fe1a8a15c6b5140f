"""How each transition of the takeover table is made to happen.

WAYS has one entry for every rule but those in UNREACHABLE, which says why, and OVERLAP_WAYS those that are other where
both services are for overlap. `python -m tests.chaos.kill` and the tests take the rules from the table itself: a rule
that is in neither is a failure, and so is one that shows up where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sdsupervise.core.takeover import RULES, Event, State
from tests.chaos.kill.instance import Release
from tests.chaos.kill.leads import (
    ASKED_TO_YIELD,
    CAREFUL,
    FOUND_BAD,
    GAINS_LOCK,
    GOOD,
    HASTY,
    HEARS_SERVING,
    IMPATIENT,
    NAMES_MAIN,
    NEW,
    NEW_SUPERVISOR,
    NEW_WORKER,
    OLD,
    OLD_SUPERVISOR,
    OLD_WORKER,
    PASSES_CHECK,
    PATIENT,
    SLOWLY_CHECKED,
    cancel,
    checked_and,
    dead_before_us,
    empty_before_us,
    failure_on_probation,
    forced_and,
    forced_though_free,
    frozen_peer_while_empty,
    give_up,
    held_at,
    held_at_and_on,
    hung_orphan_and,
    kill,
    kill_and_revive,
    last_words_and,
    lock_comes_free,
    locked_out_and,
    lose_worker,
    new_one_stops,
    nothing,
    orphan_stops,
    orphaned_claim_and,
    recall_and,
    reload,
    reload_and_hang,
    reload_to_hold,
    restoring_and,
    start,
    start_and_fail,
    stop,
    stop_new,
    stop_of_both_and,
    stop_old,
    stop_overtakes_claim,
    stop_reaches_forcing,
    stop_reaches_serving,
    stop_while_cancelling,
    stop_while_opening,
    stop_who_starts,
    stubborn_drain_and,
    stubborn_failure_and,
    stubborn_stop,
    stubborn_yield_and,
    unsaved,
    unsaved_and_locked_out_and,
    unsaved_and_stopped,
    warm_up,
    warm_up_and,
    watched_and,
    worker_ready_while_cancelling,
)
from tests.chaos.kill.stage import Side, Stage

S, E = State, Event

# With systemd the death of the main pid is the end of all others in the unit; what the successor would do about it
# is then a race nobody needs to win.
ENDED_BY_SYSTEMD = "systemd restarts the unit when its main pid dies"


class Way(NamedTuple):
    """Leads the service to a transition of one side, which a case then holds."""

    side: Side
    lead: Callable[[Stage], None]
    old: Release = GOOD
    new: Release = GOOD
    only_plain: str = ""  # why it is not tried with systemd
    mute_pid1: bool = False  # without systemd, but with somebody who plays a pid 1 that answers nothing


WAYS: Mapping[tuple[State, Event], Way] = {
    (S.OPENING, E.WORKER_READY): Way(OLD, start),
    (S.OPENING, E.GAVE_UP): Way(OLD, start_and_fail, Release("start", {"crash_limit": 1})),
    (S.OPENING, E.STOP_ASKED): Way(OLD, stop_while_opening, PATIENT),
    #
    (S.WARMING, E.WORKER_READY): Way(NEW, reload),
    (S.WARMING, E.WORKER_GONE): Way(NEW, reload, new=Release("start")),
    (S.WARMING, E.DEADLINE): Way(NEW, warm_up, new=HASTY),
    (S.WARMING, E.PEER_GONE): Way(NEW, warm_up_and(kill(OLD_SUPERVISOR)), new=PATIENT, only_plain=ENDED_BY_SYSTEMD),
    (S.WARMING, E.PEER_STOPS): Way(NEW, warm_up_and(stop_old), new=PATIENT),
    (S.WARMING, E.STOP_ASKED): Way(NEW, warm_up_and(cancel), new=PATIENT),
    #
    (S.CLAIMING, E.LOCK_GAINED): Way(NEW, reload),
    (S.CLAIMING, E.WORKER_GONE): Way(NEW, held_at(OLD, ASKED_TO_YIELD, kill(NEW_WORKER))),
    (S.CLAIMING, E.DEADLINE): Way(NEW, held_at(OLD, ASKED_TO_YIELD, nothing)),
    (S.CLAIMING, E.PEER_GONE): Way(NEW, orphaned_claim_and(nothing), only_plain=ENDED_BY_SYSTEMD),
    (S.CLAIMING, E.PEER_STOPS): Way(NEW, stubborn_yield_and(stop_old)),
    (S.CLAIMING, E.STOP_ASKED): Way(NEW, held_at(OLD, ASKED_TO_YIELD, cancel)),
    #
    (S.KILLING_PREDECESSOR, E.LOCK_GAINED): Way(
        NEW, forced_though_free("YIELDING+NO_WORKER/0"), only_plain=ENDED_BY_SYSTEMD
    ),
    (S.KILLING_PREDECESSOR, E.PEER_GONE): Way(NEW, forced_and(nothing), only_plain=ENDED_BY_SYSTEMD),
    (S.KILLING_PREDECESSOR, E.PEER_STOPS): Way(
        NEW, forced_and(stop_reaches_forcing("YIELDING+STOP_ASKED/1")), only_plain=ENDED_BY_SYSTEMD
    ),
    (S.KILLING_PREDECESSOR, E.STOP_ASKED): Way(NEW, forced_and(stop_new), only_plain=ENDED_BY_SYSTEMD),
    #
    (S.TAKING_LOCK, E.LOCK_GAINED): Way(NEW, orphaned_claim_and(orphan_stops), only_plain=ENDED_BY_SYSTEMD),
    (S.TAKING_LOCK, E.DEADLINE): Way(NEW, hung_orphan_and(nothing), only_plain=ENDED_BY_SYSTEMD),
    (S.TAKING_LOCK, E.STOP_ASKED): Way(NEW, hung_orphan_and(stop_new), only_plain=ENDED_BY_SYSTEMD),
    #
    (S.ON_TRIAL, E.WORKER_READY): Way(NEW, held_at(OLD, NAMES_MAIN, kill(NEW_WORKER))),
    (S.ON_TRIAL, E.WORKER_GONE): Way(NEW, held_at(OLD, NAMES_MAIN, kill(NEW_WORKER))),
    (S.ON_TRIAL, E.CHECK_PASSED): Way(NEW, reload),
    (S.ON_TRIAL, E.CHECK_FAILED): Way(NEW, reload_to_hold(OLD, "CHECKING+PEER_FAILED/0"), new=FOUND_BAD),
    (S.ON_TRIAL, E.PEER_COMMITTED): Way(NEW, reload),
    (S.ON_TRIAL, E.PEER_GONE): Way(NEW, held_at(OLD, HEARS_SERVING, kill(OLD_SUPERVISOR)), only_plain=ENDED_BY_SYSTEMD),
    (S.ON_TRIAL, E.DEADLINE): Way(NEW, held_at(OLD, HEARS_SERVING, nothing)),
    (S.ON_TRIAL, E.PEER_STOPS): Way(NEW, held_at_and_on(OLD, HEARS_SERVING, stop_old)),
    (S.ON_TRIAL, E.STOP_ASKED): Way(NEW, held_at(OLD, HEARS_SERVING, stop_new)),
    #
    (S.FAILED, E.NO_WORKER): Way(NEW, warm_up, new=HASTY),
    (S.FAILED, E.DEADLINE): Way(NEW, stubborn_failure_and(nothing), new=HASTY),
    (S.FAILED, E.PEER_GONE): Way(
        NEW, stubborn_failure_and(kill(OLD_SUPERVISOR)), new=HASTY, only_plain=ENDED_BY_SYSTEMD
    ),
    (S.FAILED, E.PEER_STOPS): Way(NEW, stubborn_failure_and(stop_old), new=HASTY),
    (S.FAILED, E.STOP_ASKED): Way(NEW, stubborn_failure_and(cancel), new=HASTY),
    #
    (S.SERVING, E.WORKER_READY): Way(OLD, lose_worker),
    (S.SERVING, E.RELOAD_ASKED): Way(OLD, reload),
    (S.SERVING, E.GAVE_UP): Way(OLD, give_up, Release(settings={"crash_limit": 1})),
    (S.SERVING, E.PEER_STOPS): Way(NEW, stop_reaches_serving, new=CAREFUL, only_plain=ENDED_BY_SYSTEMD),
    (S.SERVING, E.STOP_ASKED): Way(OLD, stop),
    #
    (S.STARTING_SUCCESSOR, E.WORKER_READY): Way(OLD, warm_up_and(kill(OLD_WORKER)), new=PATIENT),
    (S.STARTING_SUCCESSOR, E.PEER_ASKS_YIELD): Way(OLD, reload),
    (S.STARTING_SUCCESSOR, E.PEER_GONE): Way(OLD, reload, new=Release("import")),
    (S.STARTING_SUCCESSOR, E.DEADLINE): Way(OLD, reload_and_hang, new=HASTY),
    (S.STARTING_SUCCESSOR, E.STOP_ASKED): Way(OLD, warm_up_and(stop_old), new=PATIENT),
    #
    (S.CANCELLING, E.WORKER_READY): Way(OLD, worker_ready_while_cancelling, Release("early", PATIENT.settings), HASTY),
    (S.CANCELLING, E.PEER_GONE): Way(OLD, reload_and_hang, new=HASTY),
    (S.CANCELLING, E.STOP_ASKED): Way(OLD, stop_while_cancelling, new=HASTY),
    #
    (S.YIELDING, E.NO_WORKER): Way(OLD, reload),
    (S.YIELDING, E.PEER_GONE): Way(OLD, stubborn_yield_and(kill(NEW_SUPERVISOR))),
    (S.YIELDING, E.DEADLINE): Way(OLD, stubborn_yield_and(nothing)),
    (S.YIELDING, E.STOP_ASKED): Way(OLD, stubborn_yield_and(stop_old)),
    #
    (S.REVIVING, E.NO_WORKER): Way(OLD, kill_and_revive(lambda stage: stage.let_worker(OLD_WORKER, "stop"))),
    (S.REVIVING, E.DEADLINE): Way(OLD, kill_and_revive(nothing)),
    (S.REVIVING, E.STOP_ASKED): Way(OLD, kill_and_revive(stop_old)),
    #
    (S.YIELDED, E.PEER_SERVES): Way(OLD, reload),
    (S.YIELDED, E.PEER_GONE): Way(OLD, held_at(NEW, GAINS_LOCK, kill(NEW_SUPERVISOR))),
    (S.YIELDED, E.DEADLINE): Way(OLD, held_at(NEW, GAINS_LOCK, nothing)),
    (S.YIELDED, E.STOP_ASKED): Way(OLD, held_at(NEW, GAINS_LOCK, stop_old)),
    #
    (S.CHECKING, E.PEER_CHECKED): Way(OLD, reload),
    (S.CHECKING, E.PEER_FAILED): Way(OLD, reload, new=FOUND_BAD),
    (S.CHECKING, E.PEER_STOPS): Way(OLD, checked_and(stop_new), new=SLOWLY_CHECKED),
    (S.CHECKING, E.PEER_GONE): Way(OLD, held_at(NEW, PASSES_CHECK, kill(NEW_SUPERVISOR))),
    (S.CHECKING, E.DEADLINE): Way(OLD, held_at(NEW, PASSES_CHECK, nothing)),
    (S.CHECKING, E.STOP_ASKED): Way(OLD, held_at(NEW, PASSES_CHECK, stop_old)),
    #
    (S.WATCHING, E.DEADLINE): Way(OLD, reload),
    (S.WATCHING, E.PEER_FAILED): Way(OLD, failure_on_probation, new=CAREFUL),
    (S.WATCHING, E.PEER_GONE): Way(OLD, watched_and(kill(NEW_SUPERVISOR)), new=CAREFUL),
    (S.WATCHING, E.PEER_STOPS): Way(OLD, watched_and(stop_new), new=CAREFUL),
    (S.WATCHING, E.STOP_ASKED): Way(OLD, watched_and(stop_old), new=CAREFUL),
    #
    (S.COMMITTING, E.BARRIER_RETURNED): Way(OLD, reload),
    (S.COMMITTING, E.DEADLINE): Way(OLD, reload, only_plain="PID 1 always answers", mute_pid1=True),
    (S.COMMITTING, E.PEER_GONE): Way(OLD, held_at_and_on(OLD, NAMES_MAIN, kill(NEW_SUPERVISOR))),
    (S.COMMITTING, E.PEER_STOPS): Way(OLD, held_at_and_on(OLD, NAMES_MAIN, new_one_stops)),
    (S.COMMITTING, E.STOP_ASKED): Way(OLD, held_at_and_on(OLD, NAMES_MAIN, stop_old)),
    #
    (S.KILLING_SUCCESSOR, E.PEER_GONE): Way(OLD, held_at(NEW, GAINS_LOCK, nothing)),
    (S.KILLING_SUCCESSOR, E.PEER_STOPS): Way(OLD, recall_and(new_one_stops), new=CAREFUL),
    (S.KILLING_SUCCESSOR, E.STOP_ASKED): Way(OLD, recall_and(stop_old), new=CAREFUL),
    #
    (S.TAKING_LOCK_BACK, E.LOCK_GAINED): Way(OLD, held_at(NEW, GAINS_LOCK, kill(NEW_SUPERVISOR))),
    (S.TAKING_LOCK_BACK, E.DEADLINE): Way(OLD, held_at(NEW, GAINS_LOCK, unsaved)),
    (S.TAKING_LOCK_BACK, E.STOP_ASKED): Way(OLD, held_at(NEW, GAINS_LOCK, unsaved_and_stopped)),
    #
    (S.RESTORING, E.WORKER_READY): Way(OLD, restoring_and(lambda stage: stage.let_worker(OLD_WORKER, "start"))),
    (S.RESTORING, E.WORKERS_SETTLED): Way(OLD, held_at(NEW, GAINS_LOCK, kill(NEW_SUPERVISOR))),
    (S.RESTORING, E.DEADLINE): Way(OLD, restoring_and(nothing), old=IMPATIENT),
    (S.RESTORING, E.STOP_ASKED): Way(OLD, restoring_and(stop_old)),
    #
    (S.DRAINING, E.NO_WORKER): Way(OLD, reload),
    #
    (S.STOPPING, E.NO_WORKER): Way(OLD, stop),
    (S.STOPPING, E.PEER_EMPTY): Way(OLD, empty_before_us, new=PATIENT),
    (S.STOPPING, E.PEER_GONE): Way(OLD, dead_before_us, new=PATIENT),
    (S.STOPPING, E.DEADLINE): Way(OLD, stubborn_stop),
    #
    (S.EMPTY, E.NO_PEER): Way(OLD, stop),
    (S.EMPTY, E.PEER_EMPTY): Way(
        OLD, stop_of_both_and(lambda stage: stage.let_worker(NEW_WORKER, "stop")), new=PATIENT
    ),
    (S.EMPTY, E.PEER_GONE): Way(OLD, stop_of_both_and(kill(NEW_SUPERVISOR)), new=PATIENT),
    (S.EMPTY, E.DEADLINE): Way(OLD, frozen_peer_while_empty, new=PATIENT),
    #
    (S.LEAVING, E.NO_WORKER): Way(NEW, warm_up_and(cancel), new=PATIENT),
    (S.LEAVING, E.PEER_STOPS): Way(NEW, last_words_and(stop_old), new=PATIENT),
    (S.LEAVING, E.PEER_GONE): Way(NEW, last_words_and(kill(OLD_SUPERVISOR)), new=PATIENT, only_plain=ENDED_BY_SYSTEMD),
    (S.LEAVING, E.DEADLINE): Way(NEW, last_words_and(nothing), new=PATIENT),
}

LATE_KILL = "needs a successor that goes on while the SIGKILL it was sent is on its way"
LATE_START = "needs a worker that can only be started when it is released"
OVERLAP = "needs an overlap"
EXCLUSIVE = "needs workers that stop for the successor's"
AT_ONCE = "exclusive: the workers are gone before the lock is given up, so a drain is over at once"

_NEVER: Mapping[tuple[State, Event], str] = {
    (S.YIELDED, E.PEER_FAILED): LATE_START,
    (S.CANCELLING, E.PEER_STOPS): LATE_KILL,
    (S.YIELDED, E.PEER_STOPS): LATE_KILL,
}

UNREACHABLE: Mapping[tuple[State, Event], str] = {
    **_NEVER,
    (S.STARTING_SUCCESSOR, E.PEER_ASKS_LOCK): OVERLAP,
    (S.SERVING, E.DEADLINE): OVERLAP,
    (S.DRAINING, E.DEADLINE): AT_ONCE,
    (S.DRAINING, E.STOP_ASKED): AT_ONCE,
}

NEVER_IN_OVERLAP: Mapping[tuple[State, Event], str] = {
    **_NEVER,
    (S.STARTING_SUCCESSOR, E.PEER_ASKS_YIELD): EXCLUSIVE,
    **{(state, event): EXCLUSIVE for state in (S.YIELDING, S.REVIVING) for event in RULES[state]},
}

OVERLAP_WAYS: Mapping[tuple[State, Event], Way] = {
    **{rule: way for rule, way in WAYS.items() if rule not in NEVER_IN_OVERLAP},
    (S.CLAIMING, E.PEER_GONE): Way(NEW, locked_out_and(nothing), only_plain=ENDED_BY_SYSTEMD),
    (S.CLAIMING, E.PEER_STOPS): Way(NEW, stop_overtakes_claim),
    (S.KILLING_PREDECESSOR, E.LOCK_GAINED): Way(NEW, forced_though_free(ASKED_TO_YIELD), only_plain=ENDED_BY_SYSTEMD),
    (S.KILLING_PREDECESSOR, E.PEER_STOPS): Way(
        NEW, forced_and(stop_reaches_forcing("YIELDED+STOP_ASKED/1")), only_plain=ENDED_BY_SYSTEMD
    ),
    (S.TAKING_LOCK, E.LOCK_GAINED): Way(NEW, locked_out_and(lock_comes_free), only_plain=ENDED_BY_SYSTEMD),
    (S.TAKING_LOCK, E.DEADLINE): Way(NEW, locked_out_and(nothing, beside_orphan=True), only_plain=ENDED_BY_SYSTEMD),
    (S.TAKING_LOCK, E.STOP_ASKED): Way(NEW, locked_out_and(stop_who_starts), only_plain=ENDED_BY_SYSTEMD),
    (S.SERVING, E.DEADLINE): Way(OLD, held_at(NEW, GAINS_LOCK, unsaved)),
    (S.STARTING_SUCCESSOR, E.PEER_ASKS_LOCK): Way(OLD, reload),
    (S.TAKING_LOCK_BACK, E.DEADLINE): Way(OLD, unsaved_and_locked_out_and(nothing)),
    (S.TAKING_LOCK_BACK, E.STOP_ASKED): Way(OLD, unsaved_and_locked_out_and(stop_old)),
    (S.DRAINING, E.DEADLINE): Way(OLD, stubborn_drain_and(nothing)),
    (S.DRAINING, E.STOP_ASKED): Way(OLD, stubborn_drain_and(stop_old)),
}
