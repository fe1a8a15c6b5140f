"""Killed processes: of a service that serves, and of either side of a reload before the commit."""

from __future__ import annotations

import pytest

from tests.support.places import NAMES_MAIN
from tests.support.trial import Trial, source, wait_for_all


@pytest.mark.parametrize("shut_down", ["pass", "while True: signal.pause()"], ids=["quick", "hangs"])
def test_a_killed_supervisor(trial: Trial, shut_down: str) -> None:
    """systemd restarts the unit; no process of the old supervisor is left, whatever its worker's shutdown does."""
    trial.deploy(1, source(1, shut_down=shut_down))
    trial.start()
    trial.deploy(2)
    main, worker, journal = trial.main_pid, trial.worker_pid, trial.follow()
    trial.kill(main)
    for pid in (main, worker):
        trial.machine.wait_until_gone(pid, timeout_seconds=10)
    journal.wait_for("release 2 serves")
    trial.assert_serves(2)
    assert trial.show("NRestarts")["NRestarts"] == "1"
    assert trial.strays == []
    assert trial.reload() == 0


def test_a_killed_worker(trial: Trial) -> None:
    """The supervisor starts another; systemd need not know, but STATUS tells."""
    trial.install(options="--delay-before-respawn 0.3")
    trial.start()
    main, worker, journal = trial.main_pid, trial.worker_pid, trial.follow()
    trial.kill(worker)
    journal.wait_for("STATUS=Nobody serves (generation 1): the worker was killed by SIGKILL")
    journal.wait_for("release 1 serves")
    assert trial.assert_serves(1)["pid"] != worker
    assert (trial.main_pid, trial.show("NRestarts")["NRestarts"]) == (main, "0")
    assert trial.story().states == {"start", "running"}


def test_a_crash_loop_ends_with_its_reason(trial: Trial) -> None:
    """After crash_limit crashes the supervisor leaves with 75 for Restart= to judge, and the reason in STATUS."""
    trial.ends_failed = True
    trial.deploy(1, source(1, facts="os._exit(3)"))
    trial.install("Restart=no", options="--crash-limit 2 --respawn-backoff-limit 0")
    trial.start()
    journal = trial.follow()
    trial.kill(trial.worker_pid)
    journal.wait_for("release 1 serves")
    trial.kill(trial.worker_pid)
    wait_for_all(journal, "Generation 1 leaves", "-> failed")
    assert trial.show("ExecMainStatus")["ExecMainStatus"] == "75"
    assert trial.status == "Gave up after 2 crashes: the worker was killed by SIGKILL."


# Where a successor can die after its predecessor has stopped its workers for it.
AFTER_THE_YIELD = [
    *(f"CLAIMING+LOCK_GAINED/{effect}" for effect in range(4)),
    "YIELDED+PEER_SERVES/0",
    "CHECKING+PEER_CHECKED/0",
    f"{NAMES_MAIN}/0",  # dead when it is named to systemd, which does not take it
]
# Where it is systemd's main pid, and the reload is not done yet.
IN_THE_COMMIT = [f"{NAMES_MAIN}/1", "COMMITTING+BARRIER_RETURNED/0"]


@pytest.mark.parametrize("stage", ["WARMING+WORKER_READY/0", "YIELDING+NO_WORKER/0", *AFTER_THE_YIELD])
def test_a_successor_killed_before_the_commit(trial: Trial, stage: str) -> None:
    """The reload fails; the old supervisor serves again with its old code, MainPID is its, systemd counts no restart;
    the next reload works."""
    trial.main_pid_is_doubtful = stage == f"{NAMES_MAIN}/0"
    main = reload_with_a_killed_successor(trial, stage)
    trial.assert_serves(1)
    assert (trial.main_pid, trial.show("NRestarts")["NRestarts"]) == (main, "0")
    assert "The successor died without a message." in trial.status
    assert trial.strays == []
    trial.install()
    assert trial.reload() == 0
    trial.assert_serves(2)


