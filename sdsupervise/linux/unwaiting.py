"""Standard output and error of a supervisor, which must never block on their reader.

Otherwise a pipe that no process reads would keep the supervisor from answering clients, replacing workers and stopping.
Python writes to these streams in many places: log records, warnings, tracebacks of callbacks and threads, prints of the
service's module that the supervisor has imported. So the streams in `sys` are replaced. A worker has its own.
"""

import io
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO, TextIO, cast

from .backlog import Backlog, WritableLoop
from .outlet import ATOMIC_BYTES, Outlet, outlet, takes_more
from .unpatched import os

_NAMES = {1: "standard output", 2: "standard error"}


class Unwaiting(io.RawIOBase):
    """A stream to a descriptor that never blocks. In a worker it writes as any other stream."""

    def __init__(self, fd: int, notice: Callable[[int], bytes]) -> None:
        """`notice` returns the message for a number of dropped lines."""
        self._fd, self._pid, self._waits = fd, os.getpid(), False
        self._leads_to = _identity(fd)
        self._outlet: Outlet | None = outlet(fd)
        self.backlog = Backlog(send=self._send, fileno=lambda: self._current().fileno(), notice=notice)

    def fileno(self) -> int:
        """See io.RawIOBase: the descriptor itself."""
        return self._fd

    def isatty(self) -> bool:
        """See io.RawIOBase."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """See io.RawIOBase. All data counts as written: it is sent now or later, or dropped."""
        data = bytes(data)
        if self._pid != os.getpid():
            self.close_in_child()
        if self._waits:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            return len(data)
        for packet in _packets(data):
            self.backlog.add(packet, lines=packet.count(b"\n") or 1)
        return len(data)

    def follow(self) -> None:
        """Use the descriptor's present destination, and close the earlier one: its reader may wait for the end."""
        self._current()

    def close_in_child(self, *, waits: bool = False) -> None:
        """In a forked child, drop the parent's unsent data and close its descriptors."""
        self._pid, self._waits = os.getpid(), waits
        self.backlog.forget()
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None

    def _send(self, packet: bytes) -> int:
        return self._current().write(packet)

    def _current(self) -> Outlet:
        """Return an outlet to the descriptor's present destination, which changes when a daemon leaves its terminal."""
        leads_to = _identity(self._fd)
        if self._outlet is None or leads_to != self._leads_to:
            self.backlog.unwatch()
            if self._outlet is not None:
                self._outlet.close()
            self._outlet, self._leads_to = outlet(self._fd), leads_to
        return self._outlet


def _identity(fd: int) -> tuple[int, int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_rdev


def _packets(data: bytes) -> Iterator[bytes]:
    """Yield whole lines, at most as many as a pipe takes at once."""
    while len(data) > ATOMIC_BYTES:
        end = data.rfind(b"\n", 0, ATOMIC_BYTES) + 1 or ATOMIC_BYTES
        yield data[:end]
        data = data[end:]
    if data:
        yield data


class Streams:
    """Standard output and error, which this replaces in `sys`."""

    def __init__(self, notice: Callable[[str, int], bytes]) -> None:
        """`notice` gets a stream's name and a number of dropped lines, and returns the message."""
        self._raw = {fd: Unwaiting(fd, _of(notice, name)) for fd, name in _NAMES.items()}
        text = {fd: _as_text(raw) for fd, raw in self._raw.items()}
        self.error: TextIO = text[2]
        self._replaced: list[tuple[str, io.TextIOWrapper, TextIO]] = []
        for fd, name in ((1, "stdout"), (2, "stderr")):
            own = getattr(sys, name)
            if own is None or own is not getattr(sys, f"__{name}__"):
                continue  # the service has replaced it
            text[fd].reconfigure(encoding=own.encoding, errors=own.errors)
            setattr(sys, name, text[fd])
            # If the stream's buffer could not be flushed now, we would block, or each worker would, behind a thread
            # that does.
            if takes_more(fd):
                own.reconfigure(line_buffering=True)
                self._replaced.append((name, own, text[fd]))

    @property
    def backlogs(self) -> list[Backlog]:
        """The backlog of each stream."""
        return [raw.backlog for raw in self._raw.values()]

    def attach(self, loop: WritableLoop) -> None:
        """Use this loop to send what waits when there is room."""
        for backlog in self.backlogs:
            backlog.attach(loop)

    def follow(self) -> None:
        """Use the present destinations of the descriptors."""
        for raw in self._raw.values():
            raw.follow()

    def pass_on(self, data: bytes) -> None:
        """Write to standard error what another process has written."""
        self._raw[2].write(data)

    def close_in_child(self) -> None:
        """In a forked child, close its copies."""
        for raw in self._raw.values():
            raw.close_in_child()

    def become_workers(self) -> None:
        """In a worker, let every write block, because all output is the service's and none may be lost."""
        for raw in self._raw.values():
            raw.close_in_child(waits=True)
        for name, own, ours in self._replaced:
            if getattr(sys, name) is ours:
                setattr(sys, name, own)


def _as_text(raw: Unwaiting) -> io.TextIOWrapper:
    return io.TextIOWrapper(cast(BinaryIO, raw), "utf-8", "backslashreplace", line_buffering=True)


def _of(notice: Callable[[str, int], bytes], name: str) -> Callable[[int], bytes]:
    return lambda lines: notice(name, lines)
