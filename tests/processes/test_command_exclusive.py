"""An exclusive command: never two at once, whatever it forks and whoever is killed; what it may do beside the old."""

from __future__ import annotations

import os
import re
import signal

import psutil
import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Breakpoint, Ground
from tests.support.running import Running, wait_gone

QUICK = ("--delay-before-respawn", "0", "--stop-timeout", "1")
# Everything that may run only once holds one lock, as long as it lives; see told.be_the_only_one.
SERVES = 'be_the_only_one(); report("serves", release=release); notify("READY=1"); wait()'
# As a pool that leaves its children behind when it stops: one in its group, one in a session of its own, one whose
# parent is dead as well, all deaf to SIGTERM.
FORKS = """
be_the_only_one()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for kind in ("child", "session", "daemon"):
    if os.fork() == 0:
        if kind != "child":
            os.setsid()
        if kind == "daemon" and os.fork():
            os._exit(0)
        report(kind, release=release)
        wait()
leave_on(signal.SIGTERM)
report("serves", release=release)
notify("READY=1")
wait()
"""


def start(ground: Ground, text: str, *options: object, release: object = 1, **settings: object) -> Running:
    ground.program(release, text)
    return ground.run_command("current/program", options=[*QUICK, *options], **settings)  # type: ignore[arg-type]


def family(ground: Ground, release: object = 1) -> list[int]:
    """The pids of all that one worker of FORKS started."""
    return [ground.expect(word, release=release).pid for word in ("serves", "child", "session", "daemon")]


def shim_of(worker: int) -> int:
    return psutil.Process(worker).ppid()


def test_life_of_an_exclusive_command(ground: Ground) -> None:
    """Started, started again when it dies, reloaded only when the old one is gone, stopped: nothing is left."""
    running = start(ground, SERVES)
    worker = ground.expect("serves").pid
    assert ground.worker_pids() == [worker]
    os.kill(worker, signal.SIGKILL)
    running.expect_line(rf"\(pid {worker}\) was killed by SIGKILL")
    ground.expect("serves")
    ground.program(2, SERVES)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    assert running.wait() == 0
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


def test_exit_status_comes_through_the_shim(ground: Ground) -> None:
    """How the command ended is said of it as of any worker."""
    running = start(ground, 'notify("READY=1"); sys.exit(7)')
    running.expect_line(r"\(pid \d+\) exited with status 7")


def test_reload_of_a_forking_command(ground: Ground) -> None:
    """The new one is executed when the last process of the old one is dead, wherever that has hidden: each is named in
    the log."""
    running = start(ground, FORKS)
    for release in (2, 3):
        _, *left = family(ground, release - 1)
        ground.program(release, FORKS)
        assert ground.reload().returncode == 0
        for pid in left:
            wait_gone(pid)
            assert f"left a process behind: pid {pid} (" in ground.transcript()
        ground.expect("signal", name="SIGTERM")
    family(ground, 3)
    assert running.wait() == 0


@pytest.mark.parametrize("victim", ["command", "shim", "child"])
def test_killed_part_of_a_forking_command(ground: Ground, victim: str) -> None:
    """Whichever process of it is killed, the next one starts when all the others are dead."""
    running = start(ground, FORKS)
    worker, child, session, daemon = family(ground)
    os.kill({"command": worker, "shim": shim_of(worker), "child": child}[victim], signal.SIGKILL)
    if victim == "child":
        wait_gone(child)
        assert ground.worker_pids() == [worker]  # its parent's to replace
        return
    family(ground)
    for pid in (worker, child, session, daemon):
        wait_gone(pid)
    if victim == "shim":
        running.expect_line(rf"The shim \(pid \d+\) of worker \(pid {worker}\) was killed by SIGKILL")


def test_killed_supervisor(ground: Ground) -> None:
    """A command whose supervisor is killed is told to stop, and what it leaves behind is killed."""
    running = start(ground, FORKS)
    _, *left = family(ground)
    running.signal(signal.SIGKILL)
    ground.expect("signal", name="SIGTERM")
    for pid in left:
        wait_gone(pid)
    ground.expect_nothing_left()
    start(ground, FORKS)
    family(ground)


