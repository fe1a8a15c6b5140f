"""A pool of commands: as many as asked for, scaled, replaced, and cut off with their last words."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.processes.test_recycling import never_fewer
from tests.processes.test_scaling import scale
from tests.support.harness import Ground, Report
from tests.support.running import Running

# Both are told: in `exclusive` a first generation may run before its release, whose moment a command cannot know.
SERVES = """
index = os.environ["SDSUPERVISE_WORKER_INDEX"]
signal.signal(signal.SIGTERM, lambda *_: (report("shutdown", index=index), os._exit(0)))
report("warm", index=index)
report("serves", index=index)
notify("READY=1", "STATUS=as busy as " + index)
while True:
    signal.pause()
"""
DELAY = ("--delay-before-respawn", "0.05")


def start(ground: Ground, *options: object, text: str = SERVES) -> tuple[Running, list[int]]:
    """Three of them, and their pids by index."""
    ground.program(1, text)
    running = ground.run_command("current/program", options=["--workers", "3", *DELAY, *options])
    return running, [report.pid for report in ready(ground)]


def ready(ground: Ground, count: int = 3) -> list[Report]:
    """So many begin to serve, by index."""
    reports = sorted((ground.expect("serves") for _ in range(count)), key=lambda report: int(report.said("index")))
    assert [int(report.said("index")) for report in reports] == list(range(count))
    return reports


@pytest.mark.parametrize("handover", ["overlap", "exclusive"])
def test_pool_of_commands(ground: Ground, handover: str) -> None:
    """Each has a number; the one that dies is replaced under it; more come and go; a stop ends all."""
    running, pids = start(ground, "--handover", handover, "--max-workers", "4")
    for _ in range(3):
        running.expect_line("is ready")
    os.kill(pids[1], signal.SIGKILL)
    pids[1] = ground.expect("serves", index=1).pid
    assert scale(ground, "+1").returncode == 0
    pids.append(ground.expect("serves", index=3).pid)
    assert ground.worker_pids() == pids
    assert scale(ground, "-2").returncode == 0
    for _ in range(2):
        running.expect_line(rf"Worker \d \(pid ({pids[2]}|{pids[3]})\) has left: it exited with status 0")
    assert ground.worker_pids() == pids[:2]
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()


@pytest.mark.parametrize("handover", ["overlap", "exclusive"])
def test_commands_grow_old(ground: Ground, handover: str) -> None:
    """max_lifetime replaces commands one after the other: in overlap the next is ready first."""
    running, pids = start(ground, "--handover", handover, "--max-lifetime", "0.7")
    for _ in range(5):
        running.expect_line(r"Replacing worker \d \(pid \d+\): it has lived")
    assert never_fewer(ground.history, 3 if handover == "overlap" else 2)
    assert {report.pid for report in ground.seen("shutdown")} & set(pids)
    assert ground.status()["crashes"] == 0


def test_one_breaks_the_reload(ground: Ground) -> None:
    """Why it failed is what one of the new workers did, not how the others were stopped for it."""
    _, pids = start(ground, "--handover", "overlap")
    os.mkfifo(ground.directory / "all are there")
    ground.program(2, FIRST_ONE_BREAKS)
    reload = ground.reload()
    assert reload.returncode == 1
    assert "NOT RELOADED: The worker exited with status 3 before it was ready; its output went to" in reload.stderr
    assert ground.worker_pids() == pids


FIRST_ONE_BREAKS = """
index = os.environ["SDSUPERVISE_WORKER_INDEX"]
if index in "02":
    open(os.environ["GROUND"] + "/all are there", "rw"[index == "2"]).close()
if index == "0":
    os._exit(3)
signal.pause()
"""


def test_what_is_cut(ground: Ground) -> None:
    """A command that does not leave in time is killed with all it has started, and the log repeats its last STATUS."""
    deaf = SERVES.replace('report("shutdown", index=index), os._exit(0)', "None").replace("while", "wait()\nwhile")
    deaf = deaf.replace("wait()\n", 'subprocess.Popen(["sleep", "1000"])\n')
    running, pids = start(ground, "--handover", "overlap", "--stop-timeout", "0.3", text=deaf)
    for _ in range(3):
        running.expect_line("is ready")
    assert scale(ground, "-1").returncode == 0
    line = running.expect_line(rf"Killing worker 2 of generation 1 \(pid {pids[2]}\)")
    late = r"got the signal to stop \d\.\d s ago .* never sent a ping and reported the last status"
    assert re.search(rf'{late} "as busy as 2"$', line)
    running.expect_line(rf"Worker 2 \(pid {pids[2]}\) has left")
    assert ground.worker_pids() == pids[:2]


def test_what_a_command_leaves(ground: Ground) -> None:
    """One that leaves when it is told to, but not what it has started: that has the same deadline."""
    stays = 'subprocess.Popen(["sh", "-c", "trap : TERM; while :; do sleep 1; done"])'
    forgets = SERVES.replace("while True:", f"{stays}\nwhile True:")
    running, pids = start(ground, "--handover", "overlap", "--stop-timeout", "0.5", text=forgets)
    for _ in range(3):
        running.expect_line("is ready")
    assert scale(ground, "-1").returncode == 0
    running.expect_line("left a process behind")
    running.expect_line(rf"Worker 2 \(pid {pids[2]}\) has left")
    assert ground.worker_pids() == pids[:2]
