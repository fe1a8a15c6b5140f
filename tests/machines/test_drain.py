"""After the commit: the old side is on its way out, the new one is systemd's main pid."""

from __future__ import annotations

import pytest

from tests.machines.test_stop import stop_while_held
from tests.support.fifos import Gate
from tests.support.trial import Trial


@pytest.fixture
def draining(trial: Trial) -> Gate:
    """A reload is done and answered, its predecessor held as it leaves."""
    gate = trial.gate()
    trial.install(gate.setting("DRAINING+NO_WORKER"), options="--stop-timeout 1 --takeover-timeout 1")
    trial.start()
    trial.deploy(2)
    assert trial.reload() == 0
    gate.pid = gate.wait_until_reached()
    return gate


def test_stop_during_the_drain(trial: Trial, draining: Gate) -> None:
    """Both sides leave."""
    stop_while_held(trial, draining)
    assert trial.story().says("release 2 stops")


def test_stop_during_a_drain_that_hangs(trial: Trial, draining: Gate) -> None:
    """A predecessor that hangs as it leaves holds up a stop for a bounded time; then it is killed, and all is well."""
    trial.stop()
    trial.assert_gone()


def test_crash_of_the_old_side_during_the_drain(trial: Trial, draining: Gate) -> None:
    """Nobody misses it."""
    serving = (trial.main_pid, trial.worker_pid)
    trial.kill(draining.pid)
    trial.machine.wait_until_gone(draining.pid, timeout_seconds=5)
    assert (trial.main_pid, trial.assert_serves(2)["pid"]) == serving
    assert trial.show("NRestarts")["NRestarts"] == "0"
    assert trial.reload() == 0


def test_crash_of_the_new_side_during_the_drain(trial: Trial, draining: Gate) -> None:
    """systemd restarts the unit with the new code, and the old side does not outlive the crash."""
    new, journal = trial.main_pid, trial.follow()
    trial.kill(new)
    trial.machine.wait_until_gone(draining.pid, timeout_seconds=5)
    journal.wait_for("release 2 serves")
    trial.assert_serves(2)
    assert trial.show("NRestarts")["NRestarts"] == "1"
    assert trial.strays == []


def test_crash_of_the_new_worker_during_the_drain(trial: Trial, draining: Gate) -> None:
    """The new supervisor replaces it."""
    main, journal = trial.main_pid, trial.follow()
    trial.kill(trial.worker_pid)
    journal.wait_for("release 2 serves")
    trial.assert_serves(2)
    assert trial.main_pid == main


def test_a_reload_during_the_drain_does_not_wait_for_its_end(trial: Trial, draining: Gate) -> None:
    """A reload goes ahead while the last one's predecessor is still leaving, and a stop after it waits for both."""
    trial.deploy(3)
    assert trial.reload() == 0
    trial.assert_serves(3)
    assert draining.pid in {process.pid for process in trial.strays}
    stop_while_held(trial, draining)
    assert trial.story().says("release 3 stops")
