"""A service that looks at `self.draining` finishes what it began; one that never does is shut down at once."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable

import pytest

from tests.support.harness import Breakpoint, Ground, service
from tests.support.running import LIMIT_SECONDS, Running, wait_blocked, wait_gone

# Answers one client at a time: a line of its own, then as soon as the client says something, another.
SERVER = """
def serve(self):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ["GROUND"] + "/listener")
        listener.listen()
        report("listens")
        while not self.draining:
            readable, _, _ = select.select([listener, self.draining], [], [])
            if listener in readable:
                client, _ = listener.accept()
                with client:
                    client.sendall(b"begun")
                    client.sendall(b"done" + client.recv(10))
    os.unlink(os.environ["GROUND"] + "/listener")
    report("returns")
"""

# Tells of a stop, and goes on until the test says more.
STUBBORN = """
def serve(self):
    threading.Thread(target=self.tell, daemon=True).start()
    report("hangs")
    HANG
def tell(self):
    self.draining.wait()
    report("draining")
"""
HANGS = {
    "accept": "socket.create_server(('127.0.0.1', 0)).accept()",
    "sleep": "time.sleep(1000)",
    "read": "os.read(os.pipe()[0], 1)",
    "loop": "while True: pass",
    "lock": "lock = threading.Lock()\n    lock.acquire()\n    lock.acquire()",
}


def stubborn(how: str) -> str:
    return STUBBORN.replace("HANG", HANGS[how])


def connect(ground: Ground) -> socket.socket:
    """A client whose request has begun."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(LIMIT_SECONDS)
    client.connect(str(ground.directory / "listener"))
    assert client.recv(10) == b"begun"
    return client


def words(ground: Ground, *of: str) -> list[str]:
    """The order in which these were reported."""
    return [report.word for report in ground.history if report.word in of]


def stop(supervisor: Running) -> None:
    supervisor.signal(signal.SIGTERM)
    supervisor.expect_line("Generation 1 stops")  # or else a worker may be gone before it looks at its signal


def interrupt(supervisor: Running) -> None:
    os.killpg(supervisor.pid, signal.SIGINT)


def leave_alone(supervisor: Running) -> None:
    supervisor.signal(signal.SIGKILL)
    supervisor.expect_line("Shutting down: the supervisor is gone")


@pytest.mark.parametrize("end", [stop, interrupt, leave_alone])
def test_the_request_in_hand(ground: Ground, end: Callable[[Running], None]) -> None:
    """A worker that is told to stop, or has lost its supervisor, answers the client it has, whose request it was in
    the middle of; then supervised_process returns, supervised_shutdown runs, and nobody was killed."""
    ground.deploy(1, service(SERVER, before="import select"))
    running = ground.serving(start_new_session=True)
    worker = ground.expect("listens").pid
    with connect(ground) as client:
        wait_blocked(worker)
        end(running)
        os.kill(worker, signal.SIGTERM)  # again, or for the first time: it changes nothing
        client.sendall(b"!")
        assert client.recv(10) == b"done!"
    ground.expect("shutdown")
    assert running.wait() == (-signal.SIGKILL if end is leave_alone else 0)
    ground.expect_nothing_left()
    assert words(ground, "returns", "shutdown") == ["returns", "shutdown"]
    assert "Killing" not in running.err
    # By a terminal's SIGINT a worker may be gone before its supervisor looks at its own.
    assert "exited with" not in running.err or end is interrupt
    assert running.err.count("the supervisor is gone") == (end is leave_alone)


def test_nothing_in_hand(ground: Ground) -> None:
    """A service that waits for clients and for the end of it is woken at once, and its end is a clean one."""
    ground.deploy(1, service(SERVER, before="import select"))
    running = ground.serving()
    os.kill(wait_blocked(ground.expect("listens").pid), signal.SIGTERM)
    ground.expect("returns")
    ground.expect("shutdown")
    running.expect_line("exited with status 0")
    ground.expect("serves")