def test_command_that_outlives_its_supervisor(ground: Ground) -> None:
    """While a command of a killed supervisor lives no other can start; when it is dead one can."""
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVES
    running = start(ground, deaf, "--stop-timeout", "1000")
    worker = ground.expect("serves").pid
    running.signal(signal.SIGKILL)
    running.expect_line("The supervisor is gone, stopping the command")
    second = ground.run_command("current/program", options=QUICK)
    assert second.wait() == 69
    assert "Is another copy of this daemon already running?" in second.err
    os.kill(worker, signal.SIGKILL)
    ground.expect_nothing_left()
    start(ground, SERVES)
    ground.expect("serves")


def test_killed_supervisor_of_several(ground: Ground) -> None:
    """Each of several commands is told at once that the supervisor is dead, however long the others take to stop."""
    text = """
    deaf = os.environ["SDSUPERVISE_WORKER_INDEX"] == "1"
    signal.signal(signal.SIGTERM, signal.SIG_IGN) if deaf else leave_on(signal.SIGTERM)
    report("serves", deaf=deaf); notify("READY=1"); wait()
    """
    running = start(ground, text, "--workers", "3", "--stop-timeout", "1000")
    hearing = {ground.expect("serves", deaf=False).pid for _ in range(2)}
    ground.expect("serves", deaf=True)
    running.signal(signal.SIGKILL)
    assert {ground.expect("signal", name="SIGTERM").pid for _ in range(2)} == hearing


def test_deaf_command_of_a_killed_supervisor(ground: Ground) -> None:
    """A command that does not stop when its supervisor is dead is killed in the end."""
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVES
    running = start(ground, deaf)
    ground.expect("serves")
    running.signal(signal.SIGKILL)
    ground.expect_nothing_left()


@pytest.mark.parametrize(
    "at", ["STARTING_SUCCESSOR+PEER_ASKS_YIELD/0", "STARTING_SUCCESSOR+PEER_ASKS_YIELD/1", "YIELDING+NO_WORKER/0"]
)
def test_predecessor_killed_in_a_reload(ground: Ground, at: str) -> None:
    """The successor of a supervisor that was killed serves when the last process of the old command is dead."""
    point = Breakpoint(ground, at)
    running = start(ground, FORKS, environment=point.environment)
    _, *left = family(ground)
    ground.program(2, FORKS)
    reload = ground.reload_process()
    assert point.wait() == running.pid
    running.signal(signal.SIGKILL)
    family(ground, 2)
    for pid in left:
        wait_gone(pid)
    assert reload.wait() == 69


def test_shim_that_hangs_at_a_stop(ground: Ground) -> None:
    """However often its command's deadline comes, the shim itself is killed in the end, and the stop ends."""
    ground.program(1, SERVES)
    running = ground.run_command("current/program", options=("--stop-timeout", "0.3"))
    worker = ground.expect("serves").pid
    os.kill(shim_of(worker), signal.SIGSTOP)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert running.err.count(f"(pid {worker}), which got the signal to stop") > 2
    ground.expect_nothing_left()


