"""Nobody reads what a supervisor writes: it goes on, and says how much was dropped when somebody does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import termios
from collections.abc import Iterator

import pytest

from sdsupervise.control.client import Client
from tests.processes.test_command_exclusive import FORKS
from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service
from tests.support.running import LIMIT_SECONDS, Deadline, wait_gone, wait_readable
from tests.support.terminal import Terminal

_NOBODY = 65534


class Pipe:
    """A pipe that a test reads when it wants to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.text = b""

    def fill(self) -> None:
        """Until not a byte more goes in."""
        own = os.open(f"/proc/self/fd/{self.writer}", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(own, b"." * 4096)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(own, b".")
        os.close(own)

    def read_until(self, pattern: str) -> str:
        """Read on until this is there; all that came."""
        deadline = Deadline()
        while not re.search(pattern.encode(), self.text):
            assert wait_readable([self.reader], deadline), self.text[-2000:].decode()
            self.text += os.read(self.reader, 65536)
        return self.text.decode()

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    assert not fcntl.fcntl(pipe.writer, fcntl.F_GETFL) & os.O_NONBLOCK  # nobody has changed it for the others
    pipe.close()


class Started:
    """A process whose streams are a pipe of the test's."""

    def __init__(self, ground: Ground, pipe: Pipe, *words: object, **settings: object) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in words],
            cwd=ground.directory,
            env=ground.environment(),
            stdin=subprocess.DEVNULL,
            stdout=pipe.writer,
            stderr=pipe.writer,
            **settings,  # type: ignore[call-overload]
        )
        self.pid = self.process.pid

    def wait(self) -> int:
        wait_gone(self.pid)
        return int(self.process.wait())


def say_much(ground: Ground, lines: int = 2000) -> None:
    """Have the supervisor log so many lines of a hundred characters."""
    client = Client.connect(ground.control, timeout_seconds=LIMIT_SECONDS)
    for _ in range(lines):
        assert next(client.call("Scale", {"workers": 0})).error == "ScaleRefused"
    client.close()


