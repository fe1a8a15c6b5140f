"""A place where real services run without systemd, and where every wait is for an event and has a deadline.

    ground.deploy(1, service())
    service = ground.start()                       # current/service.py in the foreground, with a pid file
    ground.expect("serves", release="1")           # what the service's own code reported, see probe.py
    service.expect_line("is ready")                # what the supervisor wrote to standard error
    assert ground.reload().returncode == 0

While a ground exists, this process adopts every orphan below it (PR_SET_CHILD_SUBREAPER), as systemd would: so no
process of a service can get lost, daemonized or not, and `leftovers` is the truth.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import dedent, indent
from types import TracebackType
from typing import NamedTuple

import psutil

from sdsupervise.control.client import Client, control_path
from tests.support import breakpoints
from tests.support.descriptions import CONTROL
from tests.support.running import LIMIT_SECONDS, Deadline, Missed, Running, wait_gone, wait_readable

PYTHON = sys.executable
SDSUPERVISE = str(Path(sys.executable).with_name("sdsupervise"))
_PR_SET_CHILD_SUBREAPER = 36
_MARK = b"mark"  # no report looks like this


class Report(NamedTuple):
    """What a service's own code said."""

    word: str
    pid: int
    details: Mapping[str, str]

    def said(self, name: str) -> str:
        return self.details[name]


NOTHING: Mapping[str, str | None] = {}


def status_at(control: str) -> Mapping[str, object]:
    """What the supervisor that listens there answers to Status."""
    client = Client.connect(control, timeout_seconds=LIMIT_SECONDS)
    try:
        answer = client.ask("Status")
    finally:
        client.close()
    assert not answer.error, answer
    complaints = list(CONTROL.complaints(CONTROL.methods["Status"][1], answer.parameters))
    assert not complaints, complaints
    return answer.parameters


