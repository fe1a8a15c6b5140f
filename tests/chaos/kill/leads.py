"""How a service is led to a place of the takeover table: by reloads, signals, and holding one side or the other.

A lead is written for both handovers where it can be: a stage knows that in an overlap the successor asks for the lock
instead of for a yield.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.kill.instance import Release
from tests.chaos.kill.stage import Side, Stage, Target
from tests.support import places

OLD, NEW = Side.OLD, Side.NEW
OLD_SUPERVISOR, NEW_SUPERVISOR = Target.OLD_SUPERVISOR, Target.NEW_SUPERVISOR
OLD_WORKER, NEW_WORKER = Target.OLD_WORKER, Target.NEW_WORKER

GOOD = Release()
PATIENT = Release(settings={"start_timeout": 6.0})  # longer than any deadline its workers are to miss
HASTY = Release(settings={"start_timeout": 6.0, "reload_timeout": 2.0})
CAREFUL = Release(settings={"probation": 1.5})
IMPATIENT = Release(settings={"takeover_timeout": 0.1})  # a worker that hangs is still there when its time is up
FOUND_BAD = Release(settings={"before_commit": ["/bin/false"]})
SLOWLY_CHECKED = Release(settings={"before_commit": ["/bin/sleep", "30"], "before_commit_timeout": 1.5})

ASKED_TO_YIELD = "STARTING_SUCCESSOR+PEER_ASKS_YIELD/0"
YIELDS = "STARTING_SUCCESSOR+PEER_ASKS_YIELD/1"
HEARS_SERVING = "YIELDED+PEER_SERVES/0"
HEARS_CHECKED = "CHECKING+PEER_CHECKED/0"
NAMES_MAIN = f"{places.NAMES_MAIN}/0"
GAINS_LOCK = "CLAIMING+LOCK_GAINED/0"
PASSES_CHECK = "ON_TRIAL+CHECK_PASSED/0"


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


def reload_and_hang(stage: Stage) -> None:
    """The successor hangs before it can say that it is ready, or that it gives up."""
    reload_to_hold(NEW, "WARMING+WORKER_READY/0")(stage)


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


def reload_to_hold(side: Side, place: str) -> Callable[[Stage], None]:
    """Reload, and hold a side if it comes somewhere."""

    def lead(stage: Stage) -> None:
        stage.hold(side, place)
        reload(stage)

    return lead


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


def orphan(stage: Stage) -> None:
    stage.freeze(OLD_WORKER)
    stage.kill(OLD_SUPERVISOR)


def hung_orphan_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The same with a worker that hangs: an orphan that only stops too slowly ends itself."""

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


def forced_though_free(place: str) -> Callable[[Stage], None]:
    """The predecessor has no worker that keeps the lock, and hangs before it gives it up; its death does it."""

    def lead(stage: Stage) -> None:
        stage.start()
        stage.hold(OLD, place)
        stage.hold(NEW, "CLAIMING+DEADLINE/2")
        stage.reload()
        old_supervisor = stage.need(OLD_SUPERVISOR)
        stage.until_held(NEW, "CLAIMING+DEADLINE/2")
        stage.wait(lambda: not stage.has_left_anything(old_supervisor), "the predecessor's end")
        stage.let_go(NEW)

    return lead


def stop_reaches_forcing(place: str) -> Callable[[Stage], None]:
    """The predecessor was told to stop and has passed it on when it is killed for being late."""

    def step(stage: Stage) -> None:
        stage.hold(OLD, place)
        stage.hold_workers(OLD, "stop")
        stage.terminate(OLD)
        stage.let_go(OLD)
        stage.until_held(OLD, place)

    return step


def stop_overtakes_claim(stage: Stage) -> None:
    """The predecessor was told to stop just before it is asked for the lock, and its worker does not stop."""
    stage.hold_workers(OLD, "stop")
    held_at(NEW, "WARMING+WORKER_READY/0", stop_old)(stage)
    stage.until_passed(OLD, "STARTING_SUCCESSOR+STOP_ASKED/1")
    stage.let_go(NEW)


