"""How each transition of the takeover table is made to happen.

WAYS has one entry for every rule but those in UNREACHABLE, which says why. `python -m tests.kill` and the tests take
the rules from the table itself: a rule that is in neither is a failure, and so is one that shows up where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sdsupervise.core.takeover import Event, State
from tests.kill.instance import Release
from tests.kill.stage import Side, Stage, Target

S, E = State, Event
OLD, NEW = Side.OLD, Side.NEW
OLD_SUPERVISOR, NEW_SUPERVISOR = Target.OLD_SUPERVISOR, Target.NEW_SUPERVISOR
OLD_WORKER, NEW_WORKER = Target.OLD_WORKER, Target.NEW_WORKER

GOOD = Release()
PATIENT = Release(settings={"start_timeout": 6.0})  # longer than any deadline its workers are to miss
IMPATIENT = Release(settings={"start_timeout": 6.0, "reload_timeout": 1.2})
HASTY = Release(settings={"reload_timeout": 1.2})
CAREFUL = Release(settings={"probation": 1.5})
SHARING = Release(settings={"handover": "overlap"})
REFUTED = Release(settings={"before_commit": ["/bin/false"]})
LONG_CHECKED = Release(settings={"before_commit": ["/bin/sleep", "1000"], "before_commit_timeout": 1.5})

ASKED_TO_YIELD = "RAISING+PEER_ASKS_YIELD/0"
ASKED_FOR_LOCK = "RAISING+PEER_ASKS_LOCK/0"
COMMITS = "COMMITTING+BARRIER_RETURNED/3"
YIELDS = "RAISING+PEER_ASKS_YIELD/1"
HEARS_SERVING = "YIELDED+PEER_SERVES/0"
HEARS_CHECKED = "CHECKING+PEER_CHECKED/0"
NAMES_MAIN = "WATCHING+DEADLINE/0"
GAINS_LOCK = "CLAIMING+LOCK_GAINED/0"
PASSES_CHECK = "ACTING+CHECK_PASSED/0"

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


def reload(stage: Stage) -> None:
    stage.start()
    stage.reload()


def start(stage: Stage) -> None:
    stage.start(wait=False)


def start_and_fail(stage: Stage) -> None:
    stage.ends = True
    stage.start(wait=False)


def stop_while_opening(stage: Stage) -> None:
    stage.hold_workers(OLD, "start")
    stage.start(wait=False)
    stage.need(OLD_WORKER)
    stage.terminate(OLD)


def stop(stage: Stage) -> None:
    stage.start()
    stage.terminate(OLD)


def lose_worker(stage: Stage) -> None:
    stage.start()
    stage.kill(OLD_WORKER)


def give_up(stage: Stage) -> None:
    stage.start()
    stage.ends = True
    stage.kill(OLD_WORKER)


# A successor that warms up and does not get ready


def warm_up(stage: Stage) -> None:
    stage.start()
    stage.hold_workers(NEW, "start")
    stage.reload()
    stage.need(NEW_WORKER)


def warm_up_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    def lead(stage: Stage) -> None:
        warm_up(stage)
        step(stage)

    return lead


def stubborn_failure_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The successor gives up, and its worker does not stop."""

    def lead(stage: Stage) -> None:
        stage.hold_workers(NEW, "stop")
        warm_up(stage)
        stage.until_passed(NEW, "WARMING+DEADLINE/1")
        step(stage)

    return lead


def last_words_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The successor was told to leave, and its worker does not stop."""

    def lead(stage: Stage) -> None:
        stage.hold_workers(NEW, "stop")
        warm_up(stage)
        stage.terminate(NEW, ends=False)
        stage.until_passed(NEW, "WARMING+STOP_ASKED/1")
        step(stage)

    return lead


# A side held at a place


def held_at(side: Side, place: str, step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Reload, hold a side somewhere, do a step; the side stays held."""

    def lead(stage: Stage) -> None:
        stage.start()
        stage.hold(side, place)
        stage.reload()
        stage.until_held(side, place)
        step(stage)

    return lead