def reload_with_a_killed_successor(trial: Trial, stage: str) -> int:
    """A reload that fails because its successor is killed there; the predecessor's pid."""
    gate = trial.gate()
    transition, _, effect = stage.partition("/")
    trial.install(gate.setting(transition, int(effect)))
    trial.start()
    main = trial.main_pid
    trial.deploy(2)
    journal = trial.follow()
    with trial.calling("reload") as call:
        gate.wait_until_reached()
        if stage in IN_THE_COMMIT:
            journal.wait_for("we are happy")  # systemd, with its new main process
        successor = successor_of(trial, main)
        trial.kill(successor)
        trial.machine.wait_until_gone(successor, timeout_seconds=10)
        gate.open()
        assert call.wait(20) == 1
    return main


def successor_of(trial: Trial, predecessor: int) -> int:
    """The other supervisor, a child of systemd's as well."""
    reload = int(trial.show("ControlPID")["ControlPID"])  # the process of ExecReload=
    (pid,) = (p.pid for p in trial.processes if p.ppid == 1 and p.pid not in (predecessor, reload))
    return pid


@pytest.mark.parametrize("stage", IN_THE_COMMIT)
def test_a_successor_killed_in_the_commit(trial: Trial, stage: str) -> None:
    """The reload is not said to be done; systemd, whose main process has died, restarts the unit with the new code;
    nothing of the old is left."""
    trial.main_pid_is_doubtful = True
    journal = trial.follow()
    reload_with_a_killed_successor(trial, stage)
    journal.wait_for("Scheduled restart job")
    journal.wait_for("Changed start -> running")
    trial.assert_serves(2)
    assert trial.show("NRestarts")["NRestarts"] == "1"
    assert trial.strays == []


@pytest.mark.parametrize("victim", ["supervisor", "worker"])
def test_a_death_in_probation(trial: Trial, victim: str) -> None:
    """New code whose supervisor or worker dies in its probation is taken back: rc 1, the old code serves."""
    trial.install(options="--probation 30")
    trial.start()
    main = trial.main_pid
    trial.deploy(2)
    journal = trial.follow()
    with trial.calling("reload") as call:
        journal.wait_for("on probation")
        successor = successor_of(trial, main)
        worker = trial.worker_of(successor)
        trial.kill(successor if victim == "supervisor" else worker)
        assert call.wait(20) == 1
    trial.assert_serves(1)
    assert (trial.main_pid, trial.show("NRestarts")["NRestarts"]) == (main, "0")
    reason = "died without a message" if victim == "supervisor" else "was killed by SIGKILL"
    assert reason in trial.status
    assert trial.strays == []


def test_probation_passed(trial: Trial) -> None:
    """MAINPID= is sent only when the probation is over."""
    trial.install(options="--probation 0.5")
    trial.start()
    trial.deploy(2)
    assert trial.reload() == 0
    trial.assert_serves(2)
    story = trial.story()
    (named,) = (said for said in story.notifications if "MAINPID" in said.fields)
    (probation,) = (said for said in story.notifications if "on probation" in said.fields.get("STATUS", ""))
    assert story.notifications.index(probation) < story.notifications.index(named)


@pytest.mark.parametrize(
    "stage",
    [
        "SERVING+RELOAD_ASKED/1",
        "STARTING_SUCCESSOR+PEER_ASKS_YIELD/0",
        "YIELDING+NO_WORKER/0",
        "YIELDED+PEER_SERVES/0",
        f"{NAMES_MAIN}/1",
        "COMMITTING+BARRIER_RETURNED/1",
    ],
)
def test_a_predecessor_killed_before_it_leaves(trial: Trial, stage: str) -> None:
    """systemd restarts the unit, or keeps the successor if that was main already; nothing of the old side is left, and
    the new code serves."""
    trial.main_pid_is_doubtful = True
    gate = trial.gate()
    transition, _, effect = stage.partition("/")
    trial.install(gate.setting(transition, int(effect)))
    trial.start()
    trial.deploy(2)
    journal = trial.follow()
    with trial.calling("reload") as call:
        old = gate.wait_until_reached()
        trial.kill(old)
        call.wait(20)
        gate.open()
    trial.machine.wait_until_gone(old, timeout_seconds=10)
    if stage.startswith((NAMES_MAIN, "COMMITTING")):
        journal.wait_for("Changed reload -> running")
        assert trial.show("NRestarts")["NRestarts"] == "0"
    else:
        wait_for_all(journal, "Scheduled restart job", "Changed start -> running")
        assert trial.show("NRestarts")["NRestarts"] == "1"
    trial.assert_serves(2)
    assert trial.strays == []
