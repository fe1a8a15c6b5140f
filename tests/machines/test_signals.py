"""Reloads asked by SIGUSR2, by a second start, by two at once, and in the middle of what systemd itself does."""

from __future__ import annotations

import signal

import pytest

from sdsupervise.errors import ExitStatus
from tests.support.fifos import Gate
from tests.support.trial import Trial, source


def by_hand(trial: Trial) -> None:
    trial.kill(trial.main_pid, signal.SIGUSR2)


def by_kill_of_the_main_process(trial: Trial) -> None:
    trial.systemctl("kill", "--kill-whom=main", "--signal=USR2")


def by_kill_of_the_whole_cgroup(trial: Trial) -> None:
    trial.systemctl("kill", "--signal=USR2")


def by_a_second_start(trial: Trial) -> None:
    """From a root's shell: it has no NOTIFY_SOCKET, so it is somebody who wants the new code."""
    command = [*trial.command.split(), "--pid-file", f"/run/sdsupervise/{trial.name}/Trial.pid"]
    directory = {"RUNTIME_DIRECTORY": f"/run/sdsupervise/{trial.name}"}
    done = trial.machine.run(*command, env=directory)
    assert "Daemon is already running, initiated hot reload" in done.stderr


WAYS = (by_hand, by_kill_of_the_main_process, by_kill_of_the_whole_cgroup, by_a_second_start)


@pytest.mark.parametrize("ask", WAYS, ids=lambda way: way.__name__)
def test_a_reload_without_systemctl(trial: Trial, ask: object) -> None:
    """The unit goes running > reload > running by our notifications alone; MAINPID is the successor's, no restart, and
    nobody dies of the signal."""
    assert callable(ask)
    trial.start()
    old, cursor, journal = trial.main_pid, trial.machine.journal_cursor(), trial.follow()
    trial.deploy(2)
    ask(trial)
    journal.wait_for("Reloaded: generation 2 serves")
    trial.machine.wait_until_gone(old, timeout_seconds=10)
    trial.assert_serves(2)
    assert trial.story(after=cursor).changes == [("running", "reload"), ("reload", "running")]
    assert trial.show("NRestarts")["NRestarts"] == "0"
    assert trial.strays == []
    assert trial.reload() == 0


@pytest.mark.parametrize("ask", WAYS[:3], ids=lambda way: way.__name__)  # a second start loads the code itself
def test_broken_code_without_systemctl(trial: Trial, ask: object) -> None:
    """The unit comes back from reload to running, the old processes serve, STATUS has the reason."""
    assert callable(ask)
    trial.start()
    serving, journal = (trial.main_pid, trial.worker_pid), trial.follow()
    trial.deploy(2, source(2, top="import requsts"))
    ask(trial)
    journal.wait_for("Not reloaded: ")
    journal.wait_for("-> running")
    assert (trial.main_pid, trial.assert_serves(1)["pid"]) == serving
    assert "No module named 'requsts'" in trial.status
    trial.deploy(3)
    assert trial.reload() == 0
    trial.assert_serves(3)


@pytest.fixture
def raising(trial: Trial) -> Gate:
    """A gate that will hold a predecessor whose successor has just got ready."""
    gate = trial.gate()
    trial.install(gate.setting("STARTING_SUCCESSOR+PEER_ASKS_YIELD"))
    trial.start()
    trial.deploy(2)
    return gate


def test_a_signal_during_a_reload_is_ignored(trial: Trial, raising: Gate) -> None:
    """SIGUSR2 to the whole unit in the middle of a reload: one reload, one warning, nobody dies of it."""
    with trial.calling("reload") as call:
        raising.wait_until_reached()
        trial.systemctl("kill", "--signal=USR2")
        raising.open()
        assert call.wait(20) == 0
    trial.assert_serves(2)
    story = trial.story()
    assert len(story.told("MAINPID")) == 1
    assert story.says("Reload asked by SIGUSR2 refused: A reload is already in progress.")


def test_two_callers_of_systemctl_reload(trial: Trial, raising: Gate) -> None:
    """Both wait and both are told the truth; systemd runs the second after the first."""
    journal = trial.follow()
    with trial.calling("reload") as first:
        raising.wait_until_reached()
        with trial.calling("reload") as second:
            journal.wait_for(f"{trial.unit}/reload")
            raising.open()
            assert (first.wait(20), second.wait(20)) == (0, 0)
    trial.assert_serves(2)
    assert trial.show("NRestarts")["NRestarts"] == "0"


def test_a_caller_of_the_control_socket_during_a_reload(trial: Trial) -> None:
    """`sdsupervise reload NAME` in the middle of a reload is refused at once, and says why."""
    warming, warm = trial.fifo("warming"), trial.fifo("warm")
    trial.start()
    trial.deploy(2, source(2, warm_up=f"open({warming.path!r}, 'w').write('here'); open({warm.path!r}).readline()"))
    with trial.calling("reload") as call:
        assert warming.read() == "here"
        done = trial.machine.run("sdsupervise", "reload", trial.name, check=False)
        assert (done.returncode, done.stderr) == (1, "NOT RELOADED. A reload is already in progress.\n")
        warm.write("enough\n")
        assert call.wait(20) == 0
    trial.assert_serves(2)


