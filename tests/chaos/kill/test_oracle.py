"""Moments that random rounds have found, and the test of the test: what is said of a service that breaks its promises.

This process is the init of each service, and so must have no other children: no machine lives beside these tests.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator, Mapping

import pytest

from tests.chaos.kill import oracle
from tests.chaos.kill.hub import Broken
from tests.chaos.kill.instance import Plain, Release
from tests.chaos.kill.stage import Side, Stage, Target


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A service that serves, its new code another one's to choose."""
    yield from serving({})


@pytest.fixture
def overlapping() -> Iterator[Stage]:
    """The same with overlap."""
    yield from serving({"handover": "overlap"})


def serving(settings: Mapping[str, object]) -> Iterator[Stage]:
    instance = Plain(settings)
    stage = Stage(instance, Release(), Release())
    stage.start()
    yield stage
    instance.close()


def test_a_stop_at_the_very_moment_of_a_reload_ends_both(stage: Stage) -> None:
    """A successor that was just started when the stop came, and of which nobody has heard yet, does not take over."""
    place = "SERVING+RELOAD_ASKED/0"
    stage.hold(Side.OLD, place)
    stage.reload()
    stage.until_held(Side.OLD, place)
    stage.terminate(Side.OLD)
    stage.open()
    oracle.judge(stage)
    assert stage.hub.living("supervisor") == []


def test_a_stop_in_a_reload_waits_for_a_draining_generation() -> None:
    """Neither side of the reload loses patience with the other while a generation before them drains: the main one
    leaves after that, and under systemd its end is the end of all."""
    instance = Plain({"handover": "overlap", "takeover_timeout": 0.2, "stop_timeout": 0.2})
    stage = Stage(instance, Release(), Release(settings={"start_timeout": 6.0}), beside_draining=True)
    try:
        stage.start()
        stage.hold_workers(Side.NEW, "start")
        stage.reload()
        stage.need(Target.NEW_WORKER)
        draining = stage.need(Target.DRAINING_SUPERVISOR)
        stage.terminate(Side.OLD)
        stage.wait(lambda: not draining.alive, "the end of the draining generation")
        assert all(supervisor.alive for supervisor in stage.hub.supervisors if supervisor not in stage.draining)
        stage.open()
        oracle.judge(stage)
    finally:
        instance.close()


# The test of the test: what it would say of a service that breaks its promises.


def test_two_active_workers_are_noticed(stage: Stage) -> None:
    """New code that works before it is its turn is a violation, although the reload goes well."""
    stage.new = Release("promise")
    stage.reload()
    stage.open()
    with pytest.raises(Broken, match="Two workers were active at a time: VIOLATION release=2"):
        oracle.judge(stage)


def test_three_active_generations_are_noticed(overlapping: Stage) -> None:
    """With overlap two may be active, until the commit; a third may not."""
    fake = overlapping.instance.directory / "active" / "1.0.overlap.1"
    with fake.open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        overlapping.reload()
        overlapping.open()
        with pytest.raises(Broken, match=r"active at a time: VIOLATION release=2 .* beside=\S*\b1\b"):
            oracle.judge(overlapping)


def test_an_old_worker_that_stops_too_early_is_noticed(overlapping: Stage) -> None:
    """Told to stop before the commit, by whomever, it is missed: in an overlap it is to serve until then."""
    place = "YIELDED+PEER_SERVES/0"
    overlapping.hold(Side.OLD, place)
    overlapping.reload()
    overlapping.until_held(Side.OLD, place)
    worker = overlapping.need(Target.OLD_WORKER)
    os.kill(worker.pid, signal.SIGTERM)
    overlapping.wait(lambda: worker.stopping, "the old worker's end")
    overlapping.open()
    with pytest.raises(Broken, match=r"worker \d+ \(release 1\) was told to stop before the commit"):
        oracle.judge(overlapping)