def test_reload_waits_for_the_request_in_hand(ground: Ground) -> None:
    """In a reload the new code serves once the old has finished."""
    ground.deploy(1, service(SERVER, before="import select"))
    ground.serving()
    ground.expect("listens")
    ground.deploy(2, service(SERVER, before="import select"))
    with connect(ground) as client:
        reload = ground.reload_process()
        ground.expect("warm", release=2)
        client.sendall(b"!")
        assert client.recv(10) == b"done!"
    assert reload.wait() == 0
    ground.expect("serves", release=2)
    assert words(ground, "returns", "serves") == ["serves", "returns", "serves"]


@pytest.mark.parametrize("how", HANGS)
def test_time_limit(ground: Ground, how: str) -> None:
    """Shortly before the end of stop_timeout a service that goes on is shut down in the middle of whatever it does,
    in the main thread, and leaves by itself."""
    ground.deploy(1, service(stubborn(how) + "stop_timeout = 1.0"))
    running = ground.serving()
    worker = ground.expect("hangs").pid
    if how != "loop":
        wait_blocked(worker)
    os.kill(worker, signal.SIGTERM)  # not by its supervisor, whose patience would end when ours does
    ground.expect("draining")
    ground.expect("shutdown")
    running.expect_line(rf"Worker \(pid {worker}\) exited with status 0")
    assert words(ground, "draining", "shutdown") == ["draining", "shutdown"]


def test_time_limit_is_before_the_supervisors(ground: Ground) -> None:
    """Told to stop by its supervisor, a service that goes on is shut down before that kills it."""
    ground.deploy(1, service(stubborn("accept") + "stop_timeout = 3.0"))
    running = ground.serving()
    ground.expect("hangs")
    running.signal(signal.SIGTERM)
    ground.expect("shutdown")
    assert running.wait() == 0
    assert "Killing" not in running.err


def test_shutdown_that_hangs(ground: Ground) -> None:
    """A service that does not leave when its time is up either is killed, and it is said."""
    body = "stop_timeout = 0.4\ndef supervised_shutdown(self):\n    report('shutdown')\n    signal.pause()"
    ground.deploy(1, service(stubborn("sleep") + body))
    running = ground.serving()
    worker = ground.expect("hangs").pid
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert re.search(rf"Killing worker 0 of generation 1 \(pid {worker}\)", running.err)
    ground.expect_nothing_left()


def test_no_time_at_all(ground: Ground) -> None:
    """With a stop_timeout of 0 there is no time to finish in: it is shut down at once, or killed if that is late."""
    ground.deploy(1, service(stubborn("sleep") + "stop_timeout = 0.0"))
    ground.serving()
    worker = wait_blocked(ground.expect("hangs").pid)
    os.kill(worker, signal.SIGTERM)
    wait_gone(worker)


def test_time_of_an_orphan(ground: Ground) -> None:
    """Without a supervisor to kill it, a service that does not leave in its time ends itself, and says where it
    hung."""
    body = "stop_timeout = 0.4\ndef supervised_shutdown(self):\n    report('shutdown')\n    signal.pause()"
    ground.deploy(1, service(stubborn("sleep") + body))
    running = ground.serving()
    worker = wait_blocked(ground.expect("hangs").pid)
    running.signal(signal.SIGKILL)
    ground.expect("draining")
    ground.expect("shutdown")
    wait_gone(worker)
    running.expect_line("in supervised_shutdown")


def test_signals_of_siblings_that_end(ground: Ground) -> None:
    """The time is limited also where the next signal comes in the midst of the first, as it does to the workers of a
    large pool: the kernel sends one for each that ends."""
    next_signal = """
    from sdsupervise.linux.lifeline import Tie
    close = Tie.close
    def close_and_be_signalled(tie):
        Tie.close = close
        close(tie)
        signal.raise_signal(signal.SIGTERM)
    Tie.close = close_and_be_signalled
    """
    body = """
    stop_timeout = 0.4
    def serve(self):
        report("sleeps")
        time.sleep(1000)
    def supervised_shutdown(self):
        report("shutdown")
        signal.pause()
    """
    ground.deploy(1, service(body, before=next_signal))
    running = ground.serving()
    worker = wait_blocked(ground.expect("sleeps").pid)
    running.signal(signal.SIGKILL)
    ground.expect("shutdown")
    wait_gone(worker)


