"""A shell script as a service of systemd's: what it says by `systemd-notify`, and what systemd hears of it."""

from __future__ import annotations

import re
import signal

import pytest

from tests.support.trial import Trial, wait_for_all

# `systemd-notify` sends a barrier behind what it sends, and fails where nobody answers that.
SCRIPT = """\
#!/bin/sh
trap 'kill $!; wait; echo release RELEASE stops; exit 0' TERM
systemd-notify --ready --status="RELEASE is warm" || exit 5
echo "release RELEASE serves"
while :; do sleep 1000 & wait; done
"""
SIGNALLED = """\
#!/usr/bin/python3 -u
import os, signal, sys
def tell(number, frame):
    os.write(1, f"release RELEASE got {signal.Signals(number).name}\\n".encode())
def stop(number, frame):
    os.write(1, b"release RELEASE stops\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
for number in (signal.SIGUSR1, signal.SIGHUP):
    signal.signal(number, tell)
print("release RELEASE serves")
os.system("systemd-notify --ready")
while True:
    signal.pause()
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
    journal.wait_for("Not reloaded: The worker exited with status 7 before it was ready: out of order. Generation 1, ")
    assert trial.main_pid == main_pid
    assert trial.show("ActiveState") == {"ActiveState": "active"}
    assert "Generation 1 serves" in trial.status and "exited with status 7" in trial.status


OUT_OF_ORDER = """\
#!/bin/sh
echo reading the configuration
echo "no such section: web" >&2
exit 7
"""


@BOTH
def test_last_words_of_a_command(trial: Trial, handover: str) -> None:
    """What it wrote before it ended is the reason: in the verdict, in the journal, in STATUS; whoever calls by
    `sdsupervise reload` sees its last lines."""
    deploy(trial, "one")
    install(trial, "--handover", handover)
    trial.start()
    deploy(trial, "two", OUT_OF_ORDER)
    journal = trial.follow()
    assert trial.reload() == 1
    reason = "The worker exited with status 7 before it was ready: no such section: web"
    told = journal.wait_for(lambda entry: entry.get("SDSUPERVISE_EVENT") == "rolled-back")
    assert told["SDSUPERVISE_REASON"] == reason
    assert trial.status.endswith(f" failed: {reason}")
    failed = trial.machine.run("sdsupervise", "reload", trial.name, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"reading the configuration\nno such section: web\nNOT RELOADED: {reason}. Gen")


@BOTH
def test_last_words_in_a_journal_of_others(trial: Trial, handover: str) -> None:
    """A supervisor that may not read the journal says where they are; root, who calls it, is shown them."""
    deploy(trial, "one")
    install(trial, "--handover", handover, settings=("User=nobody", "NoNewPrivileges=yes"))
    trial.start()
    deploy(trial, "two", OUT_OF_ORDER)
    assert trial.reload() == 1
    reason = r"The worker exited with status 7 before it was ready; its output: journalctl _PID=(\d+)"
    found = re.search(rf" failed: {reason}$", trial.status)
    assert found is not None, trial.status
    words = trial.machine.run("journalctl", "--quiet", "--output=cat", f"_PID={found[1]}").stdout
    assert words == "reading the configuration\nno such section: web\n"
    failed = trial.machine.run("sdsupervise", "reload", trial.name, check=False)
    assert re.match(rf"{words}NOT RELOADED: {reason}\. Gen", failed.stderr)


def test_last_words_of_a_command_that_says_much(trial: Trial) -> None:
    """Its last 20 lines are shown, in their order."""
    deploy(trial, "one")
    install(trial)
    trial.start()
    deploy(trial, "two", "#!/bin/sh\nn=0\nwhile [ $n -lt 50 ]; do n=$((n+1)); echo $n >&2; done\nexit 7\n")
    failed = trial.machine.run("sdsupervise", "reload", trial.name, check=False)
    assert failed.stderr.split()[:20] == [str(number) for number in range(31, 51)]


def test_a_command_that_says_nothing(trial: Trial) -> None:
    """Where nothing was written, nothing is said of it."""
    deploy(trial, "one")
    install(trial)
    trial.start()
    deploy(trial, "two", "#!/bin/sh\nexit 7\n")
    assert trial.reload() == 1
    assert trial.status.endswith(" failed: The worker exited with status 7 before it was ready.")


def test_a_command_broken_in_place(trial: Trial) -> None:
    """A reload whose new command fails, and whose old one cannot come back because it is on disk no more: systemd hears
    RELOADING=1 and then READY=1, the unit stays active; STATUS says that nobody serves until somebody does."""
    deploy(trial, "one")
    install(trial, "--delay-before-respawn 3")
    journal = trial.follow()
    trial.start()
    main_pid = trial.main_pid
    trial.machine.write(f"/srv/{trial.name}/releases/one/serve", OUT_OF_ORDER, mode=0o755)
    assert trial.systemctl("kill", "--kill-whom=main", "--signal=USR2").returncode == 0
    told = journal.wait_for(lambda entry: entry.get("SDSUPERVISE_EVENT") == "nobody-serves")
    outcome = (
        r"NOBODY SERVES: generation 1, \S+ \(\w+\), was started again from what is on disk and does not become ready"
    )
    assert re.search(rf"no such section: web\. {outcome}: the worker exited with status 7, the next ", told["MESSAGE"])
    assert trial.show("ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
    assert trial.status.startswith("Nobody serves (generation 1): the worker exited with status 7, the next starts ")
    notified = [said.fields for said in trial.story().notifications if said.sender == main_pid]
    states = [name for said in notified for name in ("RELOADING", "READY") if name in said]
    assert states == ["READY", "RELOADING", "READY"]
    assert trial.reload() == 1
    assert trial.status.startswith("Nobody serves (generation 1): ")
    deploy(trial, "one")
    journal.wait_for("release one serves")
    assert trial.main_pid == main_pid
    assert trial.reload() == 0
    assert trial.status.startswith("Generation 2 serves ")


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
    assert trial.story().says("It sent MAINPID=1. A worker stays the process that the supervisor started")


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


@pytest.mark.parametrize(
    ("handover", "place"),
    [("exclusive", "STARTING_SUCCESSOR+PEER_ASKS_YIELD"), ("overlap", "STARTING_SUCCESSOR+PEER_ASKS_LOCK")],
)
def test_other_signals_to_every_process(trial: Trial, handover: str, place: str) -> None:
    """`systemctl kill` with a signal that the script handles, as by a logrotate, to all of the unit in the middle of a
    reload: nothing of ours dies of it, neither supervisor nor shim nor the ExecReload= process. To the main process
    alone it reaches the script through that."""
    deploy(trial, "one", SIGNALLED)
    gate = trial.gate()
    install(trial, "--handover", handover, settings=(gate.setting(place),))
    journal = trial.follow()
    trial.start()
    journal.wait_for("release one serves")
    deploy(trial, "two", SIGNALLED)
    with trial.calling("reload") as call:
        gate.wait_until_reached()
        for name in ("USR1", "HUP"):
            trial.systemctl("kill", "--signal", name)
        gate.open()
        assert call.wait(20) == 0
    wait_for_all(journal, "release one got SIGUSR1", "release one got SIGHUP", "release one stops")
    assert trial.show("NRestarts") == {"NRestarts": "0"}
    main = trial.main_pid
    after = trial.follow()
    for name in ("SIGUSR1", "SIGHUP"):
        trial.systemctl("kill", "--kill-whom=main", "--signal", name)
        wait_for_all(after, f"{name} is passed on to pid ", f"release two got {name}")
    assert trial.main_pid == main
    assert not trial.story().says("exited with") and not trial.story().says("was killed")


@BOTH
def test_a_command_that_goes_to_the_background(trial: Trial, handover: str) -> None:
    """`systemctl start` fails, and says why; systemd does not try again, and nothing is left running."""
    trial.ends_failed = True
    deploy(trial, "one", "#!/bin/sh\nsetsid sleep 1000 &\nsleep 1001 &\nexit 0\n")
    install(trial, "--handover", handover)
    assert trial.systemctl("start", check=False).returncode == 1
    assert trial.show("ExecMainStatus", "NRestarts", "ActiveState") == {
        **{"ExecMainStatus": "78", "NRestarts": "0", "ActiveState": "failed"}
    }
    story = trial.story()
    assert story.says("The command went to the background: it exited with status 0 and left pid")
    assert story.says("in a script, exec the program as the last command, without a & behind it")


BECOMES_ANOTHER = """\
#!/usr/bin/python3 -u
import os, signal
signal.signal(signal.SIGTERM, lambda *_: (print("release RELEASE stops"), os._exit(0)))
os.setgroups([]); os.setresgid(GID, GID, GID); os.setresuid(UID, UID, UID)
assert os.system("systemd-notify --ready --status='RELEASE is warm'") == 0
print(f"release RELEASE serves as {os.getuid()}")
while True:
    signal.pause()
