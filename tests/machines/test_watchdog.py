"""systemd's watchdog: armed in every generation, and served by a supervisor that does nothing else."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.journal import Entry
from tests.support.story import Notification, Story
from tests.support.trial import Trial, source, wait_for_all

PERIOD_SECONDS = 1  # WatchdogSec= below; the supervisor pings twice in it
PINGS = 5


@pytest.fixture
def watched(trial: Trial) -> Trial:
    """A started service with a watchdog."""
    trial.install(f"WatchdogSec={PERIOD_SECONDS}")
    trial.start()
    return trial


def is_ping(entry: Entry, pid: int) -> bool:
    """systemd heard a ping of this process."""
    return Story([entry]).notifications == [Notification(pid, {"WATCHDOG": "1"})]


def wait_for_pings(trial: Trial) -> None:
    """Wait until its main process has pinged for more than two whole periods."""
    main, journal = trial.main_pid, trial.follow()
    for _ in range(PINGS):
        journal.wait_for(lambda entry: is_ping(entry, main))


def test_the_watchdog_is_armed_through_reloads(watched: Trial) -> None:
    """An idle service lives through several periods in every generation; the first one's supervisor, which is executed,
    has its own pid in WATCHDOG_PID."""
    for generation in range(1, 4):
        main = watched.main_pid
        if generation == 1:
            environment = watched.environment_of(main)
            assert environment["WATCHDOG_PID"] == str(main)
            assert environment["WATCHDOG_USEC"] == str(round(PERIOD_SECONDS * 1e6))
        wait_for_pings(watched)
        assert (watched.main_pid, watched.show("NRestarts")["NRestarts"]) == (main, "0")
        assert watched.status.startswith(f"Generation {generation} serves")
        assert watched.reload() == 0
    assert watched.story().states == {"start", "running", "reload"}


@pytest.mark.parametrize("generation", [1, 2])
def test_a_stopped_supervisor_is_restarted(watched: Trial, generation: int) -> None:
    """A supervisor that hangs is ended by the watchdog and started again, also one that came by a reload; nothing of it
    is left."""
    if generation == 2:
        assert watched.reload() == 0
        wait_for_pings(watched)
    main, worker, journal = watched.main_pid, watched.worker_pid, watched.follow()
    watched.kill(main, signal.SIGSTOP)
    wait_for_all(journal, "Watchdog timeout", "Failed with result 'watchdog'", "Changed start -> running")
    for pid in (main, worker):
        watched.machine.wait_until_gone(pid, timeout_seconds=20)
    watched.assert_serves(1)
    assert watched.show("NRestarts")["NRestarts"] == "1"
    assert watched.strays == []


def test_a_hung_worker_does_not_starve_the_watchdog(watched: Trial) -> None:
    """The watchdog is the supervisor's: a worker that hangs is the supervisor's to deal with."""
    watched.kill(watched.worker_pid, signal.SIGSTOP)
    wait_for_pings(watched)
    assert watched.show("NRestarts", "ActiveState") == {"NRestarts": "0", "ActiveState": "active"}
    watched.kill(watched.worker_pid, signal.SIGCONT)
    watched.assert_serves(1)


def test_the_watchdog_is_served_while_a_reload_lasts(watched: Trial) -> None:
    """New code that takes several periods to warm up does not keep the supervisor from pinging."""
    warming, warm = watched.fifo("warming"), watched.fifo("warm")
    watched.deploy(2, source(2, warm_up=f"open({warming.path!r}, 'w').write('here'); open({warm.path!r}).readline()"))
    with watched.calling("reload") as call:
        assert warming.read() == "here"
        wait_for_pings(watched)
        warm.write("enough\n")
        assert call.wait(20) == 0
    watched.assert_serves(2)
    assert watched.show("NRestarts")["NRestarts"] == "0"


@pytest.mark.parametrize("generation", [1, 2])
def test_an_idle_supervisor_wakes_up_for_the_watchdog_alone(trial: Trial, generation: int) -> None:
    """Between one ping and the next the supervisor sleeps in the kernel: as many wake-ups as pings."""
    trial.install("WatchdogSec=1")
    trial.start()
    for _ in range(generation - 1):
        assert trial.reload() == 0
    main = trial.main_pid
    (host_pid,) = (pid for pid in host_pids(trial) if innermost(pid) == main)
    journal = trial.follow()
    journal.wait_for(lambda entry: is_ping(entry, main))
    before, pings = voluntary_switches(host_pid), 4
    for _ in range(pings):
        journal.wait_for(lambda entry: is_ping(entry, main))
    # A send to a busy pid 1 may itself wait for room once; a poll now and then would be dozens.
    assert voluntary_switches(host_pid) - before <= 2 * pings


def host_pids(trial: Trial) -> list[int]:
    """The unit's processes as we number them."""
    groups = [path for path in trial.machine.cgroup.rglob("cgroup.procs") if trial.unit in str(path)]
    return [int(pid) for path in groups for pid in path.read_text().split()]


def innermost(host_pid: int) -> int:
    """As the machine numbers it."""
    lines = Path(f"/proc/{host_pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])


def voluntary_switches(host_pid: int) -> int:
    """How often it has gone to sleep."""
    lines = Path(f"/proc/{host_pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("voluntary_ctxt_switches:")).split()[-1])


HOW = ("asks", "asks and leaves", "wants to reload")


@pytest.mark.parametrize("how", HOW)
def test_strangers_do_not_starve_the_watchdog(watched: Trial, how: str) -> None:
    """62 connections of another user that ask and ask, for several periods: the service lives, root's `status` is
    answered within its own 3 seconds, and `systemctl reload` goes well."""
    machine, control = watched.machine, f"/run/sdsupervise/{watched.name}/control"
    machine.write("/srv/flood.py", (Path(__file__).parents[1] / "support/flood.py").read_text())
    program = ("/usr/bin/python3", "/srv/flood.py", control, how)
    with machine.popen("setpriv", "--reuid=61234", "--regid=61234", "--clear-groups", *program) as flood:
        assert flood.stdout is not None and flood.stdout.readline() == "it floods\n"
        main = watched.main_pid
        for _ in range(3):
            wait_for_pings(watched)
            assert "● trial" in machine.run("sdsupervise", "status", watched.name).stdout
        assert watched.main_pid == main
        assert watched.reload() == 0
        wait_for_pings(watched)
        assert flood.poll() is None
        flood.kill()
    watched.assert_serves(1)
    assert watched.show("NRestarts")["NRestarts"] == "0"
