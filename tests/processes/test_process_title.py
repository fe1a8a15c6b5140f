"""Processes tell themselves apart in ps and top: by their title where setproctitle is installed, and always by their
short name (/proc/PID/comm)."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from sdsupervise.linux.process_title import MOST_BYTES, ROLES
from tests.processes.test_privileges import ground_of_all
from tests.processes.test_sockets import host, port
from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service
from tests.support.running import Deadline, Missed
from tests.support.terminal import Terminal

__all__ = ["ground_of_all", "host", "port"]  # fixtures

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user, or make a container")
# What stops, or warms up, waits for the test; see Ground.open_gate.
DRAINS = """
    def supervised_shutdown(self):
        wait("drains")
"""
SLOW = """
    def warm_up(self):
        if self.release != "1":
            wait("warms up")
"""
WAIT = """
    def wait(word):
        gate = os.open(os.environ["GROUND"] + "/gate", os.O_RDWR)
        report(word)
        os.read(gate, 1)
"""


def code(*bodies: str, before: str = "") -> str:
    """A service of one worker with these statements in its class."""
    body = "\n".join(["workers = 1", *map(dedent, bodies)])
    return service(body, base="Member", before=dedent(WAIT) + before)


def names(pid: int) -> tuple[str, str]:
    """The title and the short name of a process; without setproctitle the command line stands for the title."""
    title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()
    return title, Path(f"/proc/{pid}/comm").read_text().rstrip("\n")


def wait_until(pid: int, is_so: Callable[[tuple[str, str]], bool], wanted: str) -> None:
    """Look at a process until its names are these."""
    deadline = Deadline()
    while not is_so(found := names(pid)):
        if deadline.passed:
            raise Missed(f"pid {pid} is shown as {found}, and not as {wanted}")


Shows = Callable[[int, str, str], None]


@pytest.fixture(params=["with setproctitle", "without"])
def shows(request: pytest.FixtureRequest, ground: Ground) -> Shows:
    """Wait until a process shows this title, if it can, and this short name."""
    is_installed = request.param == "with setproctitle"
    if not is_installed:
        ground.write("lib/sitecustomize.py", "import sys\nsys.modules['setproctitle'] = None\n")

    def show(pid: int, title: str, short_name: str) -> None:
        title = f"sdsupervise: {title}"
        wait_until(pid, lambda found: found[1] == short_name and is_installed == (found[0] == title), title)

    return show


def test_a_pool_and_its_spare(ground: Ground, shows: Shows) -> None:
    """The supervisor, each worker by its index, the spare, and what becomes of the spare."""
    ground.deploy(1, code("workers = 2", "delay_before_respawn = 0.0"))
    running = ground.start()
    pids = {int(report.said("index")): report.pid for report in (ground.expect("serves"), ground.expect("serves"))}
    shows(running.pid, "Service supervisor (generation 1)", "Service/1:sup")
    for index, pid in pids.items():
        shows(pid, f"Service worker {index} (generation 1)", f"Service/1:w{index}")
    running.expect_line("is ready")
    spare = ground.status()["spare"]
    assert isinstance(spare, int)
    shows(spare, "Service spare worker (generation 1)", "Service/1:spare")
    os.kill(pids[1], signal.SIGKILL)
    assert ground.expect("serves", index=1).pid == spare
    shows(spare, "Service worker 1 (generation 1)", "Service/1:w1")


def test_a_reload(ground: Ground, shows: Shows) -> None:
    """The successor is shown as one until it is the supervisor; the generation that drains is shown as that."""
    ground.make_gate()
    ground.deploy(1, code("handover = 'overlap'", SLOW, DRAINS))
    running = ground.serving()
    old = ground.worker_pids()[0]
    ground.deploy(2, code("handover = 'overlap'", SLOW))
    reload = ground.reload_process()
    new = ground.expect("warms up").pid
    shows(psutil.Process(new).ppid(), "Service successor (generation 2)", "Service/2:next")
    shows(new, "Service worker 0 (generation 2)", "Service/2:w0")
    shows(running.pid, "Service supervisor (generation 1)", "Service/1:sup")
    ground.open_gate()
    assert reload.wait() == 0
    ground.expect("drains")
    running.expect_line("Generation 2 serves")
    shows(psutil.Process(new).ppid(), "Service supervisor (generation 2)", "Service/2:sup")
    shows(running.pid, "Service draining supervisor (generation 1)", "Service/1:old")
    shows(old, "Service draining worker 0 (generation 1)", "Service/1:d0")
    ground.open_gate()
    assert running.wait() == 0


def test_a_reload_that_fails(ground: Ground, shows: Shows) -> None:
    """The supervisor stays what it is."""
    running = ground.serving()
    ground.deploy(2, code("def warm_up(self): raise ValueError('no')"))
    assert ground.reload().returncode == 1
    shows(running.pid, "Service supervisor (generation 1)", "Service/1:sup")


def test_a_command_and_its_shim(ground: Ground, shows: Shows) -> None:
    """The shim is ours, and says whose; the program that it executes is called as always."""
    ground.program(1, 'report("serves"); notify("READY=1"); wait()')
    ground.run_command("current/program", options=["--name", "app"])
    command = ground.expect("serves").pid
    shows(psutil.Process(command).ppid(), "app shim of worker 0 (generation 1)", "app/1:shim0")
    assert names(command)[1] == "program" and names(command)[0].endswith("/releases/1/program")


def test_another_interpreter(ground: Ground, shows: Shows) -> None:
    """A worker that another interpreter runs is shown as any other, from before its code is loaded."""
    ground.deploy(1)
    words = (SDSUPERVISE, "run", "--python", PYTHON, "current/service.py", "--pid-file", ground.pid_file)
    running = ground.run(*words)
    worker = ground.expect("serves").pid
    shows(running.pid, "Service supervisor (generation 1)", "Service/1:sup")
    shows(worker, "Service worker 0 (generation 1)", "Service/1:w0")


def test_children_of_a_worker(ground: Ground, shows: Shows) -> None:
    """What the service forks is not taken for the worker; what it executes is called as always."""
    body = """
        def serve(self):
            child = multiprocessing.get_context("fork").Process(target=wait_for_signal)
            child.start()
            program = subprocess.Popen(["sleep", "1000"])
            report("begins", child=child.pid, program=program.pid)
            wait_for_signal()
    """
    ground.deploy(1, code(body, before="import multiprocessing, subprocess"))
    ground.start()
    report = ground.expect("begins")
    shows(int(report.said("child")), "Service child of worker 0 (generation 1)", "Service/1:w0+")
    # Popen() returns in the middle of execve(2).
    wait_until(int(report.said("program")), lambda found: found == ("sleep 1000", "sleep"), "sleep 1000")


def test_a_title_of_the_services_own(ground: Ground) -> None:
    """A service that sets its title, or its short name, keeps it, also when it drains, and its children get it."""
    ground.make_gate()
    body = """
        workers = 2
        def serve(self):
            if self.worker_index:
                open("/proc/self/comm", "w").write("mine")
            else:
                setproctitle.setproctitle("my worker")
            report("names itself", index=self.worker_index)
            wait_for_signal()
    """
    ground.deploy(1, code(body, DRAINS, before="import setproctitle"))
    running = ground.start()
    titled, named = (ground.expect("names itself", index=index).pid for index in (0, 1))
    assert names(titled) == ("my worker", "my worker")
    assert names(named) == ("sdsupervise: Service worker 1 (generation 1)", "mine")
    running.signal(signal.SIGTERM)
    for _ in range(2):
        ground.expect("drains")
    assert names(titled) == ("my worker", "my worker")
    assert names(named) == ("sdsupervise: Service draining worker 1 (generation 1)", "mine")
    for pid in (titled, named):
        os.kill(pid, signal.SIGKILL)


def test_a_title_set_by_the_code_that_starts_the_service(ground: Ground) -> None:
    """A title from before start() stays the title of all its processes."""
    run = 'import setproctitle; setproctitle.setproctitle("all mine"); sys.exit(Service().run())'
    ground.deploy(1, service(run=run))
    running = ground.serving()
    assert [names(pid) for pid in (running.pid, *ground.worker_pids())] == [("all mine", "all mine")] * 2


@ROOT
def test_another_user(ground_of_all: Ground, shows: Shows) -> None:
    """A process that has changed its user may not write /proc/self/comm, and is shown all the same."""
    ground = ground_of_all
    ground.deploy(1)
    words = ("current/service.py", "--no-fork", "--user", "nobody", "--pid-file", ground.pid_file)
    running = ground.run("/usr/bin/python3", *words)
    worker = ground.expect("serves").pid
    assert psutil.Process(worker).uids().effective != 0
    shows(running.pid, "Service supervisor (generation 1)", "Service/1:sup")
    shows(worker, "Service worker 0 (generation 1)", "Service/1:w0")


@ROOT
def test_in_a_terminal_of_root(ground_of_all: Ground, shows: Shows) -> None:
    """Who keeps the terminal is not the supervisor."""
    ground = ground_of_all
    ground.deploy(1)
    words = ["/usr/bin/python3", str(ground.current / "service.py"), "--no-fork", "--user", "nobody"]
    environment = ground.environment({"TERM": "vt100"})
    shown = Terminal([*words, "--pid-file", str(ground.pid_file)], environment)
    try:
        supervisor = psutil.Process(ground.expect("serves").pid).ppid()
        shows(psutil.Process(supervisor).ppid(), "Service keeper of the terminal (generation 1)", "Service/1:tty")
        shown.press("\x03")
        assert shown.wait() == 0
    finally:
        shown.close()


@ROOT
def test_a_container(ground: Ground, shows: Shows) -> None:
    """Pid 1 is not the supervisor."""
    ground.deploy(1)
    words = (SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py")
    ground.run("unshare", "--pid", "--fork", "--mount-proc", *words)
    worker = psutil.Process(ground.expect("serves").pid)
    supervisor = psutil.Process(worker.ppid())
    shows(supervisor.pid, "Service supervisor (generation 1)", "Service/1:sup")
    shows(supervisor.ppid(), "Service init of the container", "Service:init")


def test_workers_that_are_held(ground: Ground, shows: Shows, host: str, port: int) -> None:
    """Who holds the workers while before_commit runs says so."""
    ground.make_gate()
    check = [PYTHON, "-c", "from told import *; report('parent', pid=os.getppid()); wait_at_gate('checks')"]
    body = f"""
        before_commit, before_commit_each, workers = {check!r}, True, 2
        handover, listen = "overlap", {{"a": "{host}:{port}"}}
    """
    ground.deploy(1, code(body))
    ground.start()
    ground.expect("serves")
    ground.deploy(2, code(body))
    reload = ground.reload_process()
    for _ in range(2):
        ground.expect("checks")
        holder = int(ground.expect("parent").said("pid"))
        shows(holder, "Service holder of workers (generation 2)", "Service/2:hold")
        ground.open_gate()
    assert reload.wait() == 0


def test_a_reload_that_somebody_asks_for(ground: Ground, shows: Shows) -> None:
    """`sdsupervise reload` says what it is; it is given no name here."""
    ground.make_gate()
    ground.deploy(1, code(SLOW))
    ground.serving()
    ground.deploy(2, code(SLOW))
    reload = ground.reload_process()
    ground.expect("warms up")
    shows(reload.pid, "reload", "sds:reload")
    ground.open_gate()
    assert reload.wait() == 0


def test_the_environment_stays_readable(ground: Ground) -> None:
    """/proc/PID/environ is as it was where the command line has room for our titles."""
    ground.deploy(1)
    room = ("--", *["x" * 20] * 5)
    running = ground.serving(environment={"COLOUR": "green"})
    assert names(running.pid)[0].startswith("sdsupervise: ")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    running = ground.serving(*room, environment={"COLOUR": "green"})
    for pid in (running.pid, *ground.worker_pids()):
        assert names(pid)[0].startswith("sdsupervise: ")
        assert b"COLOUR=green" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_nothing_relies_on_a_command_line(ground: Ground, shows: Shows) -> None:
    """Without its control socket a running service is known by its title as by its command line; status shows by which
    symlink its script was named."""
    ground.deploy(1)
    running = ground.serving()
    shows(running.pid, "Service supervisor (generation 1)", "Service/1:sup")
    argv = ground.status()["argv"]
    assert isinstance(argv, list) and "current/service.py" in argv
    shown = ground.finish(ground.run(SDSUPERVISE, "status", "--pid-file", ground.pid_file))
    assert re.search(r"current → releases/1|current/service.py|current → ", shown.stdout), shown.stdout
    os.unlink(ground.control)
    second = ground.start()
    assert second.wait() == 0
    assert "initiated hot reload" in second.err


@pytest.mark.parametrize("name", ["a", "counter", "billing-frontend-of-the-north", "größe", "with space) (1"])
def test_a_short_name_fits(name: str) -> None:
    """Its role and index are whole, of whatever service; programs that read /proc/PID/stat find no bracket in it."""
    from sdsupervise.linux import process_title

    process_title.introduce(name, 12345)
    for role, words in ROLES.items():
        shown = process_title.names_of(role, 12).short_name
        assert len(shown.encode()) <= MOST_BYTES
        assert re.fullmatch(r"[\w.@+-]+/12345:[\w+]+", shown, re.ASCII), (role, shown)
        assert shown.endswith(f":{words.in_short_name.format(12)}")
