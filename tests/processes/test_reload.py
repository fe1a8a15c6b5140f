"""Reloads, however they are asked for, and second starts."""

from __future__ import annotations

import os
import re
import resource
import signal
from pathlib import Path

import pytest

from sdsupervise.control.client import Client
from tests.support.harness import PYTHON, SDSUPERVISE, Breakpoint, Ground, notify_socket, service
from tests.support.running import LIMIT_SECONDS, wait_gone


def test_reload_by_signal(ground: Ground) -> None:
    """SIGUSR2 starts the same script's code of today; the old supervisor leaves with status 0."""
    running = ground.serving()
    ground.deploy(2)
    running.signal(signal.SIGUSR2)
    ground.expect("shutdown", release=1)
    ground.expect("serves", release=2)
    assert running.wait() == 0


def test_reload_by_control_socket(ground: Ground) -> None:
    """`sdsupervise reload` tells each phase, ends with 0 once the new code serves, and says which code that is."""
    running = ground.serving("--", "one")
    ground.deploy(2)
    done = ground.reload()
    assert done.returncode == 0, done
    *phases, verdict = done.stdout.splitlines()
    assert verdict.startswith("RELOADED in ") and "generation 2 serves" in verdict and "releases/2" in verdict
    assert any("generation 2 is starting" in phase for phase in phases)
    assert "same code" not in verdict and done.stderr == ""
    ground.expect("serves", release=2)
    assert running.wait() == 0
    status = ground.status()
    assert (status["generation"], status["state"]) == (2, "serving")
    assert status["pid"] == int(ground.pid_file.read_text()) != running.pid
    reload = status["last_reload"]
    assert isinstance(reload, dict)
    assert reload["verdict"] == "done" and set(reload["phases"]) >= {"starting_successor", "yielding", "yielded"}


def test_order_of_a_reload(ground: Ground) -> None:
    """The new worker is warm before the old one is stopped, and serves only when that one is gone."""
    ground.serving()
    ground.deploy(2)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    words = [(report.word, report.details["release"]) for report in ground.history]
    assert words == [("warm", "1"), ("serves", "1"), ("warm", "2"), ("shutdown", "1"), ("serves", "2")]


@pytest.mark.parametrize("way", ["signal", "control socket"])
def test_successor_is_an_orphan_from_birth(ground: Ground, way: str) -> None:
    """A successor is init's child before it runs a line of code, not its predecessor's (nor its caller's)."""
    running = ground.serving()
    ground.deploy(2, service(before="report('born', parent=os.getppid())"))
    if way == "signal":
        running.signal(signal.SIGUSR2)
    else:
        ground.reload_process()
    assert ground.expect("born").said("parent") == str(os.getpid())
    ground.expect("serves", release=2)


def test_reloads_in_a_row(ground: Ground) -> None:
    """One reload after the other, asked in both ways; the arguments of the first start stay."""
    ground.deploy(1, service("def serve(self):\n    report('arguments', all=self.orig_args)\n    super().serve()"))
    last = ground.serving("--", "one", "--two").pid
    for generation in range(2, 8):
        if generation % 2:
            os.kill(last, signal.SIGUSR2)
            ground.expect("serves")
            wait_gone(last)
        else:
            assert ground.reload().returncode == 0
            ground.expect("serves")
        last = int(str(ground.status()["pid"]))
        assert ground.status()["generation"] == generation
    assert {report.details["all"] for report in ground.seen("arguments")} == {
        str(["--no-fork", "--pid-file", str(ground.pid_file), "--", "one", "--two"])
    }
    os.kill(last, signal.SIGTERM)
    ground.expect("shutdown")
    ground.expect_nothing_left()


def test_no_descriptor_is_left_over(ground: Ground) -> None:
    """Nothing piles up from generation to generation: the fifth supervisor has the descriptors of the second."""
    supervisor = ground.serving().pid
    second: list[str] = []
    for generation in range(2, 6):
        os.kill(supervisor, signal.SIGUSR2)
        ground.expect("serves")
        wait_gone(supervisor)
        found = open_files(ground)
        second = second or found
        assert found == second, f"generation {generation} has {found}, the second had {second}"
        supervisor = int(ground.pid_file.read_text())


def open_files(ground: Ground) -> list[str]:
    """What a supervisor at rest has open, by kind, and one connection of ours."""
    client = Client.connect(ground.control, timeout_seconds=LIMIT_SECONDS)
    for _ in range(2):  # two rounds of its loop: whatever ended before has been noticed
        pid = client.ask("Status").parameters["pid"]
    links = [os.path.join(f"/proc/{pid}/fd", fd) for fd in os.listdir(f"/proc/{pid}/fd")]
    kinds = sorted(re.sub(r"\[.*", "", os.readlink(link)) for link in links)
    client.close()
    return kinds


def test_settings_of_the_new_code(ground: Ground) -> None:
    """New code comes with its own settings."""
    ground.deploy(1, service("delay_before_respawn = 1000.0"))
    ground.serving()
    ground.deploy(2, service("delay_before_respawn = 0.01"))
    assert ground.reload().returncode == 0
    os.kill(ground.expect("serves", release=2).pid, signal.SIGKILL)
    ground.expect("serves", release=2)