class Ground:
    """A directory with releases, the socket services report to, and all processes started here."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sds-"))
        self.directory.chmod(0o755)
        self.library = self.directory / "lib"
        self.library.mkdir()
        for name in ("probe.py", "told.py"):
            shutil.copy(Path(__file__).with_name(name), self.library)
        breakpoints.inject_into(self.library)
        (self.directory / "one-at-a-time").touch()
        (self.directory / "one-at-a-time").chmod(0o666)
        self._reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reports.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._reports.bind(str(self.directory / "reports"))
        (self.directory / "reports").chmod(0o777)
        self._unread: list[Report] = []
        self._history: list[Report] = []
        self._marks_sent = self._marks_seen = 0
        # The kernel queues a few datagrams only, and a service must not wait for a test to look at what it said.
        self._reported = threading.Condition()
        self._receiver = threading.Thread(target=self._receive, name="reports")
        self._receiver.start()
        self._running: list[Running] = []
        self._watchers: list[threading.Thread] = []
        self._before: set[int] = set()

    def __enter__(self) -> Ground:
        self._before = {child.pid for child in psutil.Process().children(recursive=True)}
        _adopt_orphans(True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while left := self.leftovers():
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            for process in left:
                wait_gone(process.pid)
        _adopt_orphans(False)
        for watcher in self._watchers:
            watcher.join()
        for running in self._running:
            running.close()
        self._reports.sendto(b"", str(self.directory / "reports"))
        self._receiver.join()
        self._reports.close()
        shutil.rmtree(self.directory)
        if kind is None:
            self.check_nothing_broke()

    def check_nothing_broke(self) -> None:
        """No service reported that it served beside another."""
        broken = [report for report in self._history if report.word == "VIOLATION"]
        if broken:
            raise Missed(f"two released workers at a time: {broken}\nall reports: {self._history}")

    # ------------------------------------------------------------------------------------------- files and code

    @property
    def pid_file(self) -> Path:
        return self.directory / "service.pid"

    @property
    def current(self) -> Path:
        """The symlink a deploy swaps."""
        return self.directory / "current"

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """A file below the ground's directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def deploy(self, release: object, service_text: str = "", **others: str) -> Path:
        """Write releases/RELEASE/service.py (and other modules) and swap the symlink `current` to it."""
        service_text = (service_text or service()).replace('release = "1"', f'release = "{release}"')
        for name, text in {"service": service_text, **others}.items():
            self.write(f"releases/{release}/{name}.py", text, 0o755)
        self.point_to(release)
        return self.current / "service.py"

    def point_to(self, release: object) -> None:
        """Swap the symlink `current`."""
        fresh = self.directory / "current.new"
        fresh.symlink_to(f"releases/{release}")
        fresh.rename(self.current)

    def make_gate(self) -> None:
        """Where one program at a time can wait; see told.wait_at_gate."""
        os.mkfifo(self.directory / "gate")

    def open_gate(self) -> None:
        """Let the program that waits there go on; an error if it is gone."""
        gate = os.open(self.directory / "gate", os.O_WRONLY | os.O_NONBLOCK)
        os.write(gate, b"g")
        os.close(gate)

    # ------------------------------------------------------------------------------------------------ processes

    def environment(self, changes: Mapping[str, str | None] = NOTHING) -> dict[str, str]:
        """What processes here get: nothing of the caller's session."""
        environment: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "PWD": str(self.directory),
            "PYTHONPATH": str(self.library),
            "TMPDIR": str(self.directory),
            "GROUND": str(self.directory),
            **changes,
        }
        return {name: value for name, value in environment.items() if value is not None}

    def run(self, *arguments: object, environment: Mapping[str, str | None] = NOTHING, **settings: object) -> Running:
        """Start any command in the ground's directory, with pipes; as another user with a Python that all can reach."""
        if "user" in settings and arguments[0] == PYTHON:
            arguments = (self.public_python(), *arguments[1:])
        process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            [str(argument) for argument in arguments],
            **{
                "cwd": self.directory,
                "env": self.environment(environment),
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **settings,
            },
        )
        running = Running(process)
        self._running.append(running)
        self._watchers.append(threading.Thread(target=self._report_end, args=(running.pidfd,), name="watcher"))
        self._watchers[-1].start()
        return running

    def _report_end(self, pidfd: int) -> None:
        """Wake whoever waits for a report when this process has ended."""
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll()
        with self._reported:
            self._reported.notify_all()

    def public_python(self) -> str:
        """What our virtual environment is made of, which may lie where others may not look; it has the package, too."""
        if not (self.library / "sdsupervise").exists():
            shutil.copytree(installed_package(), self.library / "sdsupervise")
        return os.path.realpath(PYTHON)

    def start(self, *options: object, environment: Mapping[str, str | None] = NOTHING, **settings: object) -> Running:
        """Start the deployed script in the foreground with the ground's pid file."""
        script = "current/service.py"
        return self.run(
            PYTHON, script, "--no-fork", "--pid-file", self.pid_file, *options, environment=environment, **settings
        )

    def serving(self, *options: object, environment: Mapping[str, str | None] = NOTHING, **settings: object) -> Running:
        """Start the deployed script, wait until its worker serves."""
        if not self.current.exists():
            self.deploy(1)
        running = self.start(*options, environment=environment, **settings)
        self.expect("serves")
        return running

    def run_command(
        self,
        *words: object,
        options: Sequence[object] = (),
        environment: Mapping[str, str | None] = NOTHING,
        **settings: object,
    ) -> Running:
        """`sdsupervise run OPTIONS -- WORDS` in the foreground with the ground's pid file."""
        run = (SDSUPERVISE, "run", "--pid-file", self.pid_file, *options, "--")
        return self.run(*run, *words, environment=environment, **settings)

    def program(self, release: object, text: str, name: str = "program") -> Path:
        """Write releases/RELEASE/NAME, a Python program, and swap the symlink `current` to it; see told.py."""
        top = (
            f"#!{PYTHON}\nimport os, signal, socket, subprocess, sys\nfrom told import *\nrelease = {str(release)!r}\n"
        )
        self.write(f"releases/{release}/{name}", top + dedent(text), 0o755)
        self.point_to(release)
        return self.current / name

    def reload_process(self) -> Running:
        """`sdsupervise reload`, running."""
        return self.run(SDSUPERVISE, "reload", "--pid-file", self.pid_file)

    def reload(self) -> subprocess.CompletedProcess[str]:
        """`sdsupervise reload`, to its end."""
        return self.finish(self.reload_process())

    @staticmethod
    def finish(running: Running) -> subprocess.CompletedProcess[str]:
        """Wait for the end of a process."""
        status = running.wait()
        return subprocess.CompletedProcess([], status, running.out, running.err)

    def leftovers(self) -> list[psutil.Process]:
        """Everything that still runs of what was ever started here; the dead are buried."""
        left = []
        for child in psutil.Process().children(recursive=True):
            if child.pid in self._before:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    left.append(child)
                elif child.ppid() == os.getpid() and child.pid not in {running.pid for running in self._running}:
                    os.waitpid(child.pid, 0)
        return left

    def expect_nothing_left(self) -> None:
        """Wait until no process is left."""
        deadline = Deadline()
        for process in self.leftovers():
            wait_gone(process.pid, deadline)
        assert not self.leftovers()

    # -------------------------------------------------------------------------------------- what services report

    def expect(self, word: str, **details: object) -> Report:
        """The next report with this word and these details; others stay for later.

        Raises Missed if it does not come, at once if no process is left that could send it.
        """
        wanted = {name: str(value) for name, value in details.items()}
        deadline = Deadline()
        with self._reported:
            while True:
                if is_over := self._all_are_gone():
                    _ = self.history  # what they sent has arrived now
                for report in self._unread:
                    if report.word == word and wanted.items() <= report.details.items():
                        self._unread.remove(report)
                        return report
                self.check_nothing_broke()
                if is_over or not self._reported.wait(deadline.left):
                    break
        raise Missed(f"no report {word!r} {details}; unread: {self._unread}\n{self.transcript()}")

    def _all_are_gone(self) -> bool:
        """Whether something was started here, and no process below this one lives.

        Each living process below this one has a parent that lives, or is its child: it adopts orphans. So only children
        count. They are listed twice, since an orphan may come while its dead parent is looked at.
        """
        if not self._running or any(running.alive for running in self._running):
            return False
        children = _children() - self._before
        return all(map(_is_dead, children)) and _children() - self._before == children

    @property
    def history(self) -> list[Report]:
        """All reports so far: at least those that were sent before this was asked."""
        self._marks_sent += 1
        mark = self._marks_sent
        self._reports.sendto(_MARK, str(self.directory / "reports"))  # it comes after them
        deadline = Deadline()
        with self._reported:
            while self._marks_seen < mark:
                if not self._reported.wait(deadline.left):
                    raise Missed("the receiver of reports is stuck")
            return list(self._history)

    def seen(self, word: str) -> list[Report]:
        """Those of the history with this word."""
        return [report for report in self.history if report.word == word]

    def transcript(self) -> str:
        """Everything anybody wrote or reported."""
        texts = [f"--- pid {running.pid}\n{running.out}{running.err}" for running in self._running]
        return "\n".join([*texts, f"--- reports\n{self._history}"])

    def _receive(self) -> None:
        while True:
            data, ancillary, _, _ = self._reports.recvmsg(65536, socket.CMSG_SPACE(12))
            if not data:
                return
            if data == _MARK:
                with self._reported:
                    self._marks_seen += 1
                    self._reported.notify_all()
                continue
            pid, _, _ = struct.unpack("3i", ancillary[0][2][:12])
            report = Report(json.loads(data)[0], pid, json.loads(data)[1])
            with self._reported:
                self._unread.append(report)
                self._history.append(report)
                self._reported.notify_all()

    # ---------------------------------------------------------------------------------------- the control socket

    @property
    def control(self) -> str:
        return control_path(str(self.pid_file), {})

    def status(self) -> Mapping[str, object]:
        """The answer to Status."""
        return status_at(self.control)

    def worker_pids(self) -> list[int]:
        """The living workers of the supervisor that is the main one."""
        workers = self.status()["workers"]
        assert isinstance(workers, list)
        return [worker["pid"] for worker in workers]


