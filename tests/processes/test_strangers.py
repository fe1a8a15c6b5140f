"""Nobody stops a service who may not: other users who flood its control socket, and what its own children can send."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.flood import SENDS
from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service
from tests.support.running import Running

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
STRANGER = 61234
OVERLAP = ("--handover", "overlap", "--delay-before-respawn", "0", "--stop-timeout", "5")
HEARTBEAT = """
can_do_hot_reload = True
worker_timeout = 10.0
workers = 2
def supervised_process(self):
    self.ready_to_take_over()
    report("serves", release=self.release)
    while True:
        self.ping_supervisor()
        report("ping")
        time.sleep(0.2)
"""


def flood(ground: Ground, how: str) -> Running:
    """Somebody else floods the control socket."""
    program = ground.write("flood.py", (Path(__file__).parents[1] / "support/flood.py").read_text(), 0o755)
    running = ground.run(PYTHON, program, ground.control, how, user=STRANGER, group=STRANGER, extra_groups=[])
    running.expect_line("it floods", stream="out")
    return running


@ROOT_ONLY
@pytest.mark.parametrize("how", SENDS)
def test_flood(ground: Ground, how: str) -> None:
    """62 connections of another user hinder nobody, whatever they do: root's commands are answered within the commands'
    own 3 seconds, a reload goes well, workers' pings are heard, and no process is ended."""
    ground.deploy(1, service(HEARTBEAT))
    running = ground.serving()
    stranger = flood(ground, how)
    for _ in range(5):
        shown = ground.finish(ground.run(SDSUPERVISE, "status", "--pid-file", ground.pid_file))
        assert (shown.returncode, shown.stderr) == (0, "")
    workers = ground.worker_pids()
    for _ in range(10):
        ground.expect("ping")
    assert ground.worker_pids() == workers
    ground.deploy(2, service(HEARTBEAT))
    assert ground.reload().returncode == 0
    assert ground.status()["generation"] == 2
    assert stranger.alive and running.wait() == 0
    assert not [line for line in running.err.splitlines() if "ending it" in line or "bug" in line]


def test_a_child_of_a_dead_worker_that_talks_on(ground: Ground) -> None:
    """What a worker's child writes to the link, on and on, neither keeps its death from being seen nor the supervisor
    from anything else."""
    text = """
    can_do_hot_reload = True
    delay_before_respawn = 0
    def supervised_process(self):
        self.ready_to_take_over()
        report("serves")
        if os.fork() == 0:
            while True:
                os.write(self.supervisor_pipe.fileno(), b"ping\\n" * 800)
        signal.pause()
    """
    ground.deploy(1, service(text))
    running = ground.serving()
    for _ in range(3):
        (worker,) = ground.worker_pids()
        os.kill(worker, signal.SIGKILL)
        ground.expect("serves")
    assert ground.status()["crashes"] == 3
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_nonsense_on_the_link(ground: Ground) -> None:
    """A worker that says what is no message is warned of a few times, however often; it goes on to serve."""
    text = r"""
    can_do_hot_reload = True
    def supervised_process(self):
        for said in (b"\n" * 50_000, b"x" * 200_000 + b"\n", b"failed " + b"[" * 60_000 + b"\n", b"\xff\n" * 9):
            self.supervisor_pipe.sendall(said)
        self.ping_supervisor()
        self.ready_to_take_over()
        report("serves")
        signal.pause()
    """
    ground.deploy(1, service(text))
    running = ground.serving()
    assert ground.status()["state"] == "serving"
    assert 1 <= running.err.count("; ignoring it\n") + running.err.count(" Ignoring it\n") <= 3


def test_a_child_of_a_dead_command_that_notifies_on(ground: Ground) -> None:
    """The same of a command, whose child, in a group of its own, has the path of the notify socket."""
    ground.program(
        1,
        """
        notify("READY=1")
        report("serves")
        if 0 in [os.fork() for _ in range(4)]:
            os.setsid()
            sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sender.connect(os.environ["NOTIFY_SOCKET"])
            while True:
                try:
                    sender.send(b"STATUS=on and on\\nWATCHDOG=1")
                except OSError:
                    os._exit(0)
        wait()
        """,
    )
    ground.run_command("current/program", options=OVERLAP)
    ground.expect("serves")
    for _ in range(3):
        (worker,) = ground.worker_pids()
        os.kill(worker, signal.SIGKILL)
        ground.expect("serves")
    assert ground.status()["crashes"] == 3


def test_descriptors_beside_ready(ground: Ground) -> None:
    """A worker that has to wait for its release says READY=1 again and again, with pipes to be answered through: its
    supervisor keeps a few of them and closes the rest, and what is no pipe at once."""
    options = (*OVERLAP[2:], "--waits-for-release")
    ground.make_gate()
    held = 'signal.signal(signal.SIGTERM, lambda *_: (wait_at_gate("stopping"), os._exit(0)))'
    ground.program(1, f'{held}\nnotify("READY=1"); report("serves"); wait()')
    ground.run_command("current/program", options=options)
    ground.expect("serves")
    text = """
    writers = [os.pipe()[1] for _ in range(100)]
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in range(1000):
        notify("READY=1", "X_SDSUPERVISE_ANSWER=1", fds=writers if number % 2 else [nothing])
    barrier()
    report("said")
    wait()
    """
    ground.program(2, text)
    reload = ground.reload_process()
    ground.expect("stopping")
    ground.expect("said")
    successor = ground.status()["successor"]
    assert isinstance(successor, dict)
    assert len(os.listdir(f"/proc/{successor['pid']}/fd")) < 60
    ground.open_gate()
    assert reload.wait() == 0
    assert ground.status()["generation"] == 2


@pytest.mark.parametrize("microseconds", [2**64 - 1, 2**63, 10**15])
def test_a_stop_that_asks_for_ever(ground: Ground, microseconds: int) -> None:
    """An old worker asks for 584,000 years to stop, and leaves at once: the reload is done, as its caller hears."""
    ground.program(
        1,
        f"""
        def leave(*_):
            notify("EXTEND_TIMEOUT_USEC={microseconds}")
            barrier()
            os._exit(0)
        signal.signal(signal.SIGTERM, leave)
        notify("READY=1")
        report("serves")
        wait()
        """,
    )
    ground.run_command("current/program", options=("--stop-timeout", "5"))
    ground.expect("serves")
    reloaded = ground.reload()
    assert (reloaded.returncode, reloaded.stderr) == (0, "")
    assert "a worker asks for up to 86405 s more" in reloaded.stdout
    assert ground.status()["generation"] == 2
