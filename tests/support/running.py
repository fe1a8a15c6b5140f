"""Processes that are waited for: by their output, by their end, and never without a deadline."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from pathlib import Path

LIMIT_SECONDS = 60.0  # for any single wait: a loaded machine is slow, a broken product never gets there


class Missed(AssertionError):
    """What a test waited for did not come; the message says what came instead."""


class Deadline:
    """How much of a wait is left."""

    def __init__(self, seconds: float = LIMIT_SECONDS) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.left == 0.0


def wait_readable(fds: list[int], deadline: Deadline) -> list[int]:
    """Those that are readable or at their end; none when the deadline has passed."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return [fd for fd, _ in poller.poll(deadline.left * 1000)]


class Running:
    """One process we started, and what it and those who inherit its streams write."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid
        self.pidfd = os.pidfd_open(process.pid)
        assert process.stdout is not None and process.stderr is not None
        self._streams = {process.stdout.fileno(): "out", process.stderr.fileno(): "err"}
        self._text = {"out": b"", "err": b""}
        self._position = {"out": 0, "err": 0}
        for fd in self._streams:
            os.set_blocking(fd, False)

    @property
    def out(self) -> str:
        self._read()
        return self._text["out"].decode(errors="replace")

    @property
    def err(self) -> str:
        self._read()
        return self._text["err"].decode(errors="replace")

    def _read(self) -> None:
        for fd, name in list(self._streams.items()):
            with contextlib.suppress(BlockingIOError):
                while data := os.read(fd, 65536):
                    self._text[name] += data
                del self._streams[fd]  # the end: Popen closes it

    def expect_line(self, pattern: str, stream: str = "err") -> str:
        """The next line that matches, after the ones returned before."""
        deadline = Deadline()
        while True:
            self._read()
            text, begin = self._text[stream], self._position[stream]
            for line in text[begin : text.rfind(b"\n") + 1].splitlines(keepends=True):
                begin += len(line)
                if re.search(pattern, line.decode(errors="replace")):
                    self._position[stream] = begin
                    return line.decode(errors="replace").rstrip("\n")
            open_fds = [fd for fd, name in self._streams.items() if name == stream]
            if not open_fds or not wait_readable(open_fds, deadline):
                raise Missed(f"no line matches {pattern!r} in {stream}:\n{text.decode(errors='replace')}")

    def wait(self) -> int:
        """Its exit status, negative for a signal, once it is dead."""
        deadline = Deadline()
        while self.pidfd not in (ready := wait_readable([self.pidfd, *self._streams], deadline)):
            self._read()
            if not ready:
                raise Missed(f"pid {self.pid} is still there:\n{self.out}\n{self.err}")
        self._read()
        return self._process.wait()

    @property
    def alive(self) -> bool:
        return not wait_readable([self.pidfd], Deadline(0))

    def signal(self, number: signal.Signals) -> None:
        signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        os.close(self.pidfd)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def wait_blocked(pid: int) -> int:
    """Wait until the process's main thread blocks in the kernel; its pid. Python notes a signal that comes just before
    that, but calls its handler only when something else ends the wait."""
    deadline = Deadline()
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "S":
        if deadline.passed:
            raise Missed(f"pid {pid} does not come to rest")
        os.sched_yield()
    return pid


def wait_gone(pid: int, deadline: Deadline | None = None) -> None:
    """Wait until a process has ended (it may be a zombie then)."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not wait_readable([pidfd], deadline or Deadline()):
            raise Missed(f"pid {pid} is still there")
    finally:
        os.close(pidfd)
