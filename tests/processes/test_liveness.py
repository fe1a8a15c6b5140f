"""A silent worker is found out, and a dead supervisor is."""

from __future__ import annotations

import os
import re
import signal
import threading

import pytest

from tests.support.harness import Breakpoint, Ground, service
from tests.support.running import wait_gone

SILENT = """
worker_timeout = 0.3
silent = not os.path.exists(os.environ["GROUND"] + "/tried")
def serve(self):
    threading.Thread(target=self.other_thread, daemon=True).start()
    self.ping_supervisor()
    if self.silent:
        open(os.environ["GROUND"] + "/tried", "w").close()
        report("silent")
        self.hang()
    super().serve()
def other_thread(self):
    time.sleep(1000)
"""
HANGS = {
    "loop": "while True: pass",
    "sleep": "time.sleep(1000)",
    "read": "os.read(os.pipe()[0], 1)",
    "GIL": "import ctypes\n    ctypes.PyDLL(None).sleep(1000)",
    "signals blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n    time.sleep(1000)",
}


@pytest.mark.parametrize("how", HANGS)
def test_silent_worker(ground: Ground, how: str) -> None:
    """A worker that pinged once and is silent for worker_timeout shows a traceback of all its threads, gets SIGABRT,
    and is replaced; wherever it hangs, also holding the interpreter's lock."""
    ground.deploy(1, service(f"{SILENT}def hang(self):\n    {HANGS[how]}"))
    running = ground.start()
    worker = ground.expect("silent").pid
    running.expect_line(rf"Worker \(pid {worker}\) sent no ping for 0\.3 s, ending it")
    running.expect_line("in other_thread")
    running.expect_line("in hang")
    running.expect_line(rf"Worker \(pid {worker}\) was killed by SIGABRT")
    ground.expect("serves")
    ground.expect("serves")


def test_stopped_worker(ground: Ground) -> None:
    """A worker that was SIGSTOPped can be neither asked nor aborted: it is killed, and replaced."""
    ground.deploy(1, service(f"{SILENT}def hang(self):\n    os.kill(os.getpid(), signal.SIGSTOP)"))
    running = ground.start()
    worker = ground.expect("silent").pid
    running.expect_line(rf"Worker \(pid {worker}\) sent no ping for 0\.3 s, ending it")
    running.expect_line(rf"Worker \(pid {worker}\) was killed by SIGKILL")
    ground.expect("serves")
    ground.expect("serves")


def test_worker_that_never_pinged(ground: Ground) -> None:
    """A worker that never pings is not expected to; one that pings in time is left alone."""
    ground.deploy(
        1,
        service(
            "worker_timeout = 0.1\ndef serve(self):\n    time.sleep(0.5)\n    report('still')\n    super().serve()"
        ),
    )
    ground.start()
    worker = ground.expect("still").pid
    assert ground.worker_pids() == [worker]
    ground.deploy(
        2,
        service(
            """
            worker_timeout = 0.2
            def serve(self):
                for _ in range(50):
                    self.ping_supervisor()
                    time.sleep(0.01)
                report("pinged")
                super().serve()
            """
        ),
    )
    assert ground.reload().returncode == 0
    worker = ground.expect("pinged").pid
    assert ground.status()["crashes"] == 0 and ground.worker_pids() == [worker]


def test_waiting_is_not_silence(ground: Ground) -> None:
    """A worker that pinged while it warmed up and then waits for its turn is not silent, however long it waits."""
    ground.deploy(1)
    hold = Breakpoint(ground, "STARTING_SUCCESSOR+PEER_ASKS_YIELD")
    ground.serving(environment=hold.environment)
    ground.deploy(
        2,
        service(
            """
            worker_timeout = 0.1
            def warm_up(self):
                self.ping_supervisor()
                threading.Timer(0.4, report, ("later",)).start()
            def serve(self):
                report("went on")
                super().serve()
            """
        ),
    )
    reload = ground.reload_process()
    hold.wait()
    successor = ground.expect("warm", release=2).pid
    ground.expect("later")
    hold.release()
    assert reload.wait() == 0
    assert ground.expect("went on").pid == successor


# ------------------------------------------------------------------------------------------- a dead supervisor


def test_supervisor_killed(ground: Ground) -> None:
    """A worker that never pings learns of its supervisor's death at once: supervised_shutdown runs, nothing is left,
    and the next start serves."""
    running = ground.serving()
    worker = ground.worker_pids()[0]
    running.signal(signal.SIGKILL)
    assert ground.expect("shutdown").pid == worker
    ground.expect_nothing_left()
    assert "Shutting down: the supervisor is gone" in running.err
    ground.serving()


def test_supervisor_killed_while_a_worker_warms_up(ground: Ground) -> None:
    """So does a worker that is not ready yet."""
    ground.deploy(1, service("def warm_up(self):\n    report('warming')\n    time.sleep(1000)"))
    running = ground.start()
    ground.expect("warming")
    running.signal(signal.SIGKILL)
    ground.expect("shutdown")
    ground.expect_nothing_left()


def test_shutdown_of_an_orphan_is_bounded(ground: Ground) -> None:
    """Without a supervisor to kill it, a worker whose shutdown hangs says where and ends itself after stop_timeout."""
    ground.deploy(
        1, service("stop_timeout = 0.2\ndef supervised_shutdown(self):\n    report('shutdown')\n    time.sleep(1000)")
    )
    running = ground.serving()
    worker = ground.worker_pids()[0]
    running.signal(signal.SIGKILL)
    ground.expect("shutdown")
    wait_gone(worker)
    running.expect_line("in supervised_shutdown")
    ground.expect_nothing_left()


