"""All of a service is frozen for longer than a deadline, and thawed: a frozen control group, SIGSTOP and SIGCONT to
everything, a suspended machine. Whoever slept himself must not judge others by his clock."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.support.harness import Ground, service
from tests.support.running import Deadline, Missed, Running

LIMIT = 2.5  # of what is timed here; a loaded machine needs some of it
FROZEN_SECONDS = 4.5


def freeze(ground: Ground, *first: Running) -> None:
    """Stop every process, for longer than the limits; the supervisors wake a little sooner than whom they time, which
    is the worst there is."""
    ours = [psutil.Process(int(ground.pid_file.read_text())), *(psutil.Process(running.pid) for running in first)]
    processes = ground.leftovers()
    supervisors = [process for process in processes if process in ours or _is_supervisor(process)]
    for process in [*supervisors, *processes]:
        process.suspend()
    deadline = Deadline()
    while not all(process.status() == psutil.STATUS_STOPPED for process in processes):
        if deadline.passed:
            raise Missed(f"not stopped: {[process.pid for process in processes]}")
    time.sleep(FROZEN_SECONDS)
    for process in supervisors:
        process.resume()
    time.sleep(LIMIT / 3)  # what they would do at once is done
    for process in processes:
        process.resume()


def _is_supervisor(process: psutil.Process) -> bool:
    """By its short name; and it is nobody's child but the test's."""
    short_name = process.name()  # of /proc/PID/comm; see linux/process_title.py
    return process.ppid() == os.getpid() and short_name.endswith((":sup", ":next", ":old"))


def stop(ground: Ground) -> None:
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


PINGS = f"""
worker_timeout = {LIMIT}
def serve(self):
    while True:
        self.ping_supervisor()
        report("pings")
        time.sleep(0.05)
"""
COMMAND_PINGS = """
import time
notify("READY=1"); report("serves")
while True:
    notify("WATCHDOG=1"); report("pings"); time.sleep(0.05)
"""


@pytest.mark.parametrize("kind", ["class", "exclusive", "overlap"])
def test_pings(ground: Ground, kind: str) -> None:
    """A worker that pings is as healthy after the freeze as before: it is not aborted. One that really hangs still is,
    once it has had the time anew."""
    if kind == "class":
        ground.deploy(1, service(PINGS))
        running = ground.serving()
    else:
        ground.program(1, COMMAND_PINGS)
        running = ground.run_command("current/program", options=["--handover", kind, "--worker-timeout", LIMIT])
        ground.expect("serves")
    ground.expect("pings")
    worker = ground.worker_pids()
    freeze(ground)
    enough = len(ground.seen("pings")) + 3
    while len(ground.seen("pings")) < enough:
        ground.expect("pings")
    assert ground.worker_pids() == worker
    assert "ending it" not in running.err
    os.kill(worker[0], signal.SIGSTOP)
    running.expect_line(rf"Worker \(pid {worker[0]}\) sent no ping for 2.5 s, ending it")
    ground.expect("serves")
    stop(ground)


GATE = "from told import wait_at_gate"
WARMS_UP = """
def warm_up(self):
    wait_at_gate("warming")
"""


def test_start(ground: Ground) -> None:
    """A worker that was frozen while it warmed up has start_timeout anew."""
    ground.deploy(1, service(f"start_timeout = {LIMIT}\n{WARMS_UP}", before=GATE))
    ground.make_gate()
    running = ground.start()
    worker = ground.expect("warming").pid
    freeze(ground)
    ground.open_gate()
    assert ground.expect("serves").pid == worker
    assert "was not ready in" not in running.err
    stop(ground)


def test_ready_after(ground: Ground) -> None:
    """A command that is ready when it has lived so long has not lived while it was frozen."""
    ground.program(1, 'report("runs"); sys.stdin.read(); wait()')
    running = ground.run_command("current/program", options=["--handover", "overlap", "--ready-after", LIMIT])
    ground.expect("runs")
    began = time.monotonic()
    freeze(ground)
    running.expect_line("is ready")
    assert time.monotonic() - began > FROZEN_SECONDS + LIMIT
    stop(ground)


SHUTS_DOWN = """
def supervised_shutdown(self):
    wait_at_gate("drains")
    report("drained", release=self.release)
