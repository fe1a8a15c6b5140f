"""Moments that random rounds have found, and the test of the test: what is said of a service that breaks its promises.

This process is the init of each service, and so must have no other children: no machine lives beside these tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kill import oracle
from tests.kill.hub import Broken
from tests.kill.instance import Plain, Release
from tests.kill.stage import Side, Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A service that serves, its new code another one's to choose."""
    instance = Plain()
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


# The test of the test: what it would say of a service that breaks its promises.


def test_two_active_workers_are_noticed(stage: Stage) -> None:
    """New code that works before it is its turn is a violation, although the reload goes well."""
    stage.new = Release("promise")
    stage.reload()
    stage.open()
    with pytest.raises(Broken, match="Two workers were active at a time: VIOLATION release=2"):
        oracle.judge(stage)


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