def test_supervisor_killed_and_nobody_reads(ground: Ground) -> None:
    """A worker shuts down also where nobody is left to read that it does."""
    body = """
    def serve(self):
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 2)
        report("unheard")
        super().serve()
    """
    ground.deploy(1, service(body))
    running = ground.serving()
    ground.expect("unheard")
    running.signal(signal.SIGKILL)
    ground.expect("shutdown")
    ground.expect_nothing_left()


DEAF = "def warm_up(self): signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"


def test_ping_to_a_dead_supervisor(ground: Ground) -> None:
    """ping_supervisor without an answer is error(): a warning, supervised_shutdown, exit."""
    ground.deploy(
        1, service(DEAF + "def serve(self):\n    open(os.environ['GROUND'] + '/go').read()\n    self.ping_supervisor()")
    )
    os.mkfifo(ground.directory / "go")
    running = ground.serving()
    worker = ground.worker_pids()[0]
    running.signal(signal.SIGKILL)
    running.wait()
    (ground.directory / "go").write_text("")
    ground.expect("shutdown")
    wait_gone(worker)
    running.expect_line(r"^Service\[\d+\]: Shutting down: The supervisor does not answer, it is dead$")


def test_end_of_the_link_before_its_turn(ground: Ground) -> None:
    """ready_to_take_over without an answer is error("Failed to take over")."""
    ground.deploy(1, service(DEAF))
    hold = Breakpoint(ground, "OPENING+WORKER_READY")
    running = ground.start(environment=hold.environment)
    worker = ground.expect("warm").pid
    os.kill(hold.wait(), signal.SIGKILL)
    running.expect_line(r"^Service\[\d+\]: Shutting down: Failed to take over$")
    ground.expect("shutdown")
    wait_gone(worker)


def test_supervisor_killed_during_a_shutdown(ground: Ground) -> None:
    """A worker that is shutting down when its supervisor dies goes on with that, once, and still ends in time."""
    ground.deploy(
        1, service("stop_timeout = 0.3\ndef supervised_shutdown(self):\n    report('shutdown')\n    time.sleep(1000)")
    )
    running = ground.serving()
    running.signal(signal.SIGTERM)
    ground.expect("shutdown")
    running.signal(signal.SIGKILL)
    ground.expect_nothing_left()
    assert len(ground.seen("shutdown")) == 1


def test_two_that_hang_at_a_time(ground: Ground) -> None:
    """The traceback of each is in one piece, though they write at the same time."""
    body = """
    workers = 2
    worker_timeout = 0.3
    def serve(self):
        self.ping_supervisor()
        report("silent")
        self.go_deeper(60)
    def go_deeper(self, depth):
        self.go_deeper(depth - 1) if depth else time.sleep(1000)
    """
    ground.deploy(1, service(body, base="Member"))
    running = ground.start()
    workers = {ground.expect("silent").pid for _ in range(2)}
    for _ in workers:
        running.expect_line(r"Worker \(pid .*\) was killed by SIGABRT")
    for worker in workers:
        _, _, rest = running.err.partition(f"(pid {worker}) is:\n")
        lines = rest.splitlines()
        assert re.match(r"(Current t|T)hread 0x\w+ \(most recent call first\):", lines[0])
        assert sum(bool(re.fullmatch(r'  File ".*", line \d+ in go_deeper', line)) for line in lines[1:62]) == 61


def test_two_that_die_at_a_time(ground: Ground) -> None:
    """The traceback of each is in one piece, also a long one."""
    body = """
    workers = 4
    delay_before_respawn = 1000.0
    def serve(self):
        signal.signal(signal.SIGHUP, lambda *_: self.go_deeper(200))
        report("waits")
        super().serve()
    def go_deeper(self, depth):
        if not depth:
            raise ValueError(f"worker {self.index} is broken")
        if depth % 2:
            self.go_deeper(depth - 1)
        else:
            self.go_deeper(depth - 1)
    """
    ground.deploy(1, service(body, base="Member"))
    running = ground.start()
    for worker in [ground.expect("waits").pid for _ in range(4)]:
        os.kill(worker, signal.SIGHUP)
    for _ in range(4):
        running.expect_line(r"Worker \(pid .*\) exited with status 1")
    blocks = re.findall(r"^Traceback .*\n((?:  .*\n)+)ValueError: worker (\d) is broken\n", running.err, re.MULTILINE)
    assert {index for _, index in blocks} == {"0", "1", "2", "3"}
    assert {lines.count("in go_deeper\n") for lines, _ in blocks} == {201}


def test_what_nobody_asked_for(ground: Ground) -> None:
    """A worker may be asked by anybody, any number of times; how much is said of that is bounded."""
    body = """
    def warm_up(self):
        report("pipe", **{fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 99})
    """
    ground.deploy(1, service(body))
    running = ground.start()
    said = ground.expect("pipe")
    ground.expect("serves")
    os.kill(said.pid, signal.SIGRTMAX)
    running.expect_line(rf"Where worker 0 \(pid {said.pid}\) is:")
    running.expect_line("in supervised_process")
    pipe = os.open(f"/proc/{said.pid}/fd/{max(map(int, said.details))}", os.O_WRONLY)
    flood = threading.Thread(target=os.write, args=(pipe, b"\x1b[2J" + b"x" * 200_000))
    flood.start()
    assert "\x1b" not in running.expect_line(r"\?\[2Jx{60000}")
    for _ in range(3):
        running.expect_line("x{3000}")
    flood.join()
    os.kill(said.pid, signal.SIGRTMAX)
    running.expect_line("in supervised_process")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    os.close(pipe)
    assert len(running.err) < 300_000
