"""What a class worker has begun does not outlive it: it is named and ended, before another worker begins."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service
from tests.support.running import wait_gone

BEFORE = """
import fcntl, multiprocessing, subprocess
from probe import GROUND
from told import wait_at_gate

def be_a_child(stubborn=False):
    # From here on no worker may begin, nor a second child.
    own = os.open(GROUND + "/child", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        report("VIOLATION")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else signal.SIG_DFL)
    report("child", session=os.getsid(0))
    time.sleep(1000)

def check_that_there_is_no_child():
    with open(GROUND + "/child", "a") as theirs:
        try:
            fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("VIOLATION")

def become_a_daemon():
    if os.fork():
        return os.wait()
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 1000)
    try:
        be_a_child()
    finally:
        os._exit(1)

PROGRAM = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; import service; service.be_a_child()"]
"""
BODY = """
stop_timeout = 2.0
def warm_up(self): {warm_up}
def serve(self):
    {begin}
    {then}
"""
DOUBLE_FORK = "subprocess.run(['sh', '-c', 'env -i GROUND=$0 setsid \"$@\" &', GROUND, *PROGRAM], check=True)"
KINDS = {
    "a program": "subprocess.Popen(PROGRAM)",
    "a program in a session of its own": "subprocess.Popen(PROGRAM, start_new_session=True)",
    "a program in a group of its own": "subprocess.Popen(PROGRAM, process_group=0)",
    "a program without an environment": "subprocess.Popen(PROGRAM, env={'GROUND': GROUND})",
    "a program without environment, session and parent": DOUBLE_FORK,
    "a fork": "multiprocessing.Process(target=be_a_child).start()",
    "a spawn": "multiprocessing.get_context('spawn').Process(target=be_a_child).start()",
    "a daemon": "become_a_daemon()",
}
WAIT = "super().serve()"


def deploy(
    ground: Ground,
    release: int,
    begin: str,
    then: str = WAIT,
    *,
    settings: str = "",
    warm_up: str = "check_that_there_is_no_child()",
) -> None:
    body = settings + "\n" + BODY.format(begin=begin, then=then, warm_up=warm_up)
    ground.deploy(release, service(body, before=BEFORE))


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
@pytest.mark.parametrize("kind", KINDS)
def test_children_of_a_worker_that_is_killed(ground: Ground, kind: str, handover: str) -> None:
    """They are named, ended, and gone before the next worker begins; so are those of the last, at the stop."""
    deploy(ground, 1, KINDS[kind], settings=f"handover = {handover!r}")
    running = ground.run(SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py:Service")
    for number in (signal.SIGKILL, signal.SIGSEGV):
        worker, child = ground.expect("serves").pid, ground.expect("child").pid
        os.kill(worker, number)
        running.expect_line(rf"Worker \(pid {worker}\) left a process behind: pid {child} \(.*\); ending it")
        running.expect_line(rf"Worker \(pid {worker}\) was killed by {number.name}")
        wait_gone(child)
    ground.expect("child")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not ground.leftovers()


@pytest.mark.parametrize("then", ["return", "sys.exit(3)", "raise ValueError('x')"])
@pytest.mark.parametrize("kind", ["a program in a session of its own", "a daemon"])
def test_children_of_a_worker_that_ends(ground: Ground, kind: str, then: str) -> None:
    """However a worker ends, what it has begun ends too."""
    deploy(ground, 1, KINDS[kind] + "; wait_at_gate('waits')", then)
    ground.make_gate()
    running = ground.run(SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py:Service")
    child, _ = ground.expect("child").pid, ground.expect("waits")
    ground.open_gate()
    running.expect_line(rf"left a process behind: pid {child} ")
    ground.expect("child")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not ground.leftovers()


@pytest.mark.parametrize("python", [(), ("--python", PYTHON)], ids=["class", "another interpreter"])
@pytest.mark.parametrize("kind", KINDS)
def test_children_at_a_reload(ground: Ground, kind: str, python: tuple[str, ...]) -> None:
    """Those of the old worker are gone before the new one begins its work."""
    begin = KINDS[kind]
    deploy(ground, 1, begin, settings="", warm_up="pass")
    running = ground.run(SDSUPERVISE, "run", "--pid-file", ground.pid_file, *python, "current/service.py:Service")
    child = ground.expect("child").pid
    deploy(ground, 2, f"check_that_there_is_no_child(); {begin}", warm_up="pass")
    assert ground.reload().returncode == 0
    wait_gone(child)
    assert running.wait() == 0
    ground.expect("child")
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


def test_stubborn_children(ground: Ground) -> None:
    """Those of a crashed worker are killed after a while; those of one that is told to stop, when its time is up."""
    program = "subprocess.Popen([*PROGRAM[:2], PROGRAM[2].replace('child()', 'child(True)')])"
    deploy(ground, 1, program)
    running = ground.run(SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py:Service")
    for number in (signal.SIGKILL, signal.SIGTERM):
        worker, child = ground.expect("serves").pid, ground.expect("child").pid
        os.kill(worker if number is signal.SIGKILL else running.pid, number)
        running.expect_line(f"Killing what worker .pid {worker}. left behind: pids {child}")
    assert running.wait() == 0
    assert not ground.leftovers()


def test_children_of_other_workers(ground: Ground) -> None:
    """They go on, whatever session they are in."""
    body = """
    def serve(self):
        self.child = subprocess.Popen(["sleep", "1000"], start_new_session=self.index != "0")
        self.other = multiprocessing.Process(target=time.sleep, args=(1000,))
        self.other.start()
        report("begun", index=self.index, program=self.child.pid, fork=self.other.pid)
        super().serve()
    """
    ground.deploy(1, service(body, before="import multiprocessing, subprocess", base="Member"))
    running = ground.start()
    begun = [ground.expect("begun", index=index) for index in range(3)]
    os.kill(begun[0].pid, signal.SIGKILL)
    ground.expect("begun", index=0)
    living = {process.pid for process in ground.leftovers()}
    for report in begun:
        for kind in ("program", "fork"):
            assert (int(report.said(kind)) in living) == (report is not begun[0])
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not ground.leftovers()


@pytest.mark.parametrize("kind", KINDS)
def test_children_without_a_supervisor(ground: Ground, kind: str) -> None:
    """A worker whose supervisor was killed ends them itself."""
    deploy(ground, 1, KINDS[kind])
    running = ground.run(SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py:Service")
    ground.expect("child")
    running.signal(signal.SIGKILL)
    ground.expect_nothing_left()


@pytest.mark.parametrize("kind", ["a program", "a fork"])
def test_children_of_a_killed_predecessors_worker(ground: Ground, kind: str) -> None:
    """Where a supervisor is killed in the middle of a reload, and its worker has to be, the successor serves when what
    that worker has begun is gone too."""
    deploy(ground, 1, KINDS[kind], "signal.signal(signal.SIGTERM, signal.SIG_IGN); super().serve()", warm_up="pass")
    running = ground.run(SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py:Service")
    child = ground.expect("child").pid
    deploy(ground, 2, "check_that_there_is_no_child(); report('alone')", warm_up="pass")
    reload = ground.reload_process()
    running.expect_line("Generation 2 is ready, generation 1 stops")
    running.signal(signal.SIGKILL)
    running.expect_line(f"left a process behind: pid {child} ")
    ground.expect("alone")
    wait_gone(child)
    reload.wait()
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


def test_a_dead_worker_does_not_serve(ground: Ground) -> None:
    """While what it has left behind is being ended, status does not count it."""
    program = "subprocess.Popen([*PROGRAM[:2], PROGRAM[2].replace('child()', 'child(True)')])"
    deploy(ground, 1, program)
    running = ground.run(SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py:Service")
    worker, _ = ground.expect("serves").pid, ground.expect("child")
    os.kill(worker, signal.SIGKILL)
    running.expect_line("left a process behind")
    pool = ground.status()["pool"]
    assert isinstance(pool, dict) and pool["serving"] == 0
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
