"""Workers that are replaced though nothing befell them: they are old, or big, or ask for it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence

import psutil
import pytest

from tests.processes.test_pool import member, serving, stop, workers
from tests.support.harness import SDSUPERVISE, Ground, Report

# Worker 1, told by SIGUSR1, asks to be replaced.
RETIRES = """
    def serve(self):
        signal.signal(signal.SIGUSR1, lambda *_: self.retire())
        report("listens", index=self.index)
        while True:
            wait_for_signal()
"""
# As soon as there is a FIFO of this name, who begins waits for somebody to open it.
SLOW = """
    def warm_up(self):
        if os.path.exists(os.environ["GROUND"] + "/go"):
            report("slow")
            open(os.environ["GROUND"] + "/go").close()
"""
OVERLAP = "handover = 'overlap'"


def listening(ground: Ground, count: int = 3) -> list[int]:
    """The pids of so many workers, by their numbers, as soon as they hear SIGUSR1."""
    reports = [ground.expect("listens") for _ in range(count)]
    return [report.pid for report in sorted(reports, key=lambda report: int(report.said("index")))]


def never_fewer(history: Sequence[Report], count: int) -> bool:
    """From the moment when all were warm there were never fewer that had not been told to stop."""
    serve: set[int] = set()
    complete = False
    for report in history:
        if report.word == "warm":  # all that comes between this and serving is our release
            serve.add(report.pid)
        elif report.word == "shutdown":
            serve.discard(report.pid)
        complete = complete or len(serve) >= max(3, count)
        if complete and len(serve) < count:
            return False
    return complete


def test_retire_in_overlap(ground: Ground) -> None:
    """The replacement is started and released first, under the same number; then the old one is told to stop. It is
    no crash, and the others are left alone."""
    ground.deploy(1, member(OVERLAP, RETIRES))
    running = ground.start()
    old = listening(ground)
    os.kill(old[1], signal.SIGUSR1)
    running.expect_line(rf"Replacing worker 1 \(pid {old[1]}\): it asked to retire")
    assert ground.expect("shutdown").pid == old[1]
    new = ground.expect("listens", index=1).pid
    running.expect_line(rf"Worker 1 \(pid {old[1]}\) has left: it exited with status 0")
    assert ground.worker_pids() == [old[0], new, old[2]]
    assert never_fewer(ground.history, 3)
    assert ground.status()["crashes"] == 0 and ground.status()["healthy"] is True


def test_retire_in_exclusive(ground: Ground) -> None:
    """Never two of one number: the old one leaves first, and the next starts without a delay."""
    ground.deploy(1, member("delay_before_respawn = 1000.0", RETIRES))
    running = ground.start()
    old = listening(ground)
    os.kill(old[1], signal.SIGUSR1)
    assert ground.expect("shutdown").pid == old[1]
    new = ground.expect("listens", index=1).pid
    assert ground.worker_pids() == [old[0], new, old[2]]
    words = [report.word for report in ground.history if report.pid in (old[1], new)]
    assert words.index("shutdown") < words.index("warm", words.index("serves"))
    stop(running)
    ground.expect_nothing_left()


@pytest.mark.parametrize("handover", ["overlap", "exclusive"])
def test_one_at_a_time(ground: Ground, handover: str) -> None:
    """All ask at the same time: they are replaced one after the other, so that never more than one is missing."""
    ground.deploy(1, member(f"handover = {handover!r}", RETIRES))
    running = ground.start()
    old = listening(ground)
    for pid in old:
        os.kill(pid, signal.SIGUSR1)
    new = listening(ground)
    assert set(old).isdisjoint(new)
    assert never_fewer(ground.history, 3 if handover == "overlap" else 2)
    for _ in old:
        running.expect_line(r"Worker \d \(pid \d+\) has left" if handover == "overlap" else "is ready")
    assert ground.worker_pids() == new


def test_replacement_that_never_gets_ready(ground: Ground) -> None:
    """It does not cost the old one: that serves on, another is tried with growing pauses, and none is a reason to give
    up. The status says who is to be replaced."""
    dies = """
        crash_limit = 2
        delay_before_respawn = 0.05
        def warm_up(self):
            if os.path.exists(os.environ["GROUND"] + "/no-disk"):
                raise OSError("no disk")
    """
    ground.deploy(1, member(OVERLAP, RETIRES, dies))
    running = ground.start()
    old = listening(ground)
    (ground.directory / "no-disk").touch()
    os.kill(old[1], signal.SIGUSR1)
    pauses = []
    for _ in range(4):
        line = running.expect_line(r"The replacement of worker 1 exited with status 1 \(OSError: no disk\)")
        assert f"pid {old[1]} keeps serving" in line
        pauses += re.findall(r"trying again in (\S+) s", line)
    assert pauses == ["0.1", "0.2", "0.4", "0.8"]
    retiring = {worker["pid"]: worker["retiring"] for worker in workers(ground)}
    assert retiring[old[1]] == "it asked to retire" and retiring[old[0]] == ""
    assert ground.status()["healthy"] is True
    (ground.directory / "no-disk").unlink()
    assert ground.expect("shutdown").pid == old[1]
    running.expect_line(rf"Worker 1 \(pid {old[1]}\) has left")
    assert ground.worker_pids()[1] == ground.expect("listens", index=1).pid


def test_the_old_one_dies_first(ground: Ground) -> None:
    """An old worker that dies while its replacement starts has it for its successor: not another is started."""
    ground.deploy(1, member(OVERLAP, RETIRES, SLOW))
    running = ground.start()
    old = listening(ground)
    os.mkfifo(ground.directory / "go")
    os.kill(old[1], signal.SIGUSR1)
    replacement = ground.expect("slow").pid
    os.kill(old[1], signal.SIGKILL)
    running.expect_line(rf"Worker \(pid {old[1]}\) was killed by SIGKILL")
    assert ground.status()["healthy"] is False
    os.close(os.open(ground.directory / "go", os.O_WRONLY))
    assert ground.expect("listens", index=1).pid == replacement
    assert ground.worker_pids() == [old[0], replacement, old[2]] and ground.status()["crashes"] == 1


def test_not_during_a_reload(ground: Ground) -> None:
    """A worker that asks while a reload goes on waits: if the reload fails it is replaced then."""
    ground.deploy(1, member(OVERLAP, RETIRES))
    running = ground.start()
    old = listening(ground)
    os.mkfifo(ground.directory / "go")
    ground.deploy(2, member('def warm_up(self):\n    open(os.environ["GROUND"] + "/go").close()\n    raise OSError'))
    reload = ground.reload_process()
    running.expect_line("generation 2 is starting")
    os.kill(old[1], signal.SIGUSR1)
    ground.status()
    assert "Replacing" not in running.err
    os.close(os.open(ground.directory / "go", os.O_WRONLY))
    assert reload.wait() == 1
    running.expect_line(rf"Replacing worker 1 \(pid {old[1]}\)")
    assert ground.expect("shutdown", release=1).pid == old[1]


@pytest.mark.parametrize("handover", ["overlap", "exclusive"])
def test_max_lifetime(ground: Ground, handover: str) -> None:
    """Each worker is replaced when it has lived so long, or up to a tenth sooner, and so is its replacement."""
    ground.deploy(1, member(f"handover = {handover!r}\nmax_lifetime = 0.5"))
    running = ground.start()
    for _ in range(7):
        line = running.expect_line(r"Replacing worker \d \(pid \d+\): it has lived")
    assert re.search(r"it has lived \d+ s$", line)
    assert never_fewer(ground.history, 3 if handover == "overlap" else 2)
    stop(running)
    ground.expect_nothing_left()


def test_max_memory(ground: Ground) -> None:
    """A worker with more private memory than max_memory is replaced, and one with less is not."""
    hog = """
        workers = 6
        max_memory = "15M"
        def serve(self):
            if self.index != "0":
                self.hoard = b"x" * 20_000_000
            super().serve()
    """
    ground.deploy(1, member(OVERLAP, hog))
    running = ground.start()
    old = [report.pid for report in serving(ground, 6)]
    line = running.expect_line(r"Replacing worker \d \(pid \d+\): it has \d+\.\d MB of private memory")
    assert 19 < float(re.findall(r"has (\S+) MB", line)[0]) < 40
    assert int(re.findall(r"pid (\d+)", line)[0]) in old[1:]
    assert never_fewer(ground.history, 6)


def test_memory_is_no_matter_without_a_limit(ground: Ground) -> None:
    """psutil, which costs a supervisor megabytes, is imported only where a limit is set."""
    for release, (body, is_there) in enumerate((("", False), ("max_memory = '1G'", True)), start=1):
        ground.deploy(release, member(f"workers = 1\n{body}"))
        running = ground.start()
        serving(ground, 1)
        with open(f"/proc/{running.pid}/maps") as maps:
            assert ("psutil" in maps.read()) is is_there
        stop(running)


LEAVES = 'import subprocess; subprocess.Popen(["sleep", "1000"])'


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
@pytest.mark.parametrize("kind", ["class", "command"])
def test_a_supervisor_lives_without_psutil(ground: Ground, kind: str, handover: str) -> None:
    """A supervisor without max_memory never imports psutil: not when a worker dies and leaves a process behind, when
    status and metrics are asked for, or in a reload. Its other processes do not import it either."""
    words: list[object] = ["run", "--pid-file", ground.pid_file, "--delay-before-respawn", "0"]
    if kind == "class":
        ground.deploy(1, member(f"handover = {handover!r}\nworkers = 1", f"def warm_up(self):\n    {LEAVES}"))
        words.append("current/service.py:Service")
    else:
        ground.program(1, f'{LEAVES}\nreport("serves"); notify("READY=1"); wait()')
        words += ["--handover", handover, "--", "current/program"]
    running = ground.run(SDSUPERVISE, *words)
    worker = ground.expect("serves").pid
    os.kill(worker, signal.SIGKILL)
    running.expect_line(rf"Worker \(pid {worker}\) left a process behind")
    ground.expect("serves")
    for command in ("status", "metrics", "reload"):
        done = ground.run(SDSUPERVISE, command, "--pid-file", ground.pid_file)
        assert done.wait() == 0, done.err
    ground.expect("serves")
    supervisor = psutil.Process(int(ground.pid_file.read_text()))
    processes = [supervisor, *supervisor.children(recursive=True)]
    assert len(processes) > 2
    for process in processes:
        assert [mapped.path for mapped in process.memory_maps() if "psutil" in mapped.path] == [], process


NO_PSUTIL = "import sys\nsys.modules['psutil'] = None\n"


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("lib/sitecustomize.py", NO_PSUTIL, "which "),
        ("lib/psutil.py", "", "and the service has another module of that name: rename it."),
    ],
    ids=["not installed", "another of that name"],
)
def test_no_psutil(ground: Ground, file: str, text: str, why: str) -> None:
    """A limit that cannot be watched is a wrong setting, and one sentence says what to do."""
    ground.write(file, text)
    ground.deploy(1, member("max_memory = '1G'"))
    running = ground.start()
    assert running.wait() == 78
    assert running.err.splitlines()[-1].startswith(f"max_memory needs psutil, {why}")
    ground.expect_nothing_left()


def test_spare_as_replacement(ground: Ground) -> None:
    """Where a spare is kept it is the replacement."""
    ground.deploy(1, member(OVERLAP, "delay_before_respawn = 0", RETIRES))
    ground.start()
    old = listening(ground)
    spare = ground.status()["spare"]
    os.kill(old[2], signal.SIGUSR1)
    assert ground.expect("shutdown").pid == old[2]
    assert ground.expect("listens", index=2).pid == spare
    assert ground.status()["spare"] not in (None, spare)


def test_stop_with_a_replacement(ground: Ground) -> None:
    """A stop ends a replacement that is not ready, and the worker that it was for."""
    ground.deploy(1, member(OVERLAP, RETIRES, SLOW))
    running = ground.start()
    old = listening(ground)
    os.mkfifo(ground.directory / "go")
    os.kill(old[0], signal.SIGUSR1)
    ground.expect("slow")
    stop(running)
    ground.expect_nothing_left()