def test_systemctl_reload_during_a_reload_by_signal(trial: Trial, raising: Gate) -> None:
    """systemd lets it wait until the unit is running again; then it is done."""
    trial.systemctl("kill", "--kill-whom=main", "--signal=USR2")
    raising.wait_until_reached()
    journal = trial.follow()
    with trial.calling("reload") as call:
        journal.wait_for(f"Enqueued job {trial.unit}/reload")
        raising.open()
        assert call.wait(20) == 0
    trial.assert_serves(2)
    assert trial.status.startswith("Generation 3 serves")


def test_a_reload_by_a_shell(trial: Trial) -> None:
    """`sdsupervise reload NAME` as root: exit status 0, it says what became of it, systemd follows."""
    trial.start()
    old = trial.main_pid
    trial.deploy(2)
    done = trial.machine.run("sdsupervise", "reload", trial.name)
    trial.machine.wait_until_gone(old, timeout_seconds=10)
    assert f"main pid {old} -> {trial.main_pid}" in done.stdout
    trial.assert_serves(2)
    trial.deploy(3, source(3, top="import requsts"))
    done = trial.machine.run("sdsupervise", "reload", trial.name, check=False)
    assert done.returncode == ExitStatus.FAILED
    assert "ModuleNotFoundError: No module named 'requsts'" in done.stderr
    assert f'/srv/{trial.name}/releases/3/trial.py", line' in done.stderr
    trial.assert_serves(2)


@pytest.mark.parametrize(
    "stage", ["STARTING_SUCCESSOR+PEER_ASKS_YIELD", "YIELDED+PEER_SERVES", "COMMITTING+BARRIER_RETURNED"]
)
def test_daemon_reload_during_a_reload(trial: Trial, stage: str) -> None:
    """A daemon-reload at any moment of a reload changes nothing."""
    gate = trial.gate()
    trial.install(gate.setting(stage))
    trial.start()
    trial.deploy(2)
    with trial.calling("reload") as call:
        gate.wait_until_reached()
        trial.machine.run("systemctl", "daemon-reload")
        gate.open()
        assert call.wait(20) == 0
    trial.assert_serves(2)
    assert trial.show("NRestarts")["NRestarts"] == "0"


@pytest.mark.parametrize("stage", ["STARTING_SUCCESSOR+PEER_ASKS_YIELD", "COMMITTING+BARRIER_RETURNED"])
def test_daemon_reexec_during_a_reload(trial: Trial, stage: str) -> None:
    """PID 1 executes itself anew: systemctl may lose its connection, the reload is done all the same."""
    gate, journal = trial.gate(), trial.follow()
    trial.install(gate.setting(stage))
    trial.start()
    old = trial.main_pid
    trial.deploy(2)
    with trial.calling("reload") as call:
        gate.wait_until_reached()
        trial.machine.run("systemctl", "daemon-reexec")
        gate.open()
        call.wait(20)
    journal.wait_for("Reloaded: generation 2 serves")
    trial.machine.wait_until_gone(old, timeout_seconds=10)
    journal.wait_for("-> running")
    trial.assert_serves(2)
    assert trial.show("NRestarts")["NRestarts"] == "0"


def test_a_service_that_cannot_be_reloaded_says_so(trial: Trial) -> None:
    """Without can_do_hot_reload `systemctl reload` fails with the reason, and SIGUSR2 changes nothing."""
    trial.deploy(1, source(1).replace("can_do_hot_reload = True", "can_do_hot_reload = False"))
    trial.start()
    serving, journal = (trial.main_pid, trial.worker_pid), trial.follow()
    assert trial.reload() == 1
    journal.wait_for("its class does not set can_do_hot_reload")
    trial.kill(trial.main_pid, signal.SIGUSR2)
    journal.wait_for("Reload asked by SIGUSR2 refused")
    assert (trial.main_pid, trial.assert_serves(1)["pid"]) == serving


def test_a_sigterm_by_hand_during_a_reload(trial: Trial, raising: Gate) -> None:
    """Somebody signals the main process itself: both sides leave, Restart=always brings the service back. (systemd 252
    takes a reload for done, whatever ExecReload= said, if the unit then ends well; the journal has the truth.)"""
    journal = trial.follow()
    with trial.calling("reload") as call:
        trial.kill(raising.wait_until_reached(), signal.SIGTERM)
        raising.open()
        call.wait(20)
    journal.wait_for("Not reloaded: A stop was requested.")
    journal.wait_for("release 2 serves")
    trial.assert_serves(2)
    assert trial.show("NRestarts")["NRestarts"] == "1"
