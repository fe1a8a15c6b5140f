"""How a command is stopped, when the next one starts, and what becomes of what a command leaves behind."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.support.harness import SDSUPERVISE, Ground
from tests.support.running import Deadline, Running, wait_gone, wait_readable

EXCLUSIVE = ("--delay-before-respawn", "0")
OVERLAP = (*EXCLUSIVE, "--handover", "overlap")
BOTH = pytest.mark.parametrize("handover", [EXCLUSIVE, OVERLAP], ids=["exclusive", "overlap"])
SERVES = 'report("serves", release=release); notify("READY=1"); wait()'
# As celery's: a child that gets SIGTERM drops what it does, and the parent has its own way to let it finish.
POOL = """
parent, child = os.getpid(), os.fork()
if child == 0:
    leave_on(signal.SIGTERM); leave_on(signal.SIGUSR1)
    os.kill(parent, signal.SIGUSR2)
    wait()
def stop(*_):
    report("parent stops")
    os.kill(child, signal.SIGUSR1)
    os.waitpid(child, 0)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
signal.sigwait({signal.SIGUSR2})
report("serves", child=child); notify("READY=1"); wait()
""".replace("parent, child =", "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})\nparent, child =")


def start(ground: Ground, text: str, *options: object) -> Running:
    ground.program(1, text)
    return ground.run_command("current/program", options=options)


def stop(running: Running) -> None:
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


@BOTH
def test_stop_goes_to_the_first_process(ground: Ground, handover: tuple[str, ...]) -> None:
    """A pool's children are their parent's to stop: nobody signals them beside it, and no work is lost."""
    running = start(ground, POOL, *handover)
    child = int(ground.expect("serves").said("child"))
    running.expect_line("is ready")
    stop(running)
    ground.expect("parent stops")
    assert [(report.pid, report.said("name")) for report in ground.seen("signal")] == [(child, "SIGUSR1")]
    assert "left a process behind" not in running.err
    ground.expect_nothing_left()


@BOTH
def test_stop_of_a_whole_group(ground: Ground, handover: tuple[str, ...]) -> None:
    """With kill_mode "group" every process of it gets the signal."""
    text = POOL.replace("leave_on(signal.SIGUSR1)", "signal.signal(signal.SIGUSR1, signal.SIG_IGN)")
    running = start(ground, text, *handover, "--kill-mode", "group")
    child = int(ground.expect("serves").said("child"))
    running.expect_line("is ready")
    stop(running)
    assert ground.expect("signal", name="SIGTERM").pid == child
    ground.expect_nothing_left()


@BOTH
def test_stop_signal(ground: Ground, handover: tuple[str, ...]) -> None:
    """A command is told to stop by the signal it wants."""
    text = f"leave_on(signal.SIGTERM); leave_on(signal.SIGINT); {SERVES}"
    running = start(ground, text, *handover, "--stop-signal", "SIGINT")
    ground.expect("serves")
    running.expect_line("is ready")
    stop(running)
    assert [report.said("name") for report in ground.seen("signal")] == ["SIGINT"]


@BOTH
def test_deaf_command(ground: Ground, handover: tuple[str, ...]) -> None:
    """A command that does not stop in stop_timeout is killed with all its group, and the log says what was cut."""
    text = f"""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        report("child"); wait()
    notify("STATUS=counts to a million"); barrier(); {SERVES}
    """
    running = start(ground, text, *handover, "--stop-timeout", "0.3")
    worker, child = ground.expect("serves").pid, ground.expect("child").pid
    running.expect_line("is ready")
    stop(running)
    assert f"(pid {worker}), which got the signal to stop" in running.err
    assert 'reported the last status "counts to a million"' in running.err
    wait_gone(child)
    ground.expect_nothing_left()


@BOTH
def test_what_a_shell_forgot(ground: Ground, handover: tuple[str, ...]) -> None:
    """A shell without `exec` dies and forgets its program: that is named in the log, told to stop, and may finish."""
    ground.make_gate()
    text = """
    def finish(*_):
        wait_at_gate("told"); report("finished"); os._exit(0)
    signal.signal(signal.SIGTERM, finish)
    """
    ground.program(1, text + SERVES)
    running = ground.run_command("sh", "-c", "current/program; true", options=handover)
    program = ground.expect("serves").pid
    running.expect_line("is ready")
    running.signal(signal.SIGTERM)
    ground.expect("told")
    line = running.expect_line("left a process behind")
    assert f"pid {program} (" in line and "current/program" in line
    ground.open_gate()
    ground.expect("finished")
    assert running.wait() == 0
    ground.expect_nothing_left()


@BOTH
def test_what_a_crash_left(ground: Ground, handover: tuple[str, ...]) -> None:
    """What a crashed command left is told to stop and killed before the next one starts."""
    text = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        report("child"); wait()
    """
    running = start(ground, text + SERVES, *handover, "--stop-timeout", "0.2")
    worker, child = ground.expect("serves").pid, ground.expect("child").pid
    pidfd = os.pidfd_open(child)
    os.kill(worker, signal.SIGKILL)
    ground.expect("serves")
    assert wait_readable([pidfd], Deadline(0)) == [pidfd]  # dead by then
    os.close(pidfd)
    running.expect_line(f"left a process behind: pid {child} ")