"""


def test_stop(ground: Ground) -> None:
    """A worker that was frozen while it finished what it had begun has stop_timeout anew."""
    ground.deploy(1, service(f"stop_timeout = {LIMIT}\n{SHUTS_DOWN}", before=GATE))
    ground.make_gate()
    running = ground.serving()
    running.signal(signal.SIGTERM)
    ground.expect("drains")
    freeze(ground)
    ground.open_gate()
    ground.expect("drained")
    assert running.wait() == 0
    assert "Killing" not in running.err


def test_stop_of_an_orphan(ground: Ground) -> None:
    """So it has from the shim of a command whose supervisor is dead."""
    ground.program(
        1,
        """
        def leave(number, frame):
            wait_at_gate("drains")
            report("drained")
            os._exit(0)
        signal.signal(signal.SIGTERM, leave); notify("READY=1"); report("serves"); wait()
        """,
    )
    ground.make_gate()
    running = ground.run_command("current/program", options=["--stop-timeout", LIMIT])
    ground.expect("serves")
    running.expect_line("is ready")
    running.signal(signal.SIGKILL)
    worker = ground.expect("drains").pid
    shim = psutil.Process(worker).parent()
    assert shim is not None
    for process in (shim, psutil.Process(worker)):
        process.suspend()
    time.sleep(FROZEN_SECONDS)
    shim.resume()
    time.sleep(LIMIT / 3)
    psutil.Process(worker).resume()
    ground.open_gate()
    ground.expect("drained")
    ground.expect_nothing_left()


@pytest.mark.parametrize("limits", ["reload_timeout = {}", "reload_timeout = 30.0\nstart_timeout = {}"])
def test_reload(ground: Ground, limits: str) -> None:
    """A successor that was frozen while it warmed up is not too slow, for itself or for its predecessor."""
    ground.deploy(1, service(limits.format(LIMIT)))
    running = ground.serving()
    ground.deploy(2, service(limits.format(LIMIT) + WARMS_UP, before=GATE))
    ground.make_gate()
    caller = ground.reload_process()
    ground.expect("warming")
    freeze(ground, caller)
    ground.open_gate()
    assert caller.wait() == 0, caller.err
    ground.expect("serves", release=2)
    assert running.wait() == 0
    assert "was not ready" not in ground.transcript()
    stop(ground)


def test_takeover(ground: Ground) -> None:
    """A predecessor that was frozen while its worker finished is not killed by the successor that waits for the lock,
    and does not kill the worker."""
    ground.deploy(1, service(f"stop_timeout = {LIMIT}\ntakeover_timeout = 0.1\n{SHUTS_DOWN}", before=GATE))
    ground.make_gate()
    running = ground.serving()
    ground.deploy(2, service("stop_timeout = 20.0\ntakeover_timeout = 0.1"))
    caller = ground.reload_process()
    ground.expect("drains")
    freeze(ground, caller)
    ground.open_gate()
    ground.expect("drained", release=1)
    assert caller.wait() == 0, caller.err
    assert running.wait() == 0
    assert "Kill" not in ground.transcript().partition("--- reports")[0]
    stop(ground)


def test_before_commit(ground: Ground) -> None:
    """A check that was frozen has not failed."""
    check = ground.program(0, 'wait_at_gate("checks")')
    ground.make_gate()
    body = f'before_commit = ["{check.resolve()}"]\nbefore_commit_timeout = {LIMIT}'
    ground.deploy(1, service(body))
    ground.serving()
    ground.deploy(2, service(body))
    caller = ground.reload_process()
    ground.expect("checks")
    freeze(ground, caller)
    ground.open_gate()
    assert caller.wait() == 0, caller.err
    stop(ground)


def test_draining_generation(ground: Ground) -> None:
    """A generation that drains was frozen too: neither it nor the main supervisor cuts it off."""
    text = f'handover = "overlap"\nstop_timeout = {LIMIT}\ntakeover_timeout = 0.1\n'
    ground.make_gate()
    ground.deploy(1, service(text + SHUTS_DOWN, before=GATE))
    running = ground.serving()
    ground.deploy(2, service(text + "def supervised_process(self):\n    self.ready_to_take_over()\n    self.serve()"))
    assert ground.reload().returncode == 0
    ground.expect("drains")
    freeze(ground)
    ground.open_gate()
    ground.expect("drained", release=1)
    assert running.wait() == 0
    assert "illing" not in running.err
    stop(ground)
