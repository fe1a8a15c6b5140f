"""Standard output and error of a supervisor, which must never wait for whoever reads them: a pipe that nobody reads
would have it answer no caller, replace no worker and take no stop.

Python writes to them in many places: log records, warnings, tracebacks of callbacks and of threads, a service's prints
in the module that the supervisor has imported. So what stands for them in `sys` is replaced. A worker's are its own.
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
    """A descriptor, written to without waiting. In a worker it is written to as any other."""

    def __init__(self, fd: int, notice: Callable[[int], bytes]) -> None:
        """`notice` makes what is to be said when so many lines were dropped."""
        self._fd, self._pid, self._waits = fd, os.getpid(), False
        self._leads_to = _identity(fd)
        self._outlet: Outlet | None = outlet(fd)
        self.backlog = Backlog(send=self._send, fileno=lambda: self._current().fileno(), notice=notice)

    def fileno(self) -> int:
        """As io.RawIOBase: the descriptor itself."""
        return self._fd

    def isatty(self) -> bool:
        """As io.RawIOBase."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """As io.RawIOBase."""
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """As io.RawIOBase: all of it, now, later, or never."""
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
        """The descriptor may lead elsewhere now. Nothing is to keep open what it led to: somebody may wait for its
        end."""
        self._current()

    def close_in_child(self, *, waits: bool = False) -> None:
        """In a forked child: nothing is our parent's any more, neither descriptors nor what it has not sent yet."""
        self._pid, self._waits = os.getpid(), waits
        self.backlog.forget()
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None

    def _send(self, packet: bytes) -> int:
        return self._current().write(packet)

    def _current(self) -> Outlet:
        """To where the descriptor leads now: a daemon in the background is on no terminal any more."""
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
    """Whole lines, as many as a pipe takes at a time."""
    while len(data) > ATOMIC_BYTES:
        end = data.rfind(b"\n", 0, ATOMIC_BYTES) + 1 or ATOMIC_BYTES
        yield data[:end]
        data = data[end:]
    if data:
        yield data


class Streams:
    """Standard output and error, from when they are replaced."""

    def __init__(self, notice: Callable[[str, int], bytes]) -> None:
        """`notice` is given the name of a stream, and makes what is to be said when so many lines were dropped."""
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
            # Else we would wait for it, or, as would each worker, for a thread that does.
            if takes_more(fd):
                own.reconfigure(line_buffering=True)
                self._replaced.append((name, own, text[fd]))

    @property
    def backlogs(self) -> list[Backlog]:
        """What waits, of each."""
        return [raw.backlog for raw in self._raw.values()]

    def attach(self, loop: WritableLoop) -> None:
        """What waits is sent when there is room for it."""
        for backlog in self.backlogs:
            backlog.attach(loop)

    def follow(self) -> None:
        """The descriptors may lead elsewhere now."""
        for raw in self._raw.values():
            raw.follow()

    def pass_on(self, data: bytes) -> None:
        """What another process has written, to standard error."""
        self._raw[2].write(data)

    def close_in_child(self) -> None:
        """In a forked child, its copies."""
        for raw in self._raw.values():
            raw.close_in_child()

    def become_workers(self) -> None:
        """In a worker: all that is written is the service's, and none of it may be lost."""
        for raw in self._raw.values():
            raw.close_in_child(waits=True)
        for name, own, ours in self._replaced:
            if getattr(sys, name) is ours:
                setattr(sys, name, own)


def _as_text(raw: Unwaiting) -> io.TextIOWrapper:
    return io.TextIOWrapper(cast(BinaryIO, raw), "utf-8", "backslashreplace", line_buffering=True)


def _of(notice: Callable[[str, int], bytes], name: str) -> Callable[[int], bytes]:
    return lambda lines: notice(name, lines)
