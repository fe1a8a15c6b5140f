"""Any program as a service, in `overlap`: what it gets, what it says, how it stops and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tests.processes.test_stopping import ignored_here
from tests.support.harness import SDSUPERVISE, Ground
from tests.support.running import Running, wait_gone

OVERLAP = ("--handover", "overlap", "--delay-before-respawn", "0")
SERVES = 'report("serves", release=release); notify("READY=1"); wait()'


def serving(ground: Ground, text: str = SERVES, *options: object, release: object = 1) -> Running:
    """A program that reports "serves" and is ready."""
    ground.program(release, text)
    running = ground.run_command("current/program", options=[*OVERLAP, *options])
    ground.expect("serves", release=release)
    running.expect_line("is ready")
    return running


# ------------------------------------------------------------------------------------------------- what it gets


def test_what_a_command_gets(ground: Ground) -> None:
    """A command finds its arguments, /dev/null for input, nothing open but the three streams, no signal ignored or
    blocked, and an environment that names its own notification socket and nobody else's."""
    text = """
    status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    report("got", arguments=sys.argv[1:], open=sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
           input=os.readlink("/proc/self/fd/0"), ignored=int(status["SigIgn"], 16), blocked=int(status["SigBlk"], 16),
           session=os.getsid(0) == os.getpid(), socket=os.environ.get("NOTIFY_SOCKET"),
           mode=oct(os.stat(os.environ["NOTIFY_SOCKET"]).st_mode & 0o777),
           place=oct(os.stat(os.path.dirname(os.environ["NOTIFY_SOCKET"])).st_mode & 0o777),
           environment={k: v for k, v in os.environ.items() if k.startswith(("SDS", "LISTEN", "WATCH", "PYTHONUN"))})
    """
    ground.program(1, text + SERVES)
    environment = {
        **{"NOTIFY_SOCKET": "@nobody", "WATCHDOG_PID": "1", "LISTEN_FDS": "7", "LISTEN_PIDFDID": "1"},
        **{"SDSUPERVISE_X": "kept", "MAINPID": "1"},
    }
    keep = os.open("/dev/zero", os.O_RDONLY)
    running = ground.run_command(
        *("current/program", "one", "--pid-file", "two words", "--"),
        options=[*OVERLAP, "--worker-timeout", "10"],
        environment={name: value for name, value in environment.items() if name != "NOTIFY_SOCKET"},
        pass_fds=[keep],
    )
    os.close(keep)
    got = ground.expect("got").details
    ground.expect("serves")
    assert got["arguments"] == "['one', '--pid-file', 'two words', '--']"
    assert (got["open"], got["input"]) == ("[0, 1, 2]", "/dev/null")
    # Python itself ignores SIGPIPE and SIGXFSZ before a program of its own can look; what our caller ignored stays so.
    mine = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1 | ignored_here()
    assert (int(got["ignored"]) & ~mine, got["blocked"], got["session"]) == (0, "0", "True")
    assert (got["mode"], got["place"]) == ("0o666", "0o711")
    (worker,) = ground.worker_pids()
    wanted = {
        **{"SDSUPERVISE_GENERATION": "1", "SDSUPERVISE_WORKER_INDEX": "0", "SDSUPERVISE_X": "kept"},
        **{"PYTHONUNBUFFERED": "1", "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(worker)},
    }
    assert eval(got["environment"]) == wanted
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not Path(got["socket"]).parent.exists()


def test_broken_pipe_is_deadly(ground: Ground) -> None:
    """A shell's pipeline ends as it does elsewhere: SIGPIPE is not ignored."""
    ground.run_command("sh", "-c", "yes | head -1; kill -s PIPE $$; echo survived", options=OVERLAP).expect_line(
        "was killed by SIGPIPE"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["no-such-program"], "Cannot run no-such-program: there is no such program in PATH"),
        (["./no/such"], "Cannot run ./no/such: there is no such program in"),
        (["current/plain"], "Cannot run current/plain: current/plain is not executable"),
        (["current"], "Cannot run current"),
        (["./current"], "Cannot run ./current: there is no such program"),
    ],
)
def test_no_such_command(ground: Ground, words: list[str], sentence: str) -> None:
    """A command that is not there, or is no program, is one sentence and exit status 78, and nothing was locked."""
    ground.program(1, SERVES)
    ground.write("releases/1/plain", "")
    running = ground.run_command(*words, options=OVERLAP)
    assert running.wait() == 78
    assert sentence in running.err and running.err.count("\n") == 1
    assert not ground.pid_file.exists()


