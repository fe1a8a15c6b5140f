"""The ground without systemd: a directory, and `sdsupervise run` in the foreground of it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from tests.demo.ground import LIMIT_SECONDS, Facts, Outcome, Service
from tests.demo.lines import Lines, NoSuchLine
from tests.demo.narrator import Narrator

PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def foreground() -> Iterator[Path]:
    """A directory to tell stories in; nothing of them is left, however they end."""
    # Successors are nobody's children: as their reaper we learn of every one, and see when the last has ended.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="sdsupervise-demo-") as directory:
        try:
            yield Path(directory)
        finally:
            end_children()


def end_children() -> None:
    """Kill whoever is left, and those who become ours by that, until there is nobody."""
    while pids := children():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)  # ours, so not reaped by anybody else: the number is still its own
        for pid in pids:
            reap(pid)


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children()]


def reap(pid: int) -> bool:
    """Wait until a child has ended; False if it does not."""
    has_ended = wait_for_end(pid)
    if has_ended:
        os.waitpid(pid, 0)
    return has_ended


def wait_for_end(pid: int) -> bool:
    """Wait until a process has ended, and leave it unreaped; False if it does not end."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with open(pidfd, "rb"):
        ended, _, _ = select.select([pidfd], [], [], LIMIT_SECONDS)
    return bool(ended)


class ForegroundGround:
    """The example as one would try it on a laptop."""

    teller = "service"
    pid_name = "pid"
    restarts_name = ""

    def __init__(self, directory: Path, narrator: Narrator, service: Service) -> None:
        self.directory, self.narrator, self.service = directory, narrator, service
        self.home = directory / service.name
        self.pid_file = self.home / "pid"
        self.command = Path(sysconfig.get_path("scripts"), "sdsupervise")
        self.log: Lines | None = None
        self.clients: set[int] = set()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])

    def install(self, releases: Mapping[str, str], unit: str) -> None:
        for path, text in releases.items():
            file = self.home / "releases" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def client(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        client = self.popen([sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.clients.add(client.pid)
        return client

    def deploy(self, release: str) -> None:
        self.show("ln", "-sfn", f"releases/{release}", f"{self.home}/current")
        subprocess.run(["ln", "-sfn", f"releases/{release}", f"{self.home}/current"], check=True)

    def start(self) -> Outcome:
        arguments = ["run", "--directory", f"{self.home}/current", self.service.target]
        arguments += [option.format(port=self.port, home=self.home) for option in self.service.options]
        arguments += ["--pid-file", str(self.pid_file)]
        self.show("sdsupervise", *arguments, "&")
        process = self.popen(
            [str(self.command), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        self.log = Lines(process.stdout, "service")
        self.wait_for(self.service.sign, after=0, times=self.service.workers)
        return Outcome(True, "ready")

    def kill_worker(self, pid: int) -> None:
        after = self.said()
        self.kill("-9", pid, signal.SIGKILL)
        self.wait_for(self.service.sign, after=after)

    def reload(self, main_pid: int) -> Outcome:
        after = self.said()
        self.kill("-USR2", main_pid, signal.SIGUSR2)
        verdict = self.wait_for("eloaded: ", after=after)  # "Reloaded: …" or "Not reloaded: …"
        done = "Not reloaded" not in verdict
        return Outcome(done, "done" if done else "failed")

    def kill_supervisor(self, pid: int) -> None:
        raise NotImplementedError("Nobody would restart it.")

    def restart(self) -> Outcome:
        raise NotImplementedError("Nobody would keep the listener.")

    def stop(self, main_pid: int) -> Outcome:
        assert self.log is not None
        self.kill("-TERM", main_pid, signal.SIGTERM)
        ended = self.log.wait_for_end(timeout_seconds=LIMIT_SECONDS)
        return Outcome(ended, "done" if ended else "failed")

    def wait_until_gone(self, pid: int) -> None:
        if not wait_for_end(pid):
            raise NoSuchLine(f"Process {pid} is still there after {LIMIT_SECONDS:g} s.")

    def facts(self) -> Facts:
        asked = subprocess.run(
            [str(self.command), "status", "--json", "--pid-file", str(self.pid_file)],
            stdout=subprocess.PIPE,
            check=True,
            timeout=LIMIT_SECONDS,
        )
        status = json.loads(asked.stdout)
        return Facts(
            main_pid=int(self.pid_file.read_text()),
            supervisor_pid=status["pid"],
            worker_pids=tuple(worker["pid"] for worker in status["workers"]),
            restarts=0,
            crashes=status["crashes"],
            sentence=status["status"].replace(str(self.directory), "$D"),
        )

    def leftovers(self) -> list[str]:
        return [f"process {pid}" for pid in children() if pid not in self.clients and not reap(pid)]

    def last_words(self) -> str:
        return "\n".join(self.log.said[-20:]) if self.log is not None else ""

    # ------------------------------------------------------------------------------------------------ details

    def popen(self, command: list[str], *, stdin: int, stdout: int, stderr: int | None = None) -> subprocess.Popen[str]:
        # A session of its own: a Ctrl-C is for us, and we end it.
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, text=True, start_new_session=True)

    def kill(self, option: str, pid: int, number: signal.Signals) -> None:
        self.show("kill", option, str(pid))
        os.kill(pid, number)

    def show(self, *command: str) -> None:
        self.narrator.command(" ".join(command).replace(str(self.directory), "$D"))

    def said(self) -> int:
        return len(self.log.said) if self.log is not None else 0

    def wait_for(self, text: str, *, after: int, times: int = 1) -> str:
        """Wait until the service has said this so many times; the last such line."""
        assert self.log is not None
        missing = times

        def is_the_last(line: str) -> bool:
            nonlocal missing
            missing -= text in line
            return missing <= 0

        return self.log.wait_for(is_the_last, after=after, timeout_seconds=LIMIT_SECONDS)
