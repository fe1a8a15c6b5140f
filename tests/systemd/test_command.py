"""A shell script as a service of systemd's: what it says by `systemd-notify`, and what systemd hears of it."""

from __future__ import annotations

import signal

import pytest

from tests.systemd.trial import Trial, wait_for_all

# `systemd-notify` sends a barrier behind what it sends, and fails where nobody answers that.
SCRIPT = """\
#!/bin/sh
trap 'kill $!; wait; echo release RELEASE stops; exit 0' TERM
systemd-notify --ready --status="RELEASE is warm" || exit 5
echo "release RELEASE serves"
while :; do sleep 1000 & wait; done
"""
BOTH = pytest.mark.parametrize("handover", ["exclusive", "overlap"])


def deploy(trial: Trial, release: str, script: str = SCRIPT) -> None:
    text = script.replace("RELEASE", release)
    trial.machine.write(f"/srv/{trial.name}/releases/{release}/serve", text, mode=0o755)
    trial.machine.symlink(f"releases/{release}", trial.current)


def install(trial: Trial, *options: str, settings: tuple[str, ...] = ()) -> None:
    command = [
        "/usr/bin/sdsupervise run --name Trial --directory",
        trial.current,
        "--delay-before-respawn 0",
        *options,
        "-- ./serve",
    ]
    trial.install(*settings, command=" ".join(command))


def workers(trial: Trial) -> list[int]:
    """The pids of the scripts."""
    return [process.pid for process in trial.processes if process.cmdline[:1] == ["/bin/sh"]]


@BOTH
def test_life_of_a_command(trial: Trial, handover: str) -> None:
    """It is started when it has said READY=1, started again when it dies, reloaded with systemd's exit status, and
    stopped; systemd hears of it from the supervisor alone."""
    deploy(trial, "one")
    install(trial, "--handover", handover, settings=("User=nobody", "NoNewPrivileges=yes"))
    journal = trial.follow()
    trial.start()
    journal.wait_for("release one serves")
    first = trial.main_pid
    deploy(trial, "two")
    assert trial.reload() == 0
    wait_for_all(journal, "release one stops", "release two serves")
    assert trial.main_pid != first
    assert trial.status.startswith(f"Generation 2 serves /srv/{trial.name}/releases/two/serve (")
    trial.stop()
    journal.wait_for("release two stops")
    story = trial.story()
    senders = {said.sender for said in story.notifications}
    assert len(senders) == 2 and "is warm" not in str(story.notifications)
    assert not story.says("left a process behind")


@BOTH
def test_reload_of_a_command_that_fails(trial: Trial, handover: str) -> None:
    """A script that ends before READY=1 makes `systemctl reload` fail with that reason; the old one serves."""
    deploy(trial, "one")
    install(trial, "--handover", handover)
    trial.start()
    main_pid = trial.main_pid
    deploy(trial, "two", "#!/bin/sh\necho out of order\nexit 7\n")
    journal = trial.follow()
    assert trial.reload() == 1
    journal.wait_for("Not reloaded: The worker exited with status 7 before it was ready.")
    assert trial.main_pid == main_pid
    assert trial.show("ActiveState") == {"ActiveState": "active"}
    assert "Generation 1 serves" in trial.status and "exited with status 7" in trial.status


def test_start_of_a_command_that_fails(trial: Trial) -> None:
    """`systemctl start` fails at once where the command ends before READY=1, and says why."""
    trial.ends_failed = True
    deploy(trial, "one", "#!/bin/sh\nexit 7\n")
    install(trial, settings=("Restart=no",))
    assert trial.systemctl("start", check=False).returncode == 1
    assert trial.show("ExecMainStatus") == {"ExecMainStatus": "69"}
    assert trial.story().says("The service did not get ready: the worker exited with status 7")


def test_command_that_is_not_there(trial: Trial) -> None:
    """A program that is missing is one sentence, and no reason to try again."""
    trial.ends_failed = True
    install(trial)
    assert trial.systemctl("start", check=False).returncode == 1
    assert trial.show("ExecMainStatus", "NRestarts") == {"ExecMainStatus": "78", "NRestarts": "0"}
    assert trial.story().says("Cannot run ./serve: there is no such program in")


def test_main_pid_stays_ours(trial: Trial) -> None:
    """What a command claims of the main pid, and of stopping, is not systemd's to hear."""
    script = SCRIPT.replace("systemd-notify --ready", "systemd-notify --ready --pid=1")
    deploy(trial, "one", script)
    install(trial)
    trial.start()
    assert trial.main_pid not in (1, *workers(trial))
    assert trial.story().says("It sent MAINPID=1. A worker stays the process we started")


def test_killed_supervisor_of_an_exclusive_command(trial: Trial) -> None:
    """`kill -9` of the supervisor: the unit is restarted, and the old script is dead by then."""
    deploy(trial, "one")
    install(trial)
    journal = trial.follow()
    trial.start()
    journal.wait_for("release one serves")
    old = workers(trial)
    trial.kill(trial.main_pid, signal.SIGKILL)
    journal.wait_for("release one serves")
    assert len(workers(trial)) == 1 and workers(trial) != old


def test_reload_signal_to_every_process(trial: Trial) -> None:
    """`systemctl kill -s USR2` reloads, and a script that handles SIGUSR2 gets it too (but for --kill-whom=main)."""
    deploy(trial, "one", SCRIPT.replace("systemd-notify", "trap 'echo got USR2' USR2\nsystemd-notify"))
    install(trial)
    journal = trial.follow()
    trial.start()
    journal.wait_for("release one serves")
    trial.systemctl("kill", "-s", "USR2")
    wait_for_all(journal, "got USR2", "Reloaded: generation 2 serves")