def test_supervisor_killed(ground: Ground) -> None:
    """A command in overlap is told to stop by the kernel when its supervisor is killed."""
    running = start(ground, f"leave_on(signal.SIGHUP); {SERVES}", *OVERLAP, "--stop-signal", "SIGHUP")
    worker = ground.expect("serves").pid
    running.expect_line("is ready")
    running.signal(signal.SIGKILL)
    assert ground.expect("signal", name="SIGHUP").pid == worker
    ground.expect_nothing_left()


@BOTH
def test_stop_before_it_is_ready(ground: Ground, handover: tuple[str, ...]) -> None:
    """A command that is still starting is stopped like any other."""
    running = start(ground, 'leave_on(signal.SIGTERM); report("starts"); wait()', *handover)
    ground.expect("starts")
    stop(running)
    ground.expect("signal", name="SIGTERM")
    ground.expect_nothing_left()


@BOTH
def test_delay_bounds_the_rate(ground: Ground, handover: tuple[str, ...]) -> None:
    """A command that dies sooner than the delay after its start waits for the rest of that."""
    running = start(ground, 'notify("READY=1")', *handover[2:], "--delay-before-respawn", "1000")
    running.expect_line("exited with status 0")
    assert "the next starts 99" in str(ground.status()["status"])


def test_pool_of_commands(ground: Ground) -> None:
    """Each of several commands knows its number, and the next in its place has the same."""
    text = 'report("index", index=os.environ["SDSUPERVISE_WORKER_INDEX"]); notify("READY=1"); wait()'
    running = start(ground, text, *OVERLAP, "--workers", "3")
    found = {report.said("index"): report.pid for report in (ground.expect("index") for _ in range(3))}
    assert sorted(found) == ["0", "1", "2"]
    for _ in found:
        running.expect_line("is ready")
    os.kill(found["1"], signal.SIGKILL)
    assert ground.expect("index").said("index") == "1"
    stop(running)


def test_a_shim_is_small(ground: Ground) -> None:
    """What stands between a supervisor and an exclusive command costs little memory of its own."""
    start(ground, SERVES, *EXCLUSIVE)
    shim = psutil.Process(ground.expect("serves").pid).parent()
    assert shim is not None
    private = shim.memory_full_info().uss
    assert private < 5 * 2**20, private


# ------------------------------------------------------------------------------------------------ more time to stop

# A stop that takes until the gate opens, with and without asking for the time.
SLOW = """
def stop(*_):
    report("stops", release=release)
    if release == "1":
        notify("EXTEND_TIMEOUT_USEC=60000000"); barrier()
        wait_at_gate("extended"); report("finished")
    else:
        wait()
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
"""


def cut_short(ground: Ground, handover: tuple[str, ...]) -> None:
    """The same time passes for a command that does not ask for more, until it is cut short."""
    ground.program("other", SLOW + SERVES)
    options = [*handover, "--stop-timeout", "2"]
    pid_file = ground.directory / "other.pid"
    other = ground.run(SDSUPERVISE, "run", "--pid-file", pid_file, *options, "--", "current/program")
    ground.expect("serves", release="other")
    other.expect_line("is ready")
    other.signal(signal.SIGTERM)
    other.expect_line("which got the signal to stop")
    assert other.wait() == 0