def test_error_while_draining(ground: Ground) -> None:
    """error() ends it at once, by a shutdown and with its status."""
    ground.deploy(1, service("def serve(self):\n    self.draining.wait()\n    self.error('gave up')"))
    running = ground.serving()
    os.kill(wait_blocked(ground.worker_pids()[0]), signal.SIGTERM)
    running.expect_line("Shutting down: gave up")
    running.expect_line("exited with status 255")
    ground.expect("shutdown")
    assert len(ground.seen("shutdown")) == 1


def test_crash_while_draining(ground: Ground) -> None:
    """An exception is a crash also then."""
    ground.deploy(1, service("def serve(self):\n    self.draining.wait()\n    raise ValueError('odd')"))
    running = ground.serving()
    os.kill(wait_blocked(ground.worker_pids()[0]), signal.SIGTERM)
    running.expect_line("^ValueError: odd")
    running.expect_line("exited with status 1")
    assert not ground.seen("shutdown")


# ---------------------------------------------------------------------------------------------- before its turn

WARMS_UP = """
def warm_up(self):
    report("warming", draining=self.draining, release=self.release)
    if self.release == "2" and HOLDS:
        wait_for_signal()
def supervised_shutdown(self):
    report("shutdown", draining=self.draining, release=self.release)
"""


@pytest.mark.parametrize("holds", [True, False], ids=["warming up", "waiting for its turn"])
def test_before_its_turn(ground: Ground, holds: bool) -> None:
    """A worker that does not serve yet has nothing to finish: it shuts down at once, `draining` true by then."""
    text = service(WARMS_UP.replace("HOLDS", str(holds)))
    ground.deploy(1, text)
    hold = Breakpoint(ground, "STARTING_SUCCESSOR+PEER_ASKS_YIELD")
    ground.serving(environment=hold.environment)
    ground.deploy(2, text)
    ground.reload_process()
    worker = ground.expect("warming", release=2, draining="<Draining: not begun>").pid
    if not holds:
        hold.wait()
    os.kill(wait_blocked(worker), signal.SIGTERM)
    said = ground.expect("shutdown", release=2)
    assert (said.pid, said.said("draining")) == (worker, "<Draining: begun>")


# ------------------------------------------------------------------------------------------ who looks, and where


def test_seen_through_a_helper(ground: Ground) -> None:
    """Code of another module that looks at it is a promise to come to an end as well."""
    ground.deploy(
        1,
        service("def serve(self):\n    helper.serve(self)", before="import helper"),
        helper="""
from probe import report
def serve(daemon):
    ending = daemon.draining
    report("looks")
    ending.wait()
    report("returns")
""",
    )
    running = ground.serving()
    ground.expect("looks")
    running.signal(signal.SIGTERM)
    ground.expect("returns")
    assert running.wait() == 0
    assert words(ground, "returns", "shutdown") == ["returns", "shutdown"]


def test_looked_at_in_the_supervisor(ground: Ground) -> None:
    """What the constructor made of it, in the supervisor, works in each worker, and for that one alone."""
    ground.deploy(
        1,
        service(
            """
            delay_before_respawn = 0.0
            def __init__(self):
                super().__init__()
                self.ending = self.draining
                self.number = self.ending.fileno()
            def serve(self):
                report("draining", before=bool(select.select([self.number], [], [], 0)[0]), looks=bool(self.ending))
                select.select([self.ending], [], [])
            """,
            before="import select",
        ),
    )
    ground.serving()
    for _ in range(3):  # the third was forked ahead, beside the second
        said = ground.expect("draining")
        assert said.details == {"before": "False", "looks": "False"}
        os.kill(wait_blocked(said.pid), signal.SIGTERM)
        ground.expect("shutdown")


# ---------------------------------------------------------------------------------------- what else a worker knows


def test_worker_index(ground: Ground) -> None:
    """A worker knows which one it is, and so does what it starts."""
    ground.deploy(
        1,
        service(
            """
            def serve(self):
                command = [sys.executable, "-c", "import os; print(os.environ['SDSUPERVISE_WORKER_INDEX'])"]
                report("index", own=repr(self.worker_index), childs=subprocess.check_output(command).decode().strip())
                super().serve()
            """,
            before="import subprocess",
        ),
    )
    ground.serving()
    assert ground.expect("index").details == {"own": "0", "childs": "0"}