def locked_out_and(step: Callable[[Stage], None], *, beside_orphan: bool = False) -> Callable[[Stage], None]:
    """The predecessor dies before it is asked for the lock, and a third takes that, be the old worker gone or not."""

    def lead(stage: Stage) -> None:
        stage.start()
        stage.hold(NEW, "WARMING+WORKER_READY/0")
        stage.reload()
        stage.until_held(NEW, "WARMING+WORKER_READY/0")
        if beside_orphan:
            stage.freeze(OLD_WORKER)
        stage.kill(OLD_SUPERVISOR)
        stage.seize_lock()
        stage.let_go(NEW)
        step(stage)

    return lead


def lock_comes_free(stage: Stage) -> None:
    """While the successor waits for nothing else."""
    stage.until_passed(NEW, "CLAIMING+PEER_GONE/0")
    stage.release_lock()


def stop_who_starts(stage: Stage) -> None:
    stage.until_passed(NEW, "CLAIMING+PEER_GONE/0")
    stage.terminate(NEW)


def stubborn_drain_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The predecessor has committed, and its worker has something left to do."""

    def lead(stage: Stage) -> None:
        stage.hold_workers(OLD, "stop")
        reload(stage)
        stage.until_passed(OLD, "COMMITTING+BARRIER_RETURNED/3")
        step(stage)

    return lead


def checked_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The successor serves and is being checked."""

    def lead(stage: Stage) -> None:
        reload(stage)
        stage.until_passed(OLD, HEARS_SERVING)
        step(stage)

    return lead


def stop_reaches_serving(stage: Stage) -> None:
    """The predecessor says "stop" and is killed for being late, by a successor that then hears it."""
    stage.start()
    stage.hold(OLD, HEARS_CHECKED)
    stage.hold(NEW, "ON_TRIAL+DEADLINE/0")
    stage.reload()
    stage.until_held(NEW, "ON_TRIAL+DEADLINE/0")
    stage.terminate(OLD)
    stage.hold(OLD, "WATCHING+STOP_ASKED/1")
    stage.let_go(OLD)
    stage.until_held(OLD, "WATCHING+STOP_ASKED/1")
    stage.let_go(NEW)


def worker_ready_while_cancelling(stage: Stage) -> None:
    stage.hold(OLD, "STARTING_SUCCESSOR+DEADLINE/0")
    reload_and_hang(stage)
    stage.need(NEW_WORKER)
    stage.hold_workers(OLD, "start")
    stage.kill(OLD_WORKER)
    worker = stage.need(OLD_WORKER)
    stage.until_held(OLD, "STARTING_SUCCESSOR+DEADLINE/0")
    stage.let_worker(OLD_WORKER, "start")
    stage.wait(lambda: "ready" in worker.heard, "the replaced worker ready")
    stage.let_go(OLD)


def stop_while_cancelling(stage: Stage) -> None:
    stage.hold(NEW, "WARMING+WORKER_READY/0")
    held_at_and_on(OLD, "STARTING_SUCCESSOR+DEADLINE/0", stop_old)(stage)


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
    stage.until_passed(NEW, "ON_TRIAL+STOP_ASKED/2")


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


def unsaved_and_locked_out_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The new worker hangs, the new supervisor dies, and a third holds the lock."""

    def lead(stage: Stage) -> None:
        stage.hold(OLD, "YIELDED+PEER_GONE/0")
        held_at(NEW, GAINS_LOCK, unsaved)(stage)
        stage.until_held(OLD, "YIELDED+PEER_GONE/0")
        stage.seize_lock()
        stage.let_go(OLD)
        step(stage)

    return lead


def restoring_and(step: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The new supervisor is dead, and the old worker that is started anew does not get ready."""

    def lead(stage: Stage) -> None:
        stage.start()
        stage.hold(NEW, GAINS_LOCK)
        stage.reload()
        stage.until_held(NEW, GAINS_LOCK)
        stage.hold_workers(OLD, "start")
        if stage.find(OLD_WORKER) is not None:  # in an overlap it serves on
            stage.kill(OLD_WORKER)
        stage.kill(NEW_SUPERVISOR)
        stage.until_passed(OLD, "TAKING_LOCK_BACK+LOCK_GAINED/2")
        step(stage)

    return lead


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
