"""The processes that are measured: supervisors of a trivial service, and bare Pythons."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

HERE = Path(__file__).parent
BARE = HERE / "bare.py"
TRIVIAL = HERE / "trivial.py"
DEADLINE_SECONDS = 60.0
_PR_SET_CHILD_SUBREAPER = 36


def can_boot() -> bool:
    """Whether a machine with systemd can be booted here, and shall be."""
    return os.environ.get("SYSTEMD") != "no" and os.geteuid() == 0


class BenchError(Exception):
    """A measured process did not do what it should; the text says which and what it said last."""


def adopt_orphans() -> None:
    """Be the parent of every successor, for it is forked twice: so that none is left behind, not even a zombie."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def reap_orphans() -> None:
    """Reap the orphans that have ended. A thousand of them would cost whoever looks through /proc."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def clean_environment(**more: str) -> dict[str, str]:
    """Nothing of ours: no systemd, no settings of Python."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **more}


def wait_for_end(pid: int) -> None:
    """Wait for a child's end and reap it.

    Raises BenchError when it does not come.
    """
    pidfd = os.pidfd_open(pid)
    try:
        if not wait_until_readable(pidfd, DEADLINE_SECONDS):
            raise BenchError(f"Process {pid} does not end.")
        os.waitpid(pid, 0)
    finally:
        os.close(pidfd)


def let_time_pass(pid: int, seconds: float) -> None:
    """Wait so long.

    Raises BenchError when the process does not live to see it.
    """
    pidfd = os.pidfd_open(pid)
    try:
        if wait_until_readable(pidfd, seconds):
            raise BenchError(f"Process {pid} was to live on, and died.")
    finally:
        os.close(pidfd)


def wait_until_readable(fd: int, seconds: float) -> bool:
    """The descriptor is readable, or at its end, within the time."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


class Process:
    """A process that takes orders on its standard input and answers in lines of numbers on its standard output."""

    def __init__(self, arguments: list[str], environment: dict[str, str], *, to_journal: bool = False) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - what it wrote to standard error; closed by end()
        if to_journal:
            environment["JOURNAL_STREAM"] = _as_stream(self._said.fileno())
        self._arguments = arguments
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            cwd="/",
            bufsize=0,
        )
        self.pid = self._process.pid
        self._rest = b""

    def order(self, text: str) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")

    def numbers(self) -> list[int]:
        """The next line it says, as numbers.

        Raises BenchError when it says none.
        """
        return [int(word) for word in self.line().split()]

    def line(self) -> str:
        """The next line it says.

        Raises BenchError when it says none.
        """
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            if not wait_until_readable(self._process.stdout.fileno(), DEADLINE_SECONDS):
                raise BenchError(f"{self.name} says nothing. {self.last_words()}")
            data = self._process.stdout.read(4096)
            if not data:
                raise BenchError(f"{self.name} is gone. {self.last_words()}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def last_words(self) -> str:
        """The end of its standard error."""
        self._said.seek(0)
        return self._said.read().decode(errors="replace")[-2000:]

    def close_input(self) -> None:
        """End of input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def end(self) -> None:
        """End of input: it leaves at that."""
        assert self._process.stdout is not None
        self.close_input()
        wait_for_end(self.pid)
        self._process.returncode = 0  # reaped, although not by Popen
        self._process.stdout.close()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.end()

    @property
    def name(self) -> str:
        """What it is, for messages."""
        return f"{' '.join(self._arguments)} (pid {self.pid})"


def bare(name: str, **environment: str) -> Process:
    """A baseline."""
    return Process([sys.executable, "-I", "-S", str(BARE), name], clean_environment(**environment))


def _as_stream(fd: int) -> str:
    """The value of $JOURNAL_STREAM by which a process believes this file to be the journal; systemd.exec(5)."""
    file = os.fstat(fd)
    return f"{file.st_dev}:{file.st_ino}"


class Born(NamedTuple):
    """What a worker says when it has been released; times of the clock that all processes share."""

    first_line: int
    released: int
    pid: int
    supervisor: int


class Supervised(Process):
    """A supervisor of the trivial service with its worker, through all of its generations.

    Given a notification socket it is started as a unit does it, by `sdsupervise run`; else it is the script's.
    """

    def __init__(self, *, notify_socket: str = "", **environment: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sdsupervise-bench-")
        pid_file = os.path.join(self._directory.name, "trivial.pid")
        self.control_path = os.path.join(self._directory.name, "trivial.control")
        if notify_socket:
            command = [str(Path(sys.executable).with_name("sdsupervise")), "run", f"{TRIVIAL}:Trivial"]
            environment["NOTIFY_SOCKET"] = notify_socket
        else:
            command = [sys.executable, str(TRIVIAL), "--no-fork"]
        super().__init__(
            [*command, "--pid-file", pid_file], clean_environment(**environment), to_journal=bool(notify_socket)
        )
        self.worker = self.next_worker()

    def next_worker(self) -> Born:
        """Wait for the next worker."""
        self.worker = Born(*self.numbers())
        return self.worker

    def next_generation(self) -> Born:
        """Wait for the next generation's worker and for the end of this one."""
        worker = self.next_worker()
        wait_for_end(self.pid)
        self.pid = worker.supervisor
        return worker

    def end(self) -> None:
        """Stop it."""
        os.kill(self.pid, signal.SIGTERM)
        super().end()
        self._directory.cleanup()
