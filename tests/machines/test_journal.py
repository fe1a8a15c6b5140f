"""What the journal has of us, and what our processes have of systemd in their environment."""

from __future__ import annotations

import pytest

from tests.support.machine import Machine
from tests.support.trial import Trial, source

# Every field that a log record of ours may have; journald's own begin with an underscore.
FIELDS = {
    "MESSAGE",
    "PRIORITY",
    "SYSLOG_IDENTIFIER",
    "LOGGER",
    "CODE_FILE",
    "CODE_LINE",
    "CODE_FUNC",
    "SDSUPERVISE_ROLE",
    "SDSUPERVISE_GENERATION",
    "SDSUPERVISE_WORKER_PID",
    # of events
    "MESSAGE_ID",
    "SDSUPERVISE_EVENT",
    "SDSUPERVISE_WORKER_INDEX",
    "SDSUPERVISE_DURATION_SEC",
}


def test_log_records_have_fields(trial: Trial) -> None:
    """A record of the supervisor and one of the service say who speaks, in which generation, how grave it is, and
    nothing else of the record."""
    code = source(
        1, top="import logging", warm_up="logging.getLogger('app').error('sour %s', 'milk', extra={'cow': 'Elsa'})"
    )
    trial.deploy(1, code)
    trial.start()
    assert trial.reload() == 0
    worker = trial.worker_pid
    entries = {(entry["MESSAGE"], entry.get("SDSUPERVISE_GENERATION")): entry for entry in trial.story().own}
    ready = next(entry for (message, _), entry in entries.items() if message.endswith("of generation 2 is ready"))
    assert ready["SDSUPERVISE_ROLE"] == "supervisor"
    assert (ready["SDSUPERVISE_GENERATION"], ready["PRIORITY"]) == ("2", "6")
    assert ready["_PID"] == str(trial.main_pid)
    sour = entries["sour milk", "2"]
    assert (sour["SDSUPERVISE_ROLE"], sour["SDSUPERVISE_WORKER_PID"]) == ("worker", str(worker))
    assert (sour["_PID"], sour["PRIORITY"], sour["LOGGER"]) == (str(worker), "3", "app")
    for entry in (ready, sour):
        assert {name for name in entry if not name.startswith("_")} - {"TID", "SYSLOG_TIMESTAMP"} <= FIELDS


def test_a_print_is_in_the_journal_at_once(trial: Trial) -> None:
    """Each line by itself, while the worker goes on, in the first generation and after a reload."""
    for generation in (1, 2):
        go_on = trial.fifo(f"go_on{generation}")
        trial.deploy(
            generation, source(generation, warm_up=f"print('one\\ntwo', {generation}); open({go_on.path!r}).readline()")
        )
        journal = trial.follow()
        with trial.calling("start" if generation == 1 else "reload") as call:
            first = journal.wait_for(lambda entry: entry["MESSAGE"] == "one")
            journal.wait_for(f"two {generation}")
            assert call.poll() is None
            assert first["_TRANSPORT"] == "stdout"
            go_on.write("now\n")
            assert call.wait(20) == 0


def test_workers_have_nothing_of_systemd(trial: Trial) -> None:
    """No NOTIFY_SOCKET, no WATCHDOG_*, no descriptor of ours in a worker, in the first generation and after reloads of
    either kind; what the unit gives the service it has."""
    trial.install("WatchdogSec=30", "Environment=COLOUR=green")
    trial.start()
    for generation in range(1, 4):
        environment = trial.assert_serves(1)["environment"]
        assert environment["COLOUR"] == "green"
        assert environment["INVOCATION_ID"] == trial.show("InvocationID")["InvocationID"]
        assert not {
            name
            for name in environment
            if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_", "SDSUPERVISE_")) or name == "MAINPID"
        } - {"SDSUPERVISE_GENERATION", "SDSUPERVISE_WORKER_INDEX"}
        if generation != 2:  # the second goes on in ExecReload=, whose environment the kernel shows
            supervisor = trial.environment_of(trial.main_pid)
            assert {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} <= supervisor.keys()
        if generation == 2:
            old, journal = trial.main_pid, trial.follow()
            trial.systemctl("kill", "--kill-whom=main", "--signal=USR2")
            journal.wait_for("Reloaded: generation 3 serves")
            trial.machine.wait_until_gone(old, timeout_seconds=10)
        elif generation == 1:
            assert trial.reload() == 0


def test_a_worker_cannot_speak_for_the_unit(trial: Trial) -> None:
    """A worker that finds the notification socket all the same is not listened to: NotifyAccess=main."""
    trial.install()
    trial.start()
    notify = trial.environment_of(trial.main_pid)["NOTIFY_SOCKET"]
    trial.deploy(
        2,
        source(
            2,
            facts=f"os.environ['NOTIFY_SOCKET'] = {notify!r}; import sdnotify; "
            "sdnotify.SystemdNotifier(debug=True).notify('STOPPING=1'); facts['told'] = True",
        ),
    )
    trial.main_pid_is_doubtful = True  # the point of the test
    assert trial.reload() == 0
    journal = trial.follow()
    assert trial.ask()["told"] is True
    journal.wait_for("reception only permitted for main PID")
    trial.assert_serves(2)


@pytest.fixture
def quiet_machine(fresh_machine: Machine) -> Machine:
    """A machine whose PID 1 logs as usual."""
    return fresh_machine


def test_what_an_operator_finds(quiet_machine: Machine) -> None:
    """`journalctl -u` and `systemctl status` tell the reason of a failed start and of a failed reload."""
    trial = Trial(quiet_machine, "shop")
    trial.install()
    trial.deploy(1, source(1, top="import requsts"))
    assert trial.systemctl("start", check=False).returncode == 1
    told = quiet_machine.run("journalctl", "--unit=shop", "--output=cat").stdout
    assert "import requsts\nModuleNotFoundError: No module named 'requsts'" in told
    shown = trial.systemctl("status", "--full", check=False).stdout
    assert "status=78" in shown
    assert "Status: \"Cannot load trial.py:Trial: ModuleNotFoundError: No module named 'requsts'\"" in shown
    trial.deploy(1)
    trial.start()
    trial.deploy(2, source(2, top="1 / 0"))
    done = trial.systemctl("reload", check=False)
    assert done.returncode == 1
    assert 'See "systemctl status shop.service"' in done.stderr
    shown = trial.systemctl("status", "--full").stdout
    line = f"ExecReload=/usr/bin/sdsupervise reload /etc/sdsupervise/{trial.name}.toml"
    assert f"{line} (code=exited, status=1/FAILURE)" in shown
    assert "failed: Cannot load trial.py:Trial: ZeroDivisionError: division by zero" in shown
    warnings = quiet_machine.run("journalctl", "--unit=shop", "--priority=err", "--output=cat").stdout
    assert "Not reloaded: Cannot load trial.py:Trial: ZeroDivisionError: division by zero" in warnings
    told = quiet_machine.run("journalctl", "--unit=shop", "--output=cat").stdout
    assert "ZeroDivisionError: division by zero" in told
    assert "reception only permitted" not in told
    trial.stop()
    trial.assert_gone()