def test_shim_killed_in_a_reload(ground: Ground) -> None:
    """The shim of a command that is being stopped is killed: the new one still waits for the last of the old."""
    point = Breakpoint(ground, "STARTING_SUCCESSOR+PEER_ASKS_YIELD/1")
    start(ground, FORKS, environment=point.environment)
    worker, *left = family(ground)
    shim = shim_of(worker)
    ground.program(2, FORKS)
    reload = ground.reload_process()
    point.wait()
    os.kill(shim, signal.SIGKILL)
    point.release()
    family(ground, 2)
    assert [pid for pid in left if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"] == []
    assert reload.wait() == 0


@pytest.mark.parametrize("at", ["CLAIMING+LOCK_GAINED/0", "CLAIMING+LOCK_GAINED/2"])
def test_successor_killed_in_a_reload(ground: Ground, at: str) -> None:
    """A successor is killed before, or after, it has released its command: the old one comes back when nothing of the
    new one is left."""
    point = Breakpoint(ground, at)
    start(ground, FORKS, environment=point.environment)
    family(ground)
    ground.program(2, FORKS)
    reload = ground.reload_process()
    successor = point.wait()
    if at.endswith("2"):
        family(ground, 2)
    os.kill(successor, signal.SIGKILL)
    family(ground)
    assert reload.wait() == 1
    assert len(ground.seen("serves")) == (3 if at.endswith("2") else 2)


# --------------------------------------------------------------------------------------- what waits for its release

WARMS_UP = f"""
report("warm", release=release)
status = subprocess.run([{SDSUPERVISE!r}, "ready"]).returncode
report("released", status=status)
if status:
    sys.exit(status)
{SERVES}
"""


def test_warm_up_beside_the_old_one(ground: Ground) -> None:
    """One that calls `sdsupervise ready` warms up beside the old one, and goes on when that is gone."""
    start(ground, WARMS_UP, "--waits-for-release")
    ground.expect("serves", release=1)
    old = ground.worker_pids()
    text = WARMS_UP.replace("status = ", f"os.kill({old[0]}, 0)\nstatus = ")  # alive
    ground.program(2, text)
    assert ground.reload().returncode == 0
    assert ground.expect("released").said("status") == "0"
    ground.expect("serves", release=2)
    wait_gone(old[0])


def test_not_executed_before_its_release(ground: Ground) -> None:
    """One that cannot wait is executed only when the old one is gone: its first line may be what only one may do."""
    start(ground, SERVES)
    (old,) = [ground.expect("serves").pid]
    ground.program(2, f'report("old lives", lives=os.path.exists("/proc/{old}"))\n' + SERVES)
    assert ground.reload().returncode == 0
    assert ground.expect("old lives").said("lives") == "False"
    ground.expect("serves", release=2)


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
def test_shell_script(ground: Ground, handover: str) -> None:
    """A shell script says that it is warm, waits for its turn and pings: both commands exit 0."""
    script = f"""\
#!/bin/sh
trap 'echo stopping; exit 0' TERM
{SDSUPERVISE} ready && {SDSUPERVISE} ping && echo "release RELEASE serves: $?"
while :; do sleep 1000 & wait; kill $!; done
"""
    ground.write("releases/1/program", script.replace("RELEASE", "1"), 0o755)
    ground.point_to(1)
    options = [*QUICK, "--handover", handover, "--waits-for-release", "--worker-timeout", "100"]
    running = ground.run_command("current/program", options=options)
    running.expect_line("release 1 serves: 0", "out")
    ground.write("releases/2/program", script.replace("RELEASE", "2"), 0o755)
    ground.point_to(2)
    assert ground.reload().returncode == 0
    running.expect_line("release 2 serves: 0", "out")
    assert running.wait() == 0
    workers = ground.status()["workers"]
    assert isinstance(workers, list) and workers[0]["last_ping"] is not None
    assert "stopping" in running.out


@pytest.mark.parametrize("command", ["ready", "ping"])
def test_ready_without_a_supervisor(ground: Ground, command: str) -> None:
    """Where nobody supervises, or nobody does any more, both say so and exit 69."""
    nobody = ground.run(SDSUPERVISE, command)
    assert nobody.wait() == 69
    assert "NOTIFY_SOCKET is not set" in nobody.err
    for name, message in (
        ("notify.9.0123abcd/0123456789abcdef", "The supervisor is gone"),
        ("s", "Cannot notify systemd"),
    ):
        gone = ground.run(SDSUPERVISE, command, environment={"NOTIFY_SOCKET": f"{ground.directory}/{name}"})
        assert gone.wait() == 69
        assert message in gone.err and gone.err.count("\n") == 1


def test_supervisor_dies_while_a_command_waits(ground: Ground) -> None:
    """`sdsupervise ready` ends with 69 when the supervisor that was to answer is killed."""
    point = Breakpoint(ground, "CLAIMING+LOCK_GAINED")
    start(ground, SERVES, "--waits-for-release", environment=point.environment)
    ground.expect("serves")
    ground.program(2, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WARMS_UP)
    ground.reload_process()
    os.kill(point.wait(), signal.SIGKILL)
    assert ground.expect("released").said("status") == "69"


def test_serving_is_said_of_a_command_that_is_up(ground: Ground) -> None:
    """The reload is done when the new command, which could only start when the old one was gone, says READY=1; one that
    ends instead is a failed reload, and the old command is started anew."""
    ground.make_gate()
    running = start(ground, SERVES, "--handover", "exclusive")
    ground.expect("serves", release=1)
    ground.program(2, "be_the_only_one(); sys.exit(3)")
    failed = ground.reload()
    assert failed.returncode == 1, failed
    assert "exited with status 3 before it was ready" in failed.stderr
    assert re.findall("of generation 2 is ready.*", running.err) == ["of generation 2 is ready to be started"]
    told = r"Generation 1, .*, still serves; its worker was stopped and started again from what is on disk\."
    assert re.search(told, failed.stderr)
    running.expect_line(f"Not reloaded: .* {told}")
    ground.expect("serves", release=1)
    ground.program(3, f'wait_at_gate("starts"); {SERVES}')
    reload = ground.reload_process()
    ground.expect("starts")
    assert reload.alive
    assert len(ground.seen("serves")) == 2
    ground.open_gate()
    assert reload.wait() == 0
    ground.expect("serves", release=3)


def test_a_shim_that_is_stopped_when_its_supervisor_is_killed(ground: Ground) -> None:
    """It would keep the lock for ever, and nobody would serve: it is killed, and the old code comes back."""
    running = start(ground, SERVES, "--takeover-timeout", "1")
    ground.expect("serves", release=1)
    ground.program(2, 'be_the_only_one(); report("begins"); wait()')
    reload = ground.reload_process()
    worker = ground.expect("begins").pid
    shim = shim_of(worker)
    successor = psutil.Process(shim).ppid()
    os.kill(shim, signal.SIGSTOP)
    os.kill(successor, signal.SIGKILL)
    ground.expect("serves", release=1)
    assert reload.wait() == 1
    wait_gone(shim)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


# ----------------------------------------------------------------------------- the old code, and what is called that


@pytest.mark.parametrize("way", ["directory", "program"])
def test_old_release_comes_back(ground: Ground, way: str) -> None:
    """A command that names its release by the symlink: after a failed reload the old release serves, not the new."""
    ground.program(1, f'report("words", words=sys.argv[1:]); {SERVES}')
    current = ground.current
    words: list[object] = [PYTHON, current / "program", f"--data={current}/data", current, f"{current}x"]
    options = ["--directory", current]
    if way == "program":
        words, options = words[1:], []
    running = ground.run_command(*words, options=[*QUICK, *options])
    first = ground.expect("words").said("words")
    assert first == str([f"--data={ground.directory}/releases/1/data", f"{ground.directory}/releases/1", f"{current}x"])
    ground.expect("serves", release=1)
    ground.program(2, "sys.exit(3)")
    failed = ground.reload()
    assert failed.returncode == 1
    ground.expect("serves", release=1)
    assert ground.expect("words").said("words") == first
    assert re.search(r"Generation 1, .*, still serves; its worker was stopped and started again", failed.stderr)
    (worker,) = ground.worker_pids()
    os.kill(worker, signal.SIGKILL)
    ground.expect("serves", release=1)
    assert "changed code" not in running.err
    ground.program(3, SERVES)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=3)