def test_a_gap_is_noticed(overlapping: Stage) -> None:
    """The old workers are told to stop while nobody serves in their place."""
    place = "COMMITTING+BARRIER_RETURNED/1"
    overlapping.hold(Side.OLD, place)
    overlapping.hold_workers(Side.NEW, "stop")
    overlapping.reload()
    overlapping.until_held(Side.OLD, place)
    new, old = overlapping.need(Target.NEW_WORKER), overlapping.need(Target.OLD_WORKER)
    os.kill(new.pid, signal.SIGTERM)
    overlapping.wait(lambda: new.stopping, "the new worker about to stop")
    overlapping.let_go(Side.OLD)
    overlapping.wait(lambda: old.stopping, "the old worker about to stop while the new one cannot end")
    overlapping.open()
    with pytest.raises(Broken, match=r"worker \d+ \(release 1\) was told to stop, nobody serves in its place"):
        oracle.judge(overlapping)


def test_new_work_by_old_code_is_noticed(overlapping: Stage) -> None:
    """An old worker answers a question that was asked after the reload was said to be done."""
    overlapping.hold_workers(Side.OLD, "stop")
    overlapping.reload()
    overlapping.wait(lambda: overlapping.calls[0].status is not None, "the verdict")
    worker = overlapping.need(Target.OLD_WORKER)
    worker.answered = worker.asked
    overlapping.witness.sees_answer(worker)
    overlapping.open()
    with pytest.raises(Broken, match=r"worker \d+ \(release 1\) took on new work"):
        oracle.judge(overlapping)


def test_a_worker_that_is_not_kept_is_noticed(overlapping: Stage) -> None:
    """A reload that failed should have left the old worker alone."""
    overlapping.new = Release("import")
    worker = overlapping.need(Target.OLD_WORKER)
    overlapping.reload()
    os.kill(worker.pid, signal.SIGKILL)
    overlapping.wait(lambda: overlapping.calls[0].status is not None, "the verdict")
    overlapping.open()
    with pytest.raises(Broken, match=r"The reload to release 2 failed, and worker \d+ \(release 1\) has not been kept"):
        oracle.judge(overlapping)


def test_a_drain_that_is_cut_is_noticed(overlapping: Stage) -> None:
    """A worker that was told to drain is killed before it has ended what it began."""
    overlapping.hold_workers(Side.OLD, "stop")
    worker = overlapping.need(Target.OLD_WORKER)
    overlapping.reload()
    overlapping.wait(lambda: worker.stopping, "the old worker about to stop")
    os.kill(worker.pid, signal.SIGKILL)
    overlapping.wait(lambda: not worker.alive, "its end")
    overlapping.open()
    with pytest.raises(Broken, match=r"worker \d+ \(release 1\) was cut short"):
        oracle.judge(overlapping)


def test_a_lie_about_success_is_noticed(stage: Stage) -> None:
    """ "Done" although the old code begins again."""
    stage.reload()
    stage.wait(lambda: stage.calls[0].status is not None, "the verdict")
    stage.instance.write("BEGIN release=1 worker=1 supervisor=1")
    with pytest.raises(Broken, match="was said to be done, and then: BEGIN release=1"):
        oracle.judge(stage)


def test_a_lie_about_failure_is_noticed(stage: Stage) -> None:
    """ "Failed" although the new code serves."""
    stage.reload()
    stage.wait(lambda: stage.calls[0].status is not None, "the verdict")
    stage.calls[0].status = oracle.FAILED
    with pytest.raises(Broken, match=r"was said to have failed, but supervisor .* is the one that is left"):
        oracle.judge(stage)


def test_a_service_that_is_gone_is_noticed(stage: Stage) -> None:
    """Nobody serves, and nobody had asked for that."""
    for supervisor in stage.hub.living("supervisor"):
        os.kill(supervisor.pid, 15)
    with pytest.raises(Broken, match="Nobody serves, though no stop was asked"):
        oracle.judge(stage)


def test_a_process_that_is_left_is_noticed(stage: Stage) -> None:
    """A process that outlives its service is found, whatever it calls itself."""
    stage.instance.ask_stop()
    stage.ends = True
    bystander = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    stage.wait(lambda: not stage.hub.processes[0].alive, "the end of the supervisor")
    assert not stage.instance.is_gone()
    assert stage.instance.left() == [f"process {bystander} (S) sleep 1000 "]