def test_command_that_cannot_be_executed(ground: Ground) -> None:
    """What the kernel says of a program that looked like one is the worker's end, and a reload's reason."""
    running = serving(ground)
    ground.write("releases/2/program", "#!/no/such/interpreter\n", 0o755)
    ground.point_to(2)
    reload = ground.reload()
    assert reload.returncode == 1
    assert "/releases/2/program: No such file or directory. Generation 1" in reload.stderr
    assert running.alive and len(ground.seen("serves")) == 1


def test_missing_command_in_a_reload(ground: Ground) -> None:
    """A reload to a command that is gone fails for that reason, and the old one serves on."""
    running = serving(ground)
    ground.write("releases/2/other", "")
    ground.point_to(2)
    reload = ground.reload()
    assert reload.returncode == 1
    assert "Cannot run current/program: there is no such program" in reload.stderr
    assert running.alive


# ------------------------------------------------------------------------------------- start, respawn, reload, stop


def test_life_of_a_command(ground: Ground) -> None:
    """Started, killed and started again at once, reloaded to what is on disk now, stopped: nothing is left."""
    running = serving(ground)
    (worker,) = ground.worker_pids()
    os.kill(worker, signal.SIGKILL)
    running.expect_line(rf"\(pid {worker}\) was killed by SIGKILL")
    ground.expect("serves", release=1)
    running.expect_line("is ready")
    ground.program(2, SERVES)
    reload = ground.reload()
    assert reload.returncode == 0 and "same code" not in reload.stdout
    ground.expect("serves", release=2)
    assert running.wait() == 0
    (worker,) = ground.worker_pids()
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    wait_gone(worker)
    ground.expect_nothing_left()


def test_names(ground: Ground) -> None:
    """A service is called as its program, or as --name says, also by its pid file."""
    runtime = ground.directory / "run"
    runtime.mkdir()
    ground.program(1, SERVES)
    environment = {"RUNTIME_DIRECTORY": str(runtime)}
    running = ground.run(SDSUPERVISE, "run", "--name", "api", "--", "current/program", environment=environment)
    worker = ground.expect("serves").pid
    running.expect_line(r"^api\[\d+\]: Generation 1 starts")
    assert int((runtime / "api.pid").read_text()) == running.pid
    (sockets,) = [path for path in runtime.iterdir() if path.is_dir()]
    assert Path(psutil.Process(worker).environ()["NOTIFY_SOCKET"]).parent == sockets


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--"], "Name what to run"),
        ([], "Name what to run"),
        (["--", ""], "Name what to run"),
        (["--bogus", "--", "true"], "unrecognized arguments: --bogus"),
        (["--name", "x", "current/service.py"], "--name is for a COMMAND"),
        (["--ready-after", "1", "current/service.py"], "Service is a class, and --ready-after is for a COMMAND"),
        (["--stop-signal", "TERM", "--", "true"], "stop_signal is 'TERM'; it must be 'SIGTERM' or"),
        (["--", "true", "{http}"], "{http} in the command names no listener; there are: none. Write {{http}}"),
    ],
)
def test_wrong_command_lines(ground: Ground, arguments: list[str], sentence: str) -> None:
    """What a command line cannot mean is one sentence."""
    ground.deploy(1)
    running = ground.run(SDSUPERVISE, "run", *arguments)
    assert running.wait() in (64, 78)
    assert sentence in running.err and running.err.count("\n") == 1