@pytest.mark.parametrize("full", [False, True], ids=["before", "full from the beginning"])
@pytest.mark.parametrize("kind", ["class", "exclusive", "overlap"])
def test_nobody_reads(ground: Ground, pipe: Pipe, kind: str, full: bool) -> None:
    """It starts, answers, replaces a worker, reloads and stops. Whoever begins to read finds how much is missing, and
    all from then on."""
    if full:
        pipe.fill()
    serves = 'report("serves", release=release); notify("READY=1"); wait()'
    if kind == "class":
        ground.deploy(1)
        started = Started(ground, pipe, PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    else:
        ground.program(1, serves)
        run = (SDSUPERVISE, "run", "--pid-file", ground.pid_file, "--delay-before-respawn", "0")
        started = Started(ground, pipe, *run, "--handover", kind, "--", "current/program")
    ground.expect("serves")
    pipe.fill()
    say_much(ground)
    os.kill(ground.worker_pids()[0], signal.SIGKILL)
    ground.expect("serves")
    pipe.read_until(rf"\[{started.pid}\]: \d+ lines dropped, because nobody read standard error\n")
    os.kill(started.pid, signal.SIGALRM)
    pipe.read_until("SIGALRM is ignored: .*\n")
    pipe.fill()
    if kind == "class":
        ground.deploy(2)
    else:
        ground.program(2, serves)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    assert started.wait() == 0
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


def test_the_number_is_true(ground: Ground, pipe: Pipe) -> None:
    """What was dropped and what was not is all there was, and the number stands where the hole is, time and again. It
    is told as soon as there is room, though the supervisor has nothing more to say."""
    ground.deploy(1)
    Started(ground, pipe, PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    ground.expect("serves")
    for _ in range(2):
        pipe.read_until("Generation 1 serves|dropped")
        pipe.text = b""
        pipe.fill()
        say_much(ground, 3000)
        text = pipe.read_until("(\\d+) lines dropped, because nobody read standard error\n$")
        said = len(re.findall(r"Service\[\d+\]: Scaling asked by .* refused: .*\n", text))
        (dropped,) = re.findall(r"(\d+) lines dropped", text)
        assert said + int(dropped) == 3000 and said > 100
        say_much(ground, 1)
        pipe.text = b""
        pipe.read_until("Scaling asked by")
        pipe.text = b"Generation 1 serves"
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


def test_a_reader_that_is_slow(ground: Ground, pipe: Pipe) -> None:
    """Nothing is dropped of what a full pipe holds up for a while."""
    ground.deploy(1)
    Started(ground, pipe, PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    ground.expect("serves")
    pipe.fill()
    say_much(ground, 300)
    os.kill(int(ground.pid_file.read_text()), signal.SIGALRM)
    text = pipe.read_until("SIGALRM is ignored")
    assert text.count("Scaling asked by") == 300 and "dropped" not in text
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    pipe.read_until("Generation 1 leaves\n")
    ground.expect_nothing_left()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_pipe_of_somebody_else(ground: Ground, pipe: Pipe) -> None:
    """The pipe is root's, and the supervisor is not: it cannot be opened anew, as it is in a container."""
    ground.directory.chmod(0o1777)
    ground.deploy(1)
    python = ground.public_python()
    words = (python, "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    started = Started(ground, pipe, *words, user=_NOBODY, group=_NOBODY, extra_groups=[])
    ground.expect("serves")
    pipe.fill()
    say_much(ground)
    ground.deploy(2)
    ground.finish(ground.run(python, "-m", "sdsupervise", "reload", "--pid-file", ground.pid_file, user=_NOBODY))
    ground.expect("serves", release=2)
    assert started.wait() == 0
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_after_a_change_of_user(ground: Ground, pipe: Pipe) -> None:
    """One that begins as root and goes on as somebody else, and its successor, which begins so."""
    ground.directory.chmod(0o1777)
    ground.deploy(1)
    words = (ground.public_python(), "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    started = Started(ground, pipe, *words, "--user", "nobody")
    ground.expect("serves")
    for release in (2, 3):
        pipe.fill()
        say_much(ground)
        ground.deploy(release)
        os.kill(int(ground.pid_file.read_text()), signal.SIGUSR2)
        ground.expect("serves", release=release)
        pipe.read_until(rf"of generation {release} is ready")
    assert started.wait() == 0
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


def test_what_a_shim_says(ground: Ground, pipe: Pipe) -> None:
    """It does not wait either to end what a command left behind, which keeps the next one from starting."""
    ground.program(1, FORKS)
    run = (SDSUPERVISE, "run", "--pid-file", ground.pid_file, "--delay-before-respawn", "0", "--stop-timeout", "1")
    Started(ground, pipe, *run, "--", "current/program")
    left = [ground.expect(word).pid for word in ("child", "session", "daemon")]
    worker = ground.expect("serves").pid
    pipe.fill()
    os.kill(worker, signal.SIGKILL)
    ground.expect("serves")
    for pid in left:
        wait_gone(pid)
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


def test_what_a_successor_says(ground: Ground, pipe: Pipe) -> None:
    """All that the interpreter of new code writes is passed on, or not; the reload goes on."""
    ground.deploy(1)
    Started(ground, pipe, PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    ground.expect("serves")
    pipe.fill()
    ground.deploy(2, service(before="for number in range(20000): print('importing', number, file=sys.stderr)"))
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


def test_what_a_worker_says_is_its_own(ground: Ground, pipe: Pipe) -> None:
    """None of it is dropped: it waits, as it would without a supervisor; by print() and by log records, which use what
    the supervisor has in the place of sys.stderr."""
    body = """
    def serve(self):
        for number in range(3000):
            print("printed", number)
            logging.getLogger("x").warning("logged %d", number)
            handler.error("handled %d", number)
        report("done")
        super().serve()
    """
    before = """
    import logging
    handler = logging.getLogger("own")
    handler.propagate = False
    handler.addHandler(logging.StreamHandler(sys.stdout))
    """
    ground.deploy(1, service(body, before=before))
    Started(ground, pipe, PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    ground.expect("serves")
    text = pipe.read_until("handled 2999\n")
    ground.expect("done")
    for word in ("printed", "logged", "handled"):
        assert list(map(int, re.findall(rf"{word} (\d+)", text))) == list(range(3000))
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


def test_a_thread_that_prints(ground: Ground, pipe: Pipe) -> None:
    """One that the service's module has begun, in the supervisor: a fork waits for what print() has locked."""
    before = """
    def chatter():
        while True:
            print("x" * 5000, file=sys.stdout, flush=True)
            print("x" * 5000, file=sys.stderr, flush=True)
            time.sleep(0.001)
    if __name__ == "__main__":
        threading.Thread(target=chatter, daemon=True).start()
    """
    pipe.fill()
    ground.deploy(1, service(before=before))
    Started(ground, pipe, PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    for _ in range(3):
        os.kill(ground.expect("serves").pid, signal.SIGKILL)
    ground.expect("serves")
    os.kill(int(ground.pid_file.read_text()), signal.SIGKILL)


def test_a_terminal_that_is_held(ground: Ground) -> None:
    """Ctrl-S: nothing is written, all is done; Ctrl-Q: it is written."""
    ground.deploy(1)
    run = [SDSUPERVISE, "run", "--pid-file", str(ground.pid_file), f"{ground.current}/service.py"]
    shown = Terminal(run, ground.environment({"TERM": "dumb"}), columns=200, rows=50)
    try:
        shown.wait_for("Generation 1 serves")
        worker = ground.expect("serves").pid
        termios.tcflow(shown._slave, termios.TCOOFF)
        os.kill(worker, signal.SIGKILL)
        ground.expect("serves")
        say_much(ground, 50)
        assert ground.status()["crashes"] == 1
        termios.tcflow(shown._slave, termios.TCOON)
        shown.wait_for_written(f"Worker (pid {worker}) was killed by SIGKILL")
        shown.press("\x03")
        assert shown.wait() == 0
    finally:
        shown.close()


def test_in_the_background(ground: Ground, pipe: Pipe) -> None:
    """A daemon does not keep open what it was called with: whoever reads that to its end is not to wait for it."""
    ground.deploy(1)
    caller = Started(ground, pipe, PYTHON, "current/service.py", "--pid-file", ground.pid_file)
    assert caller.wait() == 0
    ground.expect("serves")
    os.close(pipe.writer)
    deadline = Deadline()
    while wait_readable([pipe.reader], deadline):
        if not os.read(pipe.reader, 65536):
            break
    assert not deadline.passed
    pipe.writer = os.open(os.devnull, os.O_WRONLY)
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()


def test_the_reader_is_gone(ground: Ground) -> None:
    """A pipe without a reader is no reason to stop, nor to burn a core."""
    pipe = Pipe()
    ground.deploy(1)
    Started(ground, pipe, PYTHON, "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    worker = ground.expect("serves").pid
    pipe.fill()
    say_much(ground, 100)
    pipe.close()
    os.kill(worker, signal.SIGKILL)
    ground.expect("serves")
    say_much(ground, 100)
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()