@BOTH
def test_stop_that_takes_longer(ground: Ground, handover: tuple[str, ...]) -> None:
    """EXTEND_TIMEOUT_USEC= gives a stop that is going on more time."""
    ground.make_gate()
    running = start(ground, SLOW + SERVES, *handover, "--stop-timeout", "0.5")
    ground.expect("serves")
    running.expect_line("is ready")
    running.signal(signal.SIGTERM)
    ground.expect("extended")
    cut_short(ground, handover)
    ground.open_gate()
    ground.expect("finished")
    assert running.wait() == 0


@BOTH
def test_old_command_that_takes_longer(ground: Ground, handover: tuple[str, ...]) -> None:
    """The other side of a reload waits as long as the old command was given, in either handover."""
    ground.make_gate()
    start(ground, SLOW + SERVES, *handover, "--stop-timeout", "0.5", "--takeover-timeout", "0.5").expect_line(
        "is ready"
    )
    ground.expect("serves", release="1")
    ground.program(2, SERVES)
    reload = ground.reload_process()
    ground.expect("extended")
    cut_short(ground, handover)
    ground.open_gate()
    ground.expect("finished")
    assert reload.wait() == 0
    ground.expect("serves", release="2")


# --------------------------------------------------------------------------------------------- stops in two steps

TWO_STEPS = """
signal.signal(signal.SIGTSTP, lambda *_: report("signal", name="SIGTSTP"))
leave_on(signal.SIGTERM)
"""
QUIET = ("--quiet-signal", "SIGTSTP", "--stop-timeout", "2000", "--quiet-timeout")


def signals_of(ground: Ground) -> list[str]:
    return [report.said("name") for report in ground.seen("signal")]


@pytest.mark.parametrize("kill_mode", ["mixed", "group"])
@BOTH
def test_quiet_and_stop(ground: Ground, handover: tuple[str, ...], kill_mode: str) -> None:
    """A stop sends quiet_signal, and stop_signal quiet_timeout later."""
    options = (*handover, *QUIET, "0.2", "--kill-mode", kill_mode)
    running = start(ground, TWO_STEPS + SERVES, *options)
    worker = ground.expect("serves").pid
    running.expect_line("is ready")
    stop(running)
    assert signals_of(ground) == ["SIGTSTP", "SIGTERM"]
    running.expect_line(rf"Worker \(pid {worker}\) got SIGTSTP; SIGTERM follows in 0.2 s")


@BOTH
def test_command_that_ends_when_it_is_quiet(ground: Ground, handover: tuple[str, ...]) -> None:
    """A command that ends after quiet_signal is not waited for any longer."""
    running = start(ground, f"leave_on(signal.SIGTSTP); {SERVES}", *handover, *QUIET, "1000")
    ground.expect("serves")
    running.expect_line("is ready")
    stop(running)
    assert signals_of(ground) == ["SIGTSTP"]


@BOTH
def test_command_that_cannot_be_quiet(ground: Ground, handover: tuple[str, ...]) -> None:
    """A command without a handler for quiet_signal, which would suspend it, gets stop_signal at once."""
    running = start(ground, f"leave_on(signal.SIGTERM); {SERVES}", *handover, *QUIET, "1000")
    ground.expect("serves")
    running.expect_line("is ready")
    stop(running)
    assert signals_of(ground) == ["SIGTERM"]
    running.expect_line(r"has no handler for quiet_signal \(SIGTSTP\)")


@BOTH
def test_quiet_in_a_reload(ground: Ground, handover: tuple[str, ...]) -> None:
    """A reload that goes well stops the old command in two steps."""
    running = start(ground, TWO_STEPS + SERVES, *handover, *QUIET, "0.2")
    old = ground.expect("serves").pid
    running.expect_line("is ready")
    ground.program(2, TWO_STEPS + SERVES)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    wait_gone(old)
    assert [(report.pid, report.said("name")) for report in ground.seen("signal")] == [
        (old, "SIGTSTP"),
        (old, "SIGTERM"),
    ]


def test_nobody_is_quiet_after_a_failed_check(ground: Ground) -> None:
    """In overlap, a reload whose check fails has sent the old command nothing: it goes on to take new work."""
    check = ("--listen", f"http={ground.directory}/http", "--before-commit", "false")
    running = start(ground, TWO_STEPS + SERVES, *OVERLAP, *QUIET, "0.2", *check)
    old = ground.expect("serves").pid
    running.expect_line("is ready")
    ground.program(2, SERVES)
    assert ground.reload().returncode == 1
    assert ground.worker_pids() == [old]
    assert signals_of(ground) == []