def test_dashes_behind_a_target_are_the_class_s(ground: Ground) -> None:
    """Behind a TARGET "--" stays what it was: the end of the class's own options."""
    text = 'def serve(self):\n    report("rest", rest=self.parsed_args)\n    super().serve()'
    from tests.support.harness import service

    ground.deploy(1, service(text))
    ground.run(SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py", "one", "--", "--two")
    assert ground.expect("rest").said("rest") == "['one', '--two']"
    assert ground.pid_file.exists()


# ----------------------------------------------------------------------------------------------------- its sockets

LISTENS = """
names = os.environ["LISTEN_FDNAMES"].split(":")
assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == str(len(names))
for fd, name in enumerate(names, 3):
    with socket.socket(fileno=os.dup(fd)) as listener:
        report("listens", name=name, fd=fd, address=listener.getsockname())
report("arguments", arguments=sys.argv[1:], open=sorted(map(int, os.listdir("/proc/self/fd")))[:-1])
while True:
    with socket.socket(fileno=os.dup(3)) as listener:
        if "ready" not in globals():
            notify("READY=1"); report("serves", release=release)
            ready = True
        listener.accept()[0].sendall(release.encode())
"""


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
def test_listeners_of_a_command(ground: Ground, handover: str) -> None:
    """A command finds its listeners from descriptor 3 on, in the order they are listed, {NAME} in its arguments is the
    number, and across a death and a reload they stay the same sockets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    sockets = ["--listen", f"http=127.0.0.1:{address[1]}", "--listen", f"admin={ground.directory}/admin"]
    ground.program(1, LISTENS)
    options = ["--handover", handover, "--delay-before-respawn", "0", *sockets]
    running = ground.run_command(
        "current/program", "fd://{admin}", "{http}{http}", "{{http}} ${http} {}", options=options
    )
    for name, fd, where in (("http", 3, str(address)), ("admin", 4, f"{ground.directory}/admin")):
        assert ground.expect("listens", name=name, fd=fd).said("address") == where
    said = ground.expect("arguments")
    assert said.said("arguments") == "['fd://4', '33', '{http} ${http} {}']"
    assert said.said("open") == "[0, 1, 2, 3, 4]"
    worker = ground.expect("serves").pid
    os.kill(worker, signal.SIGKILL)
    wait_gone(worker)
    with socket.create_connection(address, timeout=30) as client:  # queues until the next worker accepts it
        assert client.recv(10) == b"1"
    running.expect_line("was killed by SIGKILL")
    ground.expect("serves", release=1)
    ground.program(2, LISTENS)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    assert running.wait() == 0
    with socket.create_connection(address, timeout=30) as client:
        assert client.recv(10) == b"2"


@pytest.mark.parametrize(
    "words", [["gunicorn", "--bind", "fd://{http}"], ["python3", "-m", "gunicorn", "-b=fd://{http}"]]
)
def test_socket_that_gunicorn_is_told_of_twice(ground: Ground, words: list[str]) -> None:
    """It would die of that, each time; so it is not even started."""
    ground.write("bin/gunicorn", "#!/bin/sh\nexec sleep 1000\n", 0o755)
    running = ground.run_command(
        *words,
        options=["--listen", "http=127.0.0.1:8000"],
        environment={"PATH": f"{ground.directory}/bin:{os.environ['PATH']}"},
    )
    assert running.wait() == 64
    assert running.err == (
        "gunicorn finds its sockets as systemd passes them, and fails if --bind names one of them again: leave out "
        f"{words[-1]} and the --bind before it.\n"
    )


@pytest.mark.parametrize("handover", ["overlap", "exclusive"])
@pytest.mark.parametrize("where", ["file", "pipe", "/dev/null"])
def test_where_the_last_words_are(ground: Ground, handover: str, where: str) -> None:
    """Without a journal the reason says where to look for what new code wrote before it ended: on the standard error
    of the supervisor that serves on, and which file that is."""
    ground.program(1, SERVES)
    file = ground.directory / "app.log" if where == "file" else where
    to = "" if where == "pipe" else f' 2>>"{file}"'
    run = [SDSUPERVISE, "run", "--pid-file", ground.pid_file, "--handover", handover, "--", "current/program"]
    ground.run("/bin/sh", "-c", f'exec "$@"{to}', "sh", *run)
    ground.expect("serves")
    ground.program(2, "sys.exit('no such section: web')")
    failed = ground.reload()
    assert failed.returncode == 1
    pid = ground.pid_file.read_text().strip()
    place = {
        "file": f"its output went to the standard error of pid {pid}, {file}",
        "pipe": f"its output went to the standard error of pid {pid}",
        "/dev/null": "its standard error is /dev/null",
    }[where]
    assert f"NOT RELOADED: The worker exited with status 1 before it was ready; {place}. Gen" in failed.stderr
    if where == "file":
        assert "no such section: web" in Path(file).read_text()
