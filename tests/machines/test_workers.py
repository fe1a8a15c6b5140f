"""What becomes of class workers, their threads and their children below systemd."""

from __future__ import annotations

import signal

import pytest

from tests.support.journal import Entry, JournalFollower
from tests.support.trial import Trial, source

SINK = """
def sink(depth):
    if depth:
        sink_on(depth - 1)
    {then}
def sink_on(depth):
    sink(depth)
"""


def tracebacks(journal: JournalFollower, count: int) -> list[Entry]:
    """The next entries with a traceback."""
    return [journal.wait_for(lambda entry: entry.get("SDSUPERVISE_EVENT") == "worker-traceback") for _ in range(count)]


@pytest.mark.parametrize(
    ("then", "role"), [("time.sleep(1000)", "supervisor"), ("raise KeyError('x')", "worker")], ids=["hang", "die"]
)
def test_a_traceback_is_one_entry(trial: Trial, then: str, role: str) -> None:
    """Whole, with the worker's fields, also where three workers hang, or die, at the same time."""
    trial.deploy(1, source(1, top=SINK.format(then=then), serve="self.ping_supervisor()\nsink(50)"))
    trial.install(options="--workers 3 --worker-timeout 0.5 --delay-before-respawn 1000")
    journal = trial.follow()
    trial.start()
    entries = tracebacks(journal, 3)
    assert {entry["SDSUPERVISE_WORKER_INDEX"] for entry in entries} == {"0", "1", "2"}
    for entry in entries:
        assert entry["SDSUPERVISE_ROLE"] == role and entry["SDSUPERVISE_GENERATION"] == "1"
        assert entry["MESSAGE"].count(" in sink_on\n") == 50
        assert (entry["_PID"] == entry["SDSUPERVISE_WORKER_PID"]) == (role == "worker")
        assert "most recent call" in entry["MESSAGE"].split("\n")[0 if role == "worker" else 1]


def test_threads_begun_at_import(trial: Trial) -> None:
    """An old generation leaves in order after a reload, and a stop is a success at once."""
    top = "threading.Thread(target=time.sleep, args=(1000,), name='poller').start()"
    trial.install("TimeoutStopSec=20")
    for release in (1, 2):
        trial.deploy(release, source(release, top=top))
    trial.start()
    old = trial.main_pid
    assert trial.reload() == 0
    trial.machine.wait_until_gone(old, timeout_seconds=20)
    trial.assert_serves(2)
    trial.stop()
    trial.assert_gone()
    story = trial.story()
    assert story.says("Loading the service's code started threads: poller")
    assert not [entry for entry in story.own if entry.get("SDSUPERVISE_EVENT") == "generation-killed"]


def test_children_of_a_worker_that_is_killed(trial: Trial) -> None:
    """They are ended, in whatever session; what the service has given to systemd goes on."""
    begin = """
import subprocess
def begin():
    subprocess.Popen(["sleep", "1001"])
    subprocess.Popen(["sleep", "1002"], start_new_session=True)
    subprocess.Popen(["systemd-run", "--quiet", "--scope", "--unit", "{name}-apart", "sleep", "1003"])
    while subprocess.run(["systemctl", "is-active", "--quiet", "{name}-apart.scope"]).returncode:
        time.sleep(0.05)
"""
    top = begin.format(name=trial.name)
    apart = f"{trial.name}-apart.scope"
    trial.deploy(1, source(1, top=top, warm_up=f"os.path.exists('/run/{trial.name}') or begin()"))
    trial.start()
    trial.machine.write(f"/run/{trial.name}", "")
    assert len([process for process in trial.processes if process.cmdline[0] == "sleep"]) == 2
    worker = trial.worker_pid
    journal = trial.follow()
    trial.kill(worker, signal.SIGKILL)
    for _ in range(2):
        journal.wait_for(lambda entry: "left a process behind" in entry["MESSAGE"])
    journal.wait_for("is ready")
    assert not [process for process in trial.processes if process.cmdline[0] == "sleep"]
    assert trial.machine.show(apart, "ActiveState") == {"ActiveState": "active"}
    trial.machine.run("systemctl", "stop", apart)