class Breakpoint:
    """Holds a supervisor at a transition of the takeover table; see tests/support/breakpoints."""

    def __init__(self, ground: Ground, transition: str) -> None:
        self._directory = Path(tempfile.mkdtemp(dir=ground.directory))
        self.environment = {breakpoints.VARIABLE: f"{transition}:{self._directory}"}
        for name in ("reached", "go"):
            os.mkfifo(self._directory / name)
        self._reached = os.open(self._directory / "reached", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self) -> int:
        """The pid of the supervisor that has got there."""
        if not wait_readable([self._reached], Deadline()):
            raise Missed("nobody reached the breakpoint")
        pid = int(os.read(self._reached, 100))
        os.close(self._reached)
        return pid

    def release(self) -> None:
        """Let it go on; it must live."""
        os.close(os.open(self._directory / "go", os.O_WRONLY))  # waits until it has opened its end

    def remove(self) -> None:
        """Whoever comes there from now on goes on."""
        for name in ("reached", "go"):
            (self._directory / name).unlink()
            (self._directory / name).touch()


def _children() -> set[int]:
    """The pids of the children of this process."""
    pids = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            pids |= {int(pid) for pid in file.read_text().split()}
    return pids


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _adopt_orphans(yes: bool) -> None:
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER)")


def installed_package() -> Path:
    """The wheel's package, for those who may not look into our virtual environment."""
    return Path(sysconfig.get_path("purelib")) / "sdsupervise"


@contextlib.contextmanager
def notify_socket(ground: Ground) -> Iterator[socket.socket]:
    """What NOTIFY_SOCKET names: somewhere to send datagrams to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(ground.directory / "notify"))
        (ground.directory / "notify").chmod(0o777)
        listener.settimeout(LIMIT_SECONDS)
        yield listener


def service(body: str = "", *, before: str = "", base: str = "Probe", run: str = "sys.exit(Service().run())") -> str:
    """The text of a service with this class body."""
    return (
        "import os, signal, socket, sys, threading, time\n"
        "from probe import Daemon, Member, Probe, SupervisedDaemon, be_the_only_one, report, wait_for_signal\n"
        f"{dedent(before)}\n"
        f'class Service({base}):\n    "A service of a test."\n    release = "1"\n'
        f"{indent(dedent(body), '    ')}\n"
        f'if __name__ == "__main__":\n{indent(dedent(run), "    ")}\n'
    )
