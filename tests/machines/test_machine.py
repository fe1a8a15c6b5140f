"""The ground itself: a machine is a real systemd, tells the truth, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures import Equipment
from tests.support.guarded import MachineError
from tests.support.journal import NotInJournal
from tests.support.machine import CommandFailed, Machine

MACHINE = Equipment()

NOTIFYING = """#!/usr/bin/python3
import sdnotify, signal
print("about to be ready", flush=True)
sdnotify.SystemdNotifier().notify("READY=1\\nSTATUS=here we are")
signal.pause()
"""

UNIT = """[Service]
Type=notify
ExecStart=/opt/notifying
"""

# A user of a machine that tells where it is and then does nothing until it is killed.
USER = """
import json, sys
from tests.support.machine import Machine
with Machine(with_product=False) as machine:
    print(json.dumps([machine.name, str(machine.directory), str(machine.cgroup), machine.leader]), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def service(machine: Machine) -> Iterator[str]:
    """A started Type=notify service."""
    machine.write("/opt/notifying", NOTIFYING, mode=0o755)
    machine.write("/run/systemd/system/notifying.service", UNIT)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "notifying")
    yield "notifying.service"
    machine.run("systemctl", "stop", "notifying")


def remains(name: str, directory: Path, cgroup: Path, leader: int) -> list[str]:
    """What is still there of a machine that should be gone."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    places = [
        directory,
        cgroup,
        Path("/sys/fs/cgroup/systemd", name),
        Path("/run/systemd/nspawn/propagate", name),
    ]
    return mounts + [str(place) for place in places if place.exists()] + ([str(leader)] if runs(leader) else [])


def runs(pid: int) -> bool:
    """Whether this process of ours lives; a dead one may stay a zombie until our own PID 1 gets to it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_boots_a_real_systemd(machine: Machine) -> None:
    """PID 1 is systemd, its start-up is finished, and no unit failed."""
    assert machine.processes()[0].cmdline[0].endswith("/systemd")
    assert machine.run("systemctl", "is-system-running").stdout == "running\n"
    assert int(machine.systemd_version.partition(".")[0]) >= 252


def test_notify_service_starts_and_stops(machine: Machine, service: str) -> None:
    """A started service has the status it notified; stopping ends its process."""
    shown = machine.show(service, "ActiveState", "StatusText", "MainPID")
    assert (shown["ActiveState"], shown["StatusText"]) == ("active", "here we are")
    (process,) = machine.processes(service)
    assert process.pid == int(shown["MainPID"])
    assert process.cmdline == ["/usr/bin/python3", "/opt/notifying"]
    machine.run("systemctl", "stop", service)
    machine.wait_until_gone(process.pid, timeout_seconds=5)
    assert machine.processes(service) == []


@pytest.mark.usefixtures("service")
def test_visitors_belong_to_no_unit(machine: Machine) -> None:
    """What `run` and `popen` start is in none of the cgroups that the machine's systemd manages."""
    with machine.popen("sh", "-c", "echo $$; exec sleep inf") as visitor:
        assert visitor.stdout is not None
        pid = int(visitor.stdout.readline())
        (process,) = (process for process in machine.processes() if process.pid == pid)
        assert process.unit == ""
        listed = machine.run("systemd-cgls", "--all", "--no-pager").stdout
        assert "notifying.service" in listed
        assert f"{pid} sleep inf" not in listed
    machine.wait_until_gone(pid, timeout_seconds=5)


def test_follows_the_journal(machine: Machine, service: str) -> None:
    """A follower sees what happens after it was made, and not what was before."""
    journal = machine.follow_journal(service)
    machine.run("systemctl", "restart", service)
    assert next(journal)["MESSAGE"].startswith("Stopping ")
    entry = journal.wait_for("about to be ready")
    started = journal.wait_for(lambda entry: entry.get("JOB_TYPE") == "start")
    assert started["JOB_RESULT"] == "done"
    ready = machine.journal(service, "MESSAGE=about to be ready")
    assert ready[-1]["__CURSOR"] == entry["__CURSOR"]


def test_a_follower_misses_nothing(machine: Machine) -> None:
    """The first entry it is to tell is told, also when the journal's last one before was none of its own."""
    journal = machine.follow_journal(None, "SYSLOG_IDENTIFIER=chosen", timeout_seconds=5)
    for text in ("one", "two"):
        machine.run("logger", "--tag=other", "something else")
        machine.run("logger", "--tag=chosen", text)
        assert next(journal)["MESSAGE"] == text


def test_a_follower_wakes_up_for_what_comes_later(machine: Machine) -> None:
    """What is logged while we wait is told, and no line of a burst is lost."""
    machine.run("systemd-run", "--unit=later", "sh", "-c", "sleep 0.3; seq 2000; echo end")
    machine.follow_journal("later.service").wait_for("end", timeout_seconds=10)
    assert len(machine.journal("later.service", "SYSLOG_IDENTIFIER=sh")) == 2001


def test_a_follower_has_a_deadline(machine: Machine, service: str) -> None:
    """Waiting for what never comes ends, and tells what came instead."""
    journal = machine.follow_journal(service)
    machine.run("systemctl", "restart", service)
    with pytest.raises(NotInJournal, match="about to be ready"):
        journal.wait_for("what never comes", timeout_seconds=0.2)


