"""journald is stopped, frozen or gone: the supervisor goes on, and says what is missing when it is back."""

from __future__ import annotations

import signal

from tests.support.fixtures import Equipment
from tests.support.trial import Trial

MACHINE = Equipment()  # its PID 1 says little, because it waits for journald, too

# Each refusal is an entry in the journal.
MUCH = """
from sdsupervise.control.client import Client
client = Client.connect("/run/sdsupervise/{name}/control", timeout_seconds=20)
for _ in range(3000):
    assert next(client.call("Scale", {{"workers": 0}})).error == "ScaleRefused"
"""


def say_much(trial: Trial) -> None:
    trial.machine.run("python3", "-c", MUCH.format(name=trial.name))


def journald(trial: Trial) -> int:
    return int(trial.machine.show("systemd-journald.service", "MainPID")["MainPID"])


def test_a_frozen_journald(trial: Trial) -> None:
    """With journald stopped and its queue full the supervisor answers, replaces a worker and reloads. When journald
    goes on, the journal has what fitted, and how many entries are missing."""
    trial.start()
    first = trial.assert_serves(1)["pid"]
    pid = journald(trial)
    trial.kill(pid, signal.SIGSTOP)
    try:
        say_much(trial)
        trial.kill(first)
        trial.machine.wait_until_gone(first, timeout_seconds=10)
        trial.deploy(2)
        assert trial.reload() == 0
        assert trial.assert_serves(2)["pid"] != first
        say_much(trial)
        main = trial.main_pid
    finally:
        trial.kill(pid, signal.SIGCONT)
    journal = trial.machine.follow_journal(None, f"_PID={main}", after=trial.began)
    entry = journal.wait_for(lambda entry: "log entries dropped, because journald took no more" in entry["MESSAGE"])
    number = int(entry["MESSAGE"].split()[0])
    assert 1000 < number < 3000 and entry["SYSLOG_IDENTIFIER"] == "Trial"
    trial.deploy(3)
    assert trial.reload() == 0
    trial.assert_serves(3)


def test_a_stop_without_journald(trial: Trial) -> None:
    """`systemctl stop` ends well while nobody takes a log entry."""
    trial.start()
    pid = journald(trial)
    trial.kill(pid, signal.SIGSTOP)
    try:
        say_much(trial)
        trial.stop()
        trial.assert_gone()
    finally:
        trial.kill(pid, signal.SIGCONT)


def test_another_journald(trial: Trial) -> None:
    """A journald that died and was started again is found; so is one whose sockets were away for a while."""
    trial.start()
    sockets = ("systemd-journald.socket", "systemd-journald-dev-log.socket")
    journal = trial.follow()
    killed = journald(trial)
    trial.kill(killed)
    trial.machine.wait_until_gone(killed, timeout_seconds=10)
    trial.machine.run("systemctl", "start", "systemd-journald.service")  # joins the start that systemd has begun
    trial.systemctl("kill", "--kill-whom=main", "--signal=ALRM")
    journal.wait_for("SIGALRM is ignored")
    trial.machine.run("systemctl", "stop", *sockets, "systemd-journald.service")
    trial.systemctl("kill", "--kill-whom=main", "--signal=PROF")
    trial.assert_serves(1)
    trial.machine.run("systemctl", "start", *sockets, "systemd-journald.service")
    journal = trial.follow()
    trial.systemctl("kill", "--kill-whom=main", "--signal=VTALRM")
    journal.wait_for("SIGVTALRM is ignored")
    trial.assert_serves(1)
