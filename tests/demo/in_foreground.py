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

from tests.demo.ground import CLIENT, LIMIT_SECONDS, Facts, Outcome
from tests.demo.lines import Lines
from tests.demo.narrator import Narrator
from tests.demo.talk import Talk

PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def foreground(narrator: Narrator) -> Iterator[ForegroundGround]:
    """A ground of which nothing is left, however the story ends."""
    # Successors are nobody's children: as their reaper we learn of every one, and see when the last has ended.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="sdsupervise-demo-") as directory:
        try:
            yield ForegroundGround(Path(directory), narrator)
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
    with open(os.pidfd_open(pid), "rb") as pidfd:
        ended, _, _ = select.select([pidfd], [], [], LIMIT_SECONDS)
    if ended:
        os.waitpid(pid, 0)
    return bool(ended)


class ForegroundGround:
    """The example as one would try it on a laptop."""

    teller = "service"
    pid_name = "pid"
    restarts_name = ""

    def __init__(self, home: Path, narrator: Narrator) -> None:
        self.home, self.narrator = home, narrator
        self.pid_file = home / "counter.pid"
        self.command = Path(sysconfig.get_path("scripts"), "sdsupervise")
        self.log: Lines | None = None
        self.client_pid = 0
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])

    def install(self, releases: Mapping[str, str]) -> None:
        for name, source in releases.items():
            release = self.home / "releases" / name
            release.mkdir(parents=True)
            (release / "counter.py").write_text(source)

    def talk(self) -> Talk:
        command = [sys.executable, str(CLIENT), str(self.port)]
        client = self.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.client_pid = client.pid
        return Talk(client)

    def deploy(self, release: str) -> None:
        self.show("ln", "-sfn", f"releases/{release}", f"{self.home}/current")
        subprocess.run(["ln", "-sfn", f"releases/{release}", f"{self.home}/current"], check=True)

    def start(self) -> Outcome:
        arguments = ["run", "--directory", f"{self.home}/current", "counter.py:Counter", "--port", str(self.port)]
        arguments += ["--state", f"{self.home}/last", "--pid-file", str(self.pid_file)]
        self.show("sdsupervise", *arguments, "&")
        process = self.popen(
            [str(self.command), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        self.log = Lines(process.stdout, "service")
        self.wait_for(" serves, ", after=0)
        return Outcome(True, "ready")

    def kill_worker(self, pid: int) -> None:
        after = self.said()
        self.kill("-9", pid, signal.SIGKILL)
        self.wait_for(" serves, ", after=after)

    def reload(self, main_pid: int) -> Outcome:
        after = self.said()
        self.kill("-USR2", main_pid, signal.SIGUSR2)
        verdict = self.wait_for("eloaded: ", after=after)  # "Reloaded: …" or "Not reloaded: …"
        done = "Not reloaded" not in verdict
        return Outcome(done, "done" if done else "failed")

    def stop(self, main_pid: int) -> Outcome:
        assert self.log is not None
        self.kill("-TERM", main_pid, signal.SIGTERM)
        ended = self.log.wait_for_end(timeout_seconds=LIMIT_SECONDS)
        return Outcome(ended, "done" if ended else "failed")

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
            worker_pid=status["workers"][0]["pid"] if status["workers"] else 0,
            restarts=0,
            crashes=status["crashes"],
            sentence=status["status"].replace(str(self.home), "$D"),
        )

    def leftovers(self) -> list[str]:
        return [f"process {pid}" for pid in children() if pid != self.client_pid and not reap(pid)]

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
        self.narrator.command(" ".join(command).replace(str(self.home), "$D"))

    def said(self) -> int:
        return len(self.log.said) if self.log is not None else 0

    def wait_for(self, text: str, *, after: int) -> str:
        assert self.log is not None
        return self.log.wait_for(lambda line: text in line, after=after, timeout_seconds=LIMIT_SECONDS)