def test_quiet_for_too_long(ground: Ground) -> None:
    """A quiet_timeout that stop_timeout cuts off is refused."""
    running = start(ground, SERVES, *EXCLUSIVE, "--quiet-signal", "SIGTSTP", "--quiet-timeout", "30")
    assert running.wait() == 78
    running.expect_line(
        "quiet_timeout is 30 s, but stop_timeout ends a command 30 s after quiet_signal; raise stop_timeout"
    )


# ------------------------------------------------------------------------------- a command that may not be signalled

WITHOUT_CAP_KILL = ("setpriv", "--bounding-set=-kill", "--inh-caps=-kill")
BECOMES_NOBODY = "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def start_without_cap_kill(ground: Ground, text: str, *options: object) -> Running:
    ground.program(1, text)
    run = (*WITHOUT_CAP_KILL, SDSUPERVISE, "run", "--pid-file", ground.pid_file, *options, "--")
    return ground.run(*run, "current/program")


@needs_root
@pytest.mark.parametrize("kill_mode", ["mixed", "group"])
@BOTH
def test_stop_that_is_not_permitted(ground: Ground, handover: tuple[str, ...], kill_mode: str) -> None:
    """A stop does not wait for a worker that may not be signalled: the log says what to do, and the status is 77."""
    options = (*handover, "--stop-timeout", "1000", "--kill-mode", kill_mode)
    running = start_without_cap_kill(ground, f"{BECOMES_NOBODY}; {SERVES}", *options)
    worker = ground.expect("serves").pid
    running.expect_line("is ready")
    running.signal(signal.SIGTERM)
    running.expect_line(
        rf"The supervisor may not send SIGTERM to worker \(pid {worker}\), which runs as uid 65534: "
        "add CAP_KILL to CapabilityBoundingSet= of the unit"
    )
    assert running.wait() == 77


@needs_root
@BOTH
def test_reload_that_is_not_permitted(ground: Ground, handover: tuple[str, ...]) -> None:
    """A reload is refused at once while the supervisor could not stop the old worker, which serves on."""
    running = start_without_cap_kill(ground, f"{BECOMES_NOBODY}; {SERVES}", *handover)
    worker = ground.expect("serves").pid
    running.expect_line("is ready")
    done = ground.reload()
    assert done.returncode == 1
    assert f"NOT RELOADED. The supervisor may not send signals to worker (pid {worker}), which runs" in done.stderr
    assert ground.worker_pids() == [worker]
    assert ground.status()["state"] == "serving"


@needs_root
def test_worker_that_becomes_another_user_in_a_reload(ground: Ground) -> None:
    """The same is found before the old worker is stopped, if the worker changes its user in the middle of a reload."""
    text = f"""
    def become(*_):
        {BECOMES_NOBODY}
        report("became")
    signal.signal(signal.SIGUSR1, become)
    """
    running = start_without_cap_kill(ground, text + SERVES, *OVERLAP)
    worker = ground.expect("serves").pid
    running.expect_line("is ready")
    ground.make_gate()
    ground.program(2, f'wait_at_gate("warms up"); {SERVES}')
    reload = ground.reload_process()
    ground.expect("warms up")
    os.kill(worker, signal.SIGUSR1)
    ground.expect("became")
    ground.open_gate()
    assert reload.wait() == 1
    assert f"NOT RELOADED: The supervisor may not send signals to worker (pid {worker})" in reload.err
    assert "Generation 1, " in reload.err and "was never stopped" in reload.err
    assert ground.worker_pids() == [worker]


@needs_root
@BOTH
def test_start_that_cannot_be_ended(ground: Ground, handover: tuple[str, ...]) -> None:
    """A worker that is not ready in time, and may not be signalled, fails the start with what to do."""
    text = f'{BECOMES_NOBODY}; report("starts"); wait()'
    running = start_without_cap_kill(ground, text, *handover, "--start-timeout", "0.3")
    ground.expect("starts")
    running.expect_line("may not send SIGTERM to worker")
    assert running.wait() == 77