def test_kill_and_wait(machine: Machine, service: str) -> None:
    """A signal reaches the process of that pid inside, and its end is seen."""
    pid = int(machine.show(service, "MainPID")["MainPID"])
    journal = machine.follow_journal(service)
    machine.kill(pid, signal.SIGKILL)
    machine.wait_until_gone(pid, timeout_seconds=5)
    journal.wait_for("code=killed, status=9/KILL")
    with pytest.raises(ProcessLookupError):
        machine.kill(pid, signal.SIGKILL)


def test_waiting_for_a_living_process_has_a_deadline(machine: Machine) -> None:
    """A process that stays is told from one that has gone."""
    with pytest.raises(MachineError, match="still there"):
        machine.wait_until_gone(1, timeout_seconds=0.05)


def test_files_are_the_machines(machine: Machine) -> None:
    """Paths are resolved in the machine, absolute links too; links are swapped, files replaced."""
    machine.write("/run/thing", "one\n", mode=0o600)
    machine.write("/run/thing", "two\n", mode=0o600)
    assert machine.run("stat", "--format=%a", "/run/thing").stdout == "600\n"
    assert machine.read("/var/run/thing") == "two\n"  # /var/run is a link to the absolute /run
    for release in ("/srv/app/1", "/srv/app/2"):
        machine.write(f"{release}/name", release)
        machine.symlink(release, "/srv/app/current")
    assert machine.readlink("/srv/app/current") == "/srv/app/2"
    assert machine.run("cat", "/srv/app/current/name").stdout == "/srv/app/2"
    machine.remove("/srv/app")
    assert not machine.exists("/srv/app/2/name")
    machine.run("sh", "-c", "echo from inside >/exchange/greeting")
    assert (machine.exchange / "greeting").read_text() == "from inside\n"


def test_a_failed_command_tells_why(machine: Machine) -> None:
    """A status other than 0 raises with the output, unless it is not to be checked."""
    with pytest.raises(CommandFailed, match=r"Unit no-such\.service not found"):
        machine.run("systemctl", "start", "no-such")
    assert machine.run("sh", "-c", "cat; exit 3", input="fed", check=False).stdout == "fed"


def test_a_command_that_hangs_is_ended(machine: Machine) -> None:
    """A command past its time is killed inside, not only given up on."""
    with pytest.raises(MachineError, match=r"did not end in 0\.2 s"):
        machine.run("sh", "-c", "echo $$ >/run/hanging; exec sleep inf", timeout=0.2)
    machine.wait_until_gone(int(machine.read("/run/hanging")), timeout_seconds=5)


def test_nothing_is_left_of_a_closed_machine(fresh_machine: Machine) -> None:
    """Closing takes away mounts, cgroups, directories and every process, a daemon of a visitor too."""
    fresh_machine.run("sh", "-c", "sleep inf >/dev/null 2>&1 &")
    host_pids = [int(pid) for file in fresh_machine.cgroup.rglob("cgroup.procs") for pid in file.read_text().split()]
    fresh_machine.close()
    assert len(host_pids) > 4
    assert [pid for pid in host_pids if runs(pid)] == []
    assert remains(fresh_machine.name, fresh_machine.directory, fresh_machine.cgroup, fresh_machine.leader) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_user_is_killed(number: signal.Signals, machine: Machine) -> None:
    """However the process that booted a machine dies, the machine is taken away soon after."""
    command = [sys.executable, "-c", USER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as user:
        assert user.stdout is not None
        name, directory, cgroup, leader = json.loads(user.stdout.readline())
        children = Path(f"/proc/{user.pid}/task/{user.pid}/children").read_text().split()
        guardian = os.pidfd_open(int(children[0]))
        user.send_signal(number)
        user.wait(10)
    gone, _, _ = select.select([guardian], [], [], 10)
    os.close(guardian)
    assert gone
    assert remains(name, Path(directory), Path(cgroup), leader) == []
    assert machine.run("true").returncode == 0  # and only that one


def test_nothing_is_left_when_the_guardian_is_killed(fresh_machine: Machine) -> None:
    """A machine whose guardian died is taken away by closing it, as any other."""
    place = (fresh_machine.name, fresh_machine.directory, fresh_machine.cgroup, fresh_machine.leader)
    guardian = int(fresh_machine.name.split("-")[1])
    pidfd = os.pidfd_open(guardian)
    os.kill(guardian, signal.SIGKILL)
    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)
    fresh_machine.close()
    assert remains(*place) == []


def test_machines_run_side_by_side(machine: Machine) -> None:
    """Machines booted at once, by threads that end, do not know of each other."""
    others = [Machine(with_product=False) for _ in range(3)]
    threads = [threading.Thread(target=other.__enter__) for other in others]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for number, other in enumerate(others):
            other.write("/run/number", str(number))
        assert [other.run("cat", "/run/number").stdout for other in others] == ["0", "1", "2"]
        assert not machine.exists("/run/number")
    finally:
        for other in others:
            other.close()


def test_a_machine_that_does_not_boot_says_why() -> None:
    """A boot that takes too long is an error with the console's last words, and leaves nothing behind."""
    with pytest.raises(MachineError, match="did not finish booting in time"):
        Machine(with_product=False, boot_limit_seconds=0.05).__enter__()