def test_no_pid_file(ground: Ground) -> None:
    """--no-pid-file: no file; two reloads in a row hand the lock on, and never two serve."""
    ground.deploy(1)
    running = ground.run(PYTHON, "current/service.py", "--no-fork", "--no-pid-file")
    first = ground.expect("serves", release=1)
    ground.deploy(2)
    running.signal(signal.SIGUSR2)
    second = ground.expect("serves", release=2)
    assert running.wait() == 0
    ground.deploy(3)
    supervisor = next(process for process in ground.leftovers() if process.pid != second.pid)
    supervisor.send_signal(signal.SIGUSR2)
    ground.expect("serves", release=3)
    wait_gone(supervisor.pid)
    assert [report.details["release"] for report in ground.seen("shutdown")] == ["1", "2"]
    assert not list(ground.directory.glob("*.pid")) and first.pid != second.pid


def test_no_pid_file_in_a_runtime_directory(ground: Ground) -> None:
    """--no-pid-file with a $RUNTIME_DIRECTORY: the control socket is there, and `sdsupervise reload` finds it."""
    ground.deploy(1)
    (ground.directory / "run").mkdir()
    environment = {"RUNTIME_DIRECTORY": f"{ground.directory}/run"}
    ground.run(PYTHON, "current/service.py", "--no-fork", "--no-pid-file", environment=environment)
    ground.expect("serves")
    for release in 2, 3:
        ground.deploy(release)
        assert ground.finish(ground.run(SDSUPERVISE, "reload", environment=environment)).returncode == 0
        ground.expect("serves", release=release)


def test_deleted_pid_file(ground: Ground) -> None:
    """A reload is exclusive also when somebody deleted the pid file meanwhile."""
    ground.serving()
    ground.pid_file.unlink()
    for release in 2, 3:
        ground.deploy(release)
        assert ground.reload().returncode == 0
        ground.expect("serves", release=release)


def test_pid_file_in_the_middle_of_a_reload(ground: Ground) -> None:
    """The pid file is always there, never replaced, and names whoever holds the lock."""
    running = ground.serving()
    inode = ground.pid_file.stat().st_ino
    hold = Breakpoint(ground, "CLAIMING+LOCK_GAINED")
    ground.deploy(2, service(before=f"os.environ.update({hold.environment})"))
    reload = ground.reload_process()
    successor = hold.wait()
    assert ground.pid_file.read_text() == f"{running.pid}\n"
    hold.release()
    assert reload.wait() == 0
    assert ground.pid_file.read_text() == f"{successor}\n"
    assert ground.pid_file.stat().st_ino == inode


# ------------------------------------------------------------------------------------------------------- pid files


def test_symlink_for_a_pid_file(ground: Ground) -> None:
    """A pid file that is a symlink is refused: who may write the directory could have it point anywhere."""
    ground.deploy(1)
    victim = ground.write("victim", "precious")
    ground.pid_file.symlink_to(victim)
    running = ground.start()
    assert running.wait() == 69
    assert running.err.startswith(f"Cannot open the pid file {ground.pid_file}: ") and running.err.count("\n") == 1
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("place", ["nowhere/service.pid", ".", "current/service.py/x.pid", "/dev/null"])
def test_impossible_pid_file(ground: Ground, place: str) -> None:
    """A place where no pid file can be is one sentence that says what else could be done, and exit status 69."""
    ground.deploy(1)
    running = ground.run(PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.directory / place)
    assert running.wait() == 69
    assert running.err.startswith("Cannot open the pid file") and running.err.count("\n") == 1
    assert "--no-pid-file" in running.err


@pytest.mark.parametrize("options", [["--no-fork"], []], ids=["in front", "to the background"])
def test_full_disk(ground: Ground, options: list[str]) -> None:
    """So is a pid file that cannot be written, and whoever called it hears of it, also on the way to the background."""
    ground.deploy(1)

    def allow_no_byte_in_a_file() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    arguments = ["current/service.py", *options, "--pid-file", ground.pid_file]
    running = ground.run(PYTHON, *arguments, preexec_fn=allow_no_byte_in_a_file)
    assert running.wait() == 69
    assert running.err.startswith(f"Cannot write the pid file {ground.pid_file}: ") and running.err.count("\n") == 1
    ground.expect_nothing_left()


def test_full_disk_during_a_reload(ground: Ground) -> None:
    """A successor that cannot write its pid says so and serves: the lock is what counts."""
    running = ground.serving()
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (0, 0))
    ground.deploy(2)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    running.expect_line("Cannot write the pid file .* The service runs nevertheless")
    os.kill(int(str(ground.status()["pid"])), signal.SIGTERM)
    ground.expect_nothing_left()