def test_code_that_was_changed_in_place(ground: Ground) -> None:
    """After a failed reload the worker runs what is on disk by then: nobody says that the old code serves, and status
    has the fingerprint of what runs."""
    ground.program(1, SERVES)
    running = start(ground, SERVES)
    ground.expect("serves")
    before = fingerprint(ground)
    # it fails in generation 2 only, and is broken in a way that nobody notices
    changed = 'report("changed"); os.environ["SDSUPERVISE_GENERATION"] == "2" and sys.exit(3); ' + SERVES
    ground.program(1, changed)
    failed = ground.reload()
    assert failed.returncode == 1
    ground.expect("serves")
    assert fingerprint(ground) != before
    outcome = (
        rf"Generation 1, \S+ \({fingerprint(ground)}\), serves, but with changed code: its worker was stopped and "
        r"started again from what is on disk\."
    )
    assert re.search(outcome, failed.stderr)
    assert "still serves" not in failed.stderr
    running.expect_line(f"Worker 0 starts with changed code: .* is on disk, and generation 1 has run .*{before}")


def fingerprint(ground: Ground) -> str:
    code = ground.status()["code"]
    assert isinstance(code, dict)
    return str(code["fingerprint"])


def test_directory_that_is_gone(ground: Ground) -> None:
    """A worker is started again although a deployment has removed the directory in which the supervisor runs."""
    gone = ground.directory / "gone"
    gone.mkdir()
    program = ground.program(1, SERVES)
    running = ground.run_command(program, options=[*QUICK, "--directory", gone])
    worker = ground.expect("serves").pid
    running.expect_line("is up|serves")
    gone.rmdir()
    os.kill(worker, signal.SIGKILL)
    ground.expect("serves")