"""


@BOTH
def test_command_that_becomes_another_user(trial: Trial, handover: str) -> None:
    """A daemon that starts as root and drops it before READY=1, as mosquitto does, gets ready, also in a sandbox."""
    script = BECOMES_ANOTHER.replace("UID", "65534").replace("GID", "65534")
    few = "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL"
    deploy(trial, "one", script)
    install(trial, "--handover", handover, settings=(few, "NoNewPrivileges=yes", "ProtectProc=invisible"))
    journal = trial.follow()
    trial.start()
    journal.wait_for("release one serves as 65534")
    deploy(trial, "two", script)
    assert trial.reload() == 0
    wait_for_all(journal, "release one stops", "release two serves as 65534")
    trial.stop()
    journal.wait_for("release two stops")


@BOTH
def test_command_that_the_supervisor_may_not_signal(trial: Trial, handover: str) -> None:
    """Without CAP_KILL, a reload is refused and a stop does not wait for stop_timeout: systemd kills the command."""
    script = BECOMES_ANOTHER.replace("UID", "65534").replace("GID", "65534")
    deploy(trial, "one", script)
    options = ("--handover", handover, "--stop-timeout", "1000")
    install(trial, *options, settings=("CapabilityBoundingSet=CAP_SETUID CAP_SETGID", "TimeoutStopSec=1000"))
    journal = trial.follow()
    trial.start()
    journal.wait_for("release one serves as 65534")
    (pid,) = [process.pid for process in trial.processes if process.cmdline[:1] == ["/usr/bin/python3"]][-1:]
    assert trial.reload() != 0
    why = "to worker (pid {}), which runs as uid 65534: add CAP_KILL to CapabilityBoundingSet= of the unit."
    journal.wait_for("may not send signals " + why.format(pid))
    trial.stop()
    refused = journal.wait_for("may not send SIGTERM " + why.format(pid))
    assert (refused["SDSUPERVISE_EVENT"], refused["PRIORITY"]) == ("signal-refused", "3")
    trial.ends_failed = True
    assert trial.show("Result", "ExecMainStatus") == {"Result": "exit-code", "ExecMainStatus": "77"}


@BOTH
def test_reload_by_a_signal(trial: Trial, handover: str) -> None:
    """With --reload-signal, `systemctl reload` sends it, waits, and fails if the command does not live on."""
    deploy(trial, "one", SIGNALLED)
    install(trial, "--handover", handover, "--reload-signal", "SIGHUP", settings=("User=nobody",))
    journal = trial.follow()
    trial.start()
    journal.wait_for("release one serves")
    main = trial.main_pid
    assert trial.reload() == 0
    journal.wait_for("release one got SIGHUP")
    sent = journal.wait_for("Reloaded: Sent SIGHUP to worker (pid")
    assert (sent["SDSUPERVISE_EVENT"], sent["SDSUPERVISE_GENERATION"]) == ("reloaded", "1")
    assert trial.main_pid == main
    (began,) = [entry for entry in trial.story().own if entry.get("SDSUPERVISE_EVENT") == "reload-signalled"]
    assert "SIGHUP goes to worker (pid" in began["MESSAGE"]


@BOTH
def test_command_whose_reload_is_root(trial: Trial, handover: str) -> None:
    """PermissionsStartOnly= runs ExecReload= as root. The command stays its user's, and the reload says that it applies
    no change of the unit."""
    script = SIGNALLED.replace('print("release RELEASE serves")', 'print("release RELEASE serves as", os.getuid())')
    deploy(trial, "one", script)
    install(trial, "--handover", handover, settings=("User=games", "PermissionsStartOnly=yes"))
    journal = trial.follow()
    trial.start()
    games = trial.machine.run("id", "-u", "games").stdout.strip()
    journal.wait_for(f"release one serves as {games}")
    deploy(trial, "two", script)
    assert trial.reload() == 0
    journal.wait_for(f"release two serves as {games}")
    uids = {trial.machine.run("stat", "-c", "%u", f"/proc/{process.pid}").stdout.strip() for process in trial.processes}
    assert uids == {games}
    assert trial.story().says(f"The service was started as uid {games}; to change the user, restart the service")


STRANGERS_SAY = "a module of the command was imported by its supervisor"
STRANGER = f"raise SystemExit({STRANGERS_SAY!r})\n"
LIBRARIES = ("systemd", "psutil", "sdnotify", "setproctitle")
WITH_STRANGERS = """\
#!/usr/bin/python3 -u
import os, signal, sys
from importlib.machinery import PathFinder
print("release RELEASE sees", PathFinder.find_spec("psutil").origin)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("release RELEASE serves")
os.system("systemd-notify --ready")
while True:
    signal.pause()
"""


@pytest.mark.parametrize("start", ["/usr/bin/sdsupervise", "/usr/bin/python3 -m sdsupervise"])
def test_modules_of_the_command_stay_out_of_its_supervisor(trial: Trial, start: str) -> None:
    """PYTHONPATH and the working directory are the command's: what there has the name of a library that the supervisor
    uses is not imported by it, at the start or at a reload, and is what the command finds."""
    for name in LIBRARIES:
        trial.machine.write(f"/srv/strangers/{name}.py", STRANGER)
    deploy(trial, "1", WITH_STRANGERS)
    for settings in ("Environment=PYTHONPATH=/srv/strangers", "WorkingDirectory=/srv/strangers"):
        trial.install(settings, command=f"{start} run --name Trial --directory {trial.current} -- ./serve")
        journal = trial.follow()
        trial.start()
        assert trial.reload() == 0
        if "PYTHONPATH" in settings:
            wait_for_all(journal, "release 1 sees /srv/strangers/psutil.py")
        trial.stop()
        assert not trial.story().says(STRANGERS_SAY)