def test_few_descriptors(ground: Ground) -> None:
    """A supervisor with too few descriptors left refuses a reload and serves on; with more it reloads."""
    running = ground.serving()
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{running.pid}/fd")) + 3, 1000))
    refused = ground.reload()
    assert refused.returncode == 1 and "file descriptors" in refused.stderr
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (1000, 1000))
    assert ground.reload().returncode == 0
    ground.expect("serves")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who may not write here")
def test_directory_nobody_may_write(ground: Ground) -> None:
    """So is a directory we may not write, whether or not the pid file is there already."""
    ground.deploy(1)
    for _ in range(2):
        running = ground.start(user=61234, group=61234)
        assert running.wait() == 69
        assert running.err.count("\n") == 1 and str(ground.directory) in running.err
        ground.pid_file.touch()
        ground.pid_file.chmod(0o666)


# --------------------------------------------------------------------------------------------------- second start


def test_second_start(ground: Ground) -> None:
    """A second start of a service that can be reloaded initiates a hot reload, says so, and exits 0."""
    running = ground.serving()
    ground.deploy(2)
    second = ground.start()
    assert second.wait() == 0
    assert second.err.endswith("Daemon is already running, initiated hot reload\n") and second.err.count("\n") == 1
    ground.expect("serves", release=2)
    assert running.wait() == 0


def test_second_start_without_hot_reload(ground: Ground) -> None:
    """A second start of one that cannot be reloaded is an error."""
    ground.deploy(1, service("can_do_hot_reload = False"))
    running = ground.serving()
    second = ground.start()
    assert second.wait() == 69
    assert second.err == f"Couldn't lock {ground.pid_file}. Is another copy of this daemon already running?\n"
    assert running.alive


def test_another_service_in_the_same_runtime_directory(ground: Ground) -> None:
    """Two services cannot share a $RUNTIME_DIRECTORY: starting one does not reload the other, and says why."""
    environment = {"RUNTIME_DIRECTORY": str(ground.directory)}
    running = ground.serving(environment=environment)
    other = ground.run(
        PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.directory / "other.pid", environment=environment
    )
    assert other.wait() == 69
    assert "Another service, Service, listens on" in other.err and "RuntimeDirectory of its own" in other.err
    assert running.alive and len(ground.seen("serves")) == 1


def test_second_start_under_systemd(ground: Ground) -> None:
    """Under systemd a second start is an error: exit status 0 would make Restart=always reload the other for ever."""
    running = ground.serving()
    with notify_socket(ground) as listener:
        second = ground.start(environment={"NOTIFY_SOCKET": str(listener.getsockname())})
        assert second.wait() == 69
        assert b"already running" in listener.recv(4096)
    assert "already running?" in second.err
    assert running.alive and len(ground.seen("serves")) == 1


def test_second_start_during_a_reload(ground: Ground) -> None:
    """A second start in the middle of a reload does not steal the lock in the gap; it is told what goes on."""
    ground.serving()
    hold = Breakpoint(ground, "CLAIMING+LOCK_GAINED")
    ground.deploy(2, service(before=f"os.environ.update({hold.environment})"))
    reload = ground.reload_process()
    hold.wait()
    second = ground.start()
    assert second.wait() == 69
    assert "already in progress" in second.err
    hold.release()
    assert reload.wait() == 0


def test_second_start_without_control_socket(ground: Ground) -> None:
    """Where the control socket is gone, the pid in the locked file gets SIGUSR2."""
    running = ground.serving()
    Path(ground.control).unlink()
    ground.deploy(2)
    second = ground.start()
    assert second.wait() == 0
    assert "Daemon is already running, initiated hot reload" in second.err
    ground.expect("serves", release=2)
    assert running.wait() == 0


def test_lock_held_by_a_stranger(ground: Ground) -> None:
    """A pid file that somebody else holds is an error, and its holder is not signalled, whatever number it wrote."""
    ground.deploy(1)
    program = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1); sys.stdout.flush(); input()"
    stranger = ground.run(PYTHON, "-c", program, ground.pid_file, stdin=-1)
    stranger.expect_line("1", "out")
    ground.pid_file.write_text(f"{stranger.pid}\n")
    second = ground.start()
    assert second.wait() == 69
    assert "Couldn't lock" in second.err
    assert stranger.alive


def test_start_after_a_crash(ground: Ground) -> None:
    """A pid file and a control socket that a killed supervisor left are no obstacle."""
    running = ground.serving()
    running.signal(signal.SIGKILL)
    ground.expect("shutdown")
    ground.expect_nothing_left()
    assert Path(ground.control).exists() and ground.pid_file.exists()
    running = ground.serving()
    assert ground.status()["pid"] == running.pid


def test_start_beside_a_dying_worker(ground: Ground) -> None:
    """As long as a worker of a killed supervisor still serves, another start is refused."""
    ground.deploy(1, service("def warm_up(self): signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})"))
    running = ground.serving()
    worker = ground.worker_pids()[0]
    running.signal(signal.SIGKILL)
    running.wait()
    second = ground.start()
    assert second.wait() == 69
    assert "Couldn't lock" in second.err
    os.kill(worker, signal.SIGKILL)
    wait_gone(worker)
    ground.serving()