def held_at_and_on(side: Side, place: str, step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The same, and then let it go on."""

    def lead(stage: Stage) -> None:
        held_at(side, place, step)(stage)
        stage.let_go(side)

    return lead


def stubborn_yield_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The predecessor yields, and its worker does not stop."""

    def lead(stage: Stage) -> None:
        stage.hold_workers(OLD, "stop")
        reload(stage)
        stage.until_passed(OLD, YIELDS)
        step(stage)

    return lead


def orphaned_claim_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The predecessor dies before it has yielded, and its worker keeps the lock."""

    def lead(stage: Stage) -> None:
        stage.hold_workers(OLD, "stop")
        held_at(OLD, ASKED_TO_YIELD, lambda stage: stage.kill(OLD_SUPERVISOR))(stage)
        stage.until_passed(NEW, "CLAIMING+PEER_GONE/0")
        step(stage)

    return lead


def hung_orphan_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The same with a worker that hangs: an orphan that only stops too slowly ends itself."""

    def orphan(stage: Stage) -> None:
        stage.freeze(OLD_WORKER)
        stage.kill(OLD_SUPERVISOR)

    def lead(stage: Stage) -> None:
        held_at(OLD, ASKED_TO_YIELD, orphan)(stage)
        stage.until_passed(NEW, "CLAIMING+PEER_GONE/0")
        step(stage)

    return lead


def orphan_stops(stage: Stage) -> None:
    """The old worker has lost its supervisor; if it does not know yet, it stops when it does."""
    worker = stage.hub.workers_of(stage.hub.supervisors[0])[-1]
    stage.wait(lambda: worker.waits_for == "stop", "the orphaned worker about to stop")
    stage.hub.let_worker(worker)


def forced_and(before: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The predecessor hangs and is killed with its worker; a third holds the lock then."""

    def lead(stage: Stage) -> None:
        stage.start()
        old_supervisor = stage.need(OLD_SUPERVISOR)
        stage.hold(OLD, ASKED_TO_YIELD)
        stage.hold(NEW, "CLAIMING+DEADLINE/0")
        stage.hold(NEW, "CLAIMING+DEADLINE/2")
        stage.reload()
        stage.until_held(NEW, "CLAIMING+DEADLINE/0")
        stage.hub.spare_of(old_supervisor)  # it keeps the lock too
        before(stage)
        stage.let_go(NEW)
        stage.until_held(NEW, "CLAIMING+DEADLINE/2")
        stage.wait(lambda: not stage.has_left_anything(old_supervisor), "the predecessor's end")
        stage.seize_lock()
        stage.let_go(NEW)

    return lead


def forced_though_free(stage: Stage) -> None:
    """The predecessor's worker is gone and it hangs before it gives up the lock; its death does it."""
    stage.start()
    stage.hold(OLD, "YIELDING+NO_WORKER/0")
    stage.hold(NEW, "CLAIMING+DEADLINE/2")
    stage.reload()
    old_supervisor = stage.need(OLD_SUPERVISOR)
    stage.until_held(NEW, "CLAIMING+DEADLINE/2")
    stage.wait(lambda: not stage.has_left_anything(old_supervisor), "the predecessor's end")
    stage.let_go(NEW)


def stop_reaches_forcing(stage: Stage) -> None:
    stage.hold(OLD, "YIELDING+STOP_ASKED/1")
    stage.hold_workers(OLD, "stop")
    stage.terminate(OLD)
    stage.let_go(OLD)
    stage.until_held(OLD, "YIELDING+STOP_ASKED/1")


def stop_reaches_serving(stage: Stage) -> None:
    """The predecessor says "stop" and is killed for being late, by a successor that then hears it."""
    stage.start()
    stage.hold(OLD, HEARS_CHECKED)
    stage.hold(NEW, "ACTING+DEADLINE/0")
    stage.reload()
    stage.until_held(NEW, "ACTING+DEADLINE/0")
    stage.terminate(OLD)
    stage.hold(OLD, "WATCHING+STOP_ASKED/1")
    stage.let_go(OLD)
    stage.until_held(OLD, "WATCHING+STOP_ASKED/1")
    stage.let_go(NEW)


def worker_ready_while_cancelling(stage: Stage) -> None:
    stage.start()
    stage.hold_workers(NEW, "start")
    stage.hold(OLD, "RAISING+DEADLINE/0")
    stage.reload()
    stage.need(NEW_WORKER)
    stage.hold_workers(OLD, "start")
    stage.kill(OLD_WORKER)
    worker = stage.need(OLD_WORKER)
    stage.until_held(OLD, "RAISING+DEADLINE/0")
    stage.let_worker(OLD_WORKER, "start")
    stage.wait(lambda: "ready" in worker.heard, "the replaced worker ready")
    stage.let_go(OLD)


def stop_while_cancelling(stage: Stage) -> None:
    stage.hold_workers(NEW, "start")
    held_at_and_on(OLD, "RAISING+DEADLINE/0", stop_old)(stage)


def leave_hung_worker(stage: Stage) -> None:
    """The predecessor dies and its worker hangs."""
    stage.freeze(OLD_WORKER)
    stage.kill(OLD_SUPERVISOR)


def drain_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The predecessor has committed, and its worker does not stop."""

    def lead(stage: Stage) -> None:
        stage.hold_workers(OLD, "stop")
        reload(stage)
        stage.until_passed(OLD, COMMITS)
        step(stage)

    return lead


def checked_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The successor serves, and its before_commit command runs."""

    def lead(stage: Stage) -> None:
        reload(stage)
        stage.until_passed(OLD, HEARS_SERVING)
        step(stage)

    return lead


def watched_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The successor serves on probation."""

    def lead(stage: Stage) -> None:
        reload(stage)
        stage.until_passed(OLD, HEARS_CHECKED)
        step(stage)

    return lead


def failure_on_probation(stage: Stage) -> None:
    reload(stage)
    stage.until_begun(NEW)
    stage.kill(NEW_WORKER)


def recall_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The predecessor is about to kill the successor, which serves."""

    def lead(stage: Stage) -> None:
        stage.hold(OLD, "WATCHING+PEER_FAILED/0")
        failure_on_probation(stage)
        stage.until_held(OLD, "WATCHING+PEER_FAILED/0")
        step(stage)
        stage.let_go(OLD)

    return lead


def stop_of_both_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Both supervisors stop; the old one's worker is gone, the new one's does not stop."""

    def lead(stage: Stage) -> None:
        stage.hold_workers(NEW, "stop")
        warm_up(stage)
        stage.terminate(OLD)
        stage.until_passed(OLD, "STOPPING+NO_WORKER/1")
        step(stage)

    return lead


def new_one_stops(stage: Stage) -> None:
    stage.terminate(NEW)
    stage.until_passed(NEW, "ACTING+STOP_ASKED/2")


def let_new_worker_stop(stage: Stage) -> None:
    stage.let_worker(NEW_WORKER, "stop")


def nothing(stage: Stage) -> None:
    pass


def unsaved(stage: Stage) -> None:
    """The new worker hangs, the new supervisor dies: the lock is held by the one who cannot hear of it."""
    stage.freeze(NEW_WORKER)
    stage.kill(NEW_SUPERVISOR)


def unsaved_and_stopped(stage: Stage) -> None:
    unsaved(stage)
    stage.until_passed(OLD, "YIELDED+PEER_GONE/1")
    stage.terminate(OLD)


def stop_old(stage: Stage) -> None:
    stage.terminate(OLD)


def stop_new(stage: Stage) -> None:
    stage.terminate(NEW)


def cancel(stage: Stage) -> None:
    stage.terminate(NEW, ends=False)


def kill(target: Target) -> Callable[[Stage], None]:
    return lambda stage: stage.kill(target)


def kill_and_revive(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    def lead(stage: Stage) -> None:
        stage.kill(NEW_SUPERVISOR)
        stage.until_passed(OLD, "YIELDING+PEER_GONE/0")
        step(stage)

    return stubborn_yield_and(lead)


def frozen_peer_while_empty(stage: Stage) -> None:
    stage.hold(NEW, "WARMING+PEER_STOPS/0")
    warm_up(stage)
    stage.terminate(OLD)


def empty_before_us(stage: Stage) -> None:
    stage.hold_workers(OLD, "stop")
    warm_up(stage)
    stage.terminate(OLD)


def dead_before_us(stage: Stage) -> None:
    stage.hold_workers(NEW, "stop")
    empty_before_us(stage)
    stage.until_passed(NEW, "WARMING+PEER_STOPS/1")
    stage.kill(NEW_SUPERVISOR)


def stubborn_stop(stage: Stage) -> None:
    stage.hold_workers(OLD, "stop")
    stop(stage)


WAYS: Mapping[tuple[State, Event], Way] = {
    (S.OPENING, E.WORKER_READY): Way(OLD, start),
    (S.OPENING, E.GAVE_UP): Way(OLD, start_and_fail, Release("start", {"crash_limit": 1})),
    (S.OPENING, E.STOP_ASKED): Way(OLD, stop_while_opening, PATIENT),
    #
    (S.WARMING, E.WORKER_READY): Way(NEW, reload),
    (S.WARMING, E.WORKER_GONE): Way(NEW, reload, new=Release("start")),
    (S.WARMING, E.DEADLINE): Way(NEW, warm_up, new=IMPATIENT),
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
    (S.FORCING, E.LOCK_GAINED): Way(NEW, forced_though_free, only_plain=ENDED_BY_SYSTEMD),
    (S.FORCING, E.PEER_GONE): Way(NEW, forced_and(nothing), only_plain=ENDED_BY_SYSTEMD),
    (S.FORCING, E.PEER_STOPS): Way(NEW, forced_and(stop_reaches_forcing), only_plain=ENDED_BY_SYSTEMD),
    (S.FORCING, E.STOP_ASKED): Way(NEW, forced_and(stop_new), only_plain=ENDED_BY_SYSTEMD),
    #
    (S.STARTING, E.LOCK_GAINED): Way(NEW, orphaned_claim_and(orphan_stops), only_plain=ENDED_BY_SYSTEMD),
    (S.STARTING, E.DEADLINE): Way(NEW, hung_orphan_and(nothing), only_plain=ENDED_BY_SYSTEMD),
    (S.STARTING, E.STOP_ASKED): Way(NEW, hung_orphan_and(stop_new), only_plain=ENDED_BY_SYSTEMD),
    #
    (S.ACTING, E.WORKER_READY): Way(NEW, held_at(OLD, NAMES_MAIN, kill(NEW_WORKER))),
    (S.ACTING, E.WORKER_GONE): Way(NEW, held_at(OLD, NAMES_MAIN, kill(NEW_WORKER))),
    (S.ACTING, E.CHECK_PASSED): Way(NEW, reload),
    (S.ACTING, E.CHECK_FAILED): Way(NEW, held_at(OLD, "CHECKING+PEER_FAILED/0", nothing), new=REFUTED),
    (S.ACTING, E.PEER_COMMITTED): Way(NEW, reload),
    (S.ACTING, E.PEER_GONE): Way(NEW, held_at(OLD, HEARS_SERVING, kill(OLD_SUPERVISOR)), only_plain=ENDED_BY_SYSTEMD),
    (S.ACTING, E.DEADLINE): Way(NEW, held_at(OLD, HEARS_SERVING, nothing)),
    (S.ACTING, E.PEER_STOPS): Way(NEW, held_at_and_on(OLD, HEARS_SERVING, stop_old)),
    (S.ACTING, E.STOP_ASKED): Way(NEW, held_at(OLD, HEARS_SERVING, stop_new)),
    #
    (S.FAILED, E.NO_WORKER): Way(NEW, warm_up, new=IMPATIENT),
    (S.FAILED, E.DEADLINE): Way(NEW, stubborn_failure_and(nothing), new=IMPATIENT),
    (S.FAILED, E.PEER_GONE): Way(
        NEW, stubborn_failure_and(kill(OLD_SUPERVISOR)), new=IMPATIENT, only_plain=ENDED_BY_SYSTEMD
    ),
    (S.FAILED, E.PEER_STOPS): Way(NEW, stubborn_failure_and(stop_old), new=IMPATIENT),
    (S.FAILED, E.STOP_ASKED): Way(NEW, stubborn_failure_and(cancel), new=IMPATIENT),
    #
    (S.SERVING, E.WORKER_READY): Way(OLD, lose_worker),
    (S.SERVING, E.RELOAD_ASKED): Way(OLD, reload),
    (S.SERVING, E.DEADLINE): Way(
        NEW, held_at(OLD, HEARS_SERVING, leave_hung_worker), SHARING, SHARING, only_plain=ENDED_BY_SYSTEMD
    ),
    (S.SERVING, E.GAVE_UP): Way(OLD, give_up, Release(settings={"crash_limit": 1})),
    (S.SERVING, E.PEER_STOPS): Way(NEW, stop_reaches_serving, new=CAREFUL, only_plain=ENDED_BY_SYSTEMD),
    (S.SERVING, E.STOP_ASKED): Way(OLD, stop),
    #
    (S.RAISING, E.WORKER_READY): Way(OLD, warm_up_and(kill(OLD_WORKER)), new=PATIENT),
    (S.RAISING, E.PEER_ASKS_YIELD): Way(OLD, reload),
    (S.RAISING, E.PEER_ASKS_LOCK): Way(OLD, reload, SHARING, SHARING),
    (S.RAISING, E.PEER_GONE): Way(OLD, reload, new=Release("import")),
    (S.RAISING, E.DEADLINE): Way(OLD, warm_up, HASTY, PATIENT),
    (S.RAISING, E.STOP_ASKED): Way(OLD, warm_up_and(stop_old), new=PATIENT),
    #
    (S.CANCELLING, E.WORKER_READY): Way(OLD, worker_ready_while_cancelling, Release("early", HASTY.settings), PATIENT),
    (S.CANCELLING, E.PEER_GONE): Way(OLD, warm_up, HASTY, PATIENT),
    (S.CANCELLING, E.STOP_ASKED): Way(OLD, stop_while_cancelling, HASTY, PATIENT),
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
    (S.CHECKING, E.PEER_FAILED): Way(OLD, reload, new=REFUTED),
    (S.CHECKING, E.PEER_STOPS): Way(OLD, checked_and(stop_new), new=LONG_CHECKED),
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
    (S.RECALLING, E.PEER_GONE): Way(OLD, held_at(NEW, GAINS_LOCK, nothing)),
    (S.RECALLING, E.PEER_STOPS): Way(OLD, recall_and(new_one_stops), new=CAREFUL),
    (S.RECALLING, E.STOP_ASKED): Way(OLD, recall_and(stop_old), new=CAREFUL),
    #
    (S.RETAKING, E.LOCK_GAINED): Way(OLD, held_at(NEW, GAINS_LOCK, kill(NEW_SUPERVISOR))),
    (S.RETAKING, E.DEADLINE): Way(OLD, held_at(NEW, GAINS_LOCK, unsaved)),
    (S.RETAKING, E.STOP_ASKED): Way(OLD, held_at(NEW, GAINS_LOCK, unsaved_and_stopped)),
    #
    (S.DRAINING, E.NO_WORKER): Way(OLD, reload),
    (S.DRAINING, E.DEADLINE): Way(OLD, drain_and(nothing), SHARING, SHARING),
    (S.DRAINING, E.STOP_ASKED): Way(OLD, drain_and(stop_old), SHARING, SHARING),
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
    (S.LAST, E.NO_WORKER): Way(NEW, warm_up_and(cancel), new=PATIENT),
    (S.LAST, E.PEER_STOPS): Way(NEW, last_words_and(stop_old), new=PATIENT),
    (S.LAST, E.PEER_GONE): Way(NEW, last_words_and(kill(OLD_SUPERVISOR)), new=PATIENT, only_plain=ENDED_BY_SYSTEMD),
    (S.LAST, E.DEADLINE): Way(NEW, last_words_and(nothing), new=PATIENT),
}

LATE_KILL = "needs a successor that goes on while the SIGKILL it was sent is on its way"
LATE_START = "needs a worker that can only be started when it is released"

UNREACHABLE: Mapping[tuple[State, Event], str] = {
    (S.YIELDED, E.PEER_FAILED): LATE_START,
    (S.CANCELLING, E.PEER_STOPS): LATE_KILL,
    (S.YIELDED, E.PEER_STOPS): LATE_KILL,
}
