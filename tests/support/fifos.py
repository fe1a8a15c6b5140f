"""How a test and a process in a machine wait for each other, without either looking now and then."""

from __future__ import annotations

import os
import select
from pathlib import Path

from tests.support import breakpoints
from tests.support.machine import Machine

LIMIT_SECONDS = 20.0


class Fifo:
    """Lets a process wait for us, and us for it, without either looking now and then."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.path = f"/exchange/{name}"
        self._place = machine.exchange / name
        os.mkfifo(self._place)
        self._place.chmod(0o666)
        # Open for both, so that no open of ours ever waits for the other side.
        self._fd = os.open(self._place, os.O_RDWR | os.O_NONBLOCK)

    def read(self, *, timeout_seconds: float = LIMIT_SECONDS) -> str:
        """What somebody writes, as soon as something is there."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        assert poller.poll(timeout_seconds * 1000), f"Nobody wrote to {self.path} in {timeout_seconds:g} s."
        return os.read(self._fd, 65536).decode()

    def write(self, text: str) -> None:
        """Leave something for a reader, who may come later."""
        os.write(self._fd, text.encode())

    def close(self) -> None:
        """Readers find its end, and the path is gone."""
        os.close(self._fd)
        self._place.unlink()


class Gate:
    """Where a breakpoint holds a supervisor (tests/support/breakpoints)."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._directory: Path = machine.exchange / name
        self._directory.mkdir()
        self._directory.chmod(0o755)
        breakpoints.inject_into(self._directory)
        self._reached, self._go = (self._make(fifo) for fifo in ("reached", "go"))
        self._is_open = False
        self.pid = 0

    def _make(self, name: str) -> int:
        os.mkfifo(self._directory / name)
        (self._directory / name).chmod(0o666)
        return os.open(self._directory / name, os.O_RDWR | os.O_NONBLOCK)

    def setting(self, transition: str, effect: int = 0) -> str:
        """The unit's setting that sets the breakpoint."""
        there = f"/exchange/{self._directory.name}"
        return breakpoints.setting(f"{transition}/{effect}:{there}", there)

    def wait_until_reached(self, *, timeout_seconds: float = LIMIT_SECONDS) -> int:
        """Wait until a supervisor is held; its pid."""
        poller = select.poll()
        poller.register(self._reached, select.POLLIN)
        assert poller.poll(timeout_seconds * 1000), f"No supervisor reached the breakpoint in {timeout_seconds:g} s."
        return int(os.read(self._reached, 64))

    def open(self) -> None:
        """Let it go on, if it is still there. Whoever comes later passes."""
        if not self._is_open:
            self._is_open = True
            (self._directory / "end").touch()
            (self._directory / "end").replace(self._directory / "go")
            os.close(self._go)

    def close(self) -> None:
        """Open it, and give the descriptors back."""
        self.open()
        os.close(self._reached)
