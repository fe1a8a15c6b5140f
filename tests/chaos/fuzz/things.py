"""Descriptors of all kinds, to be sent where one of a certain kind is wanted, and processes to speak of."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence


def _pipe(end: int) -> int:
    ends = os.pipe()
    os.close(ends[1 - end])
    return ends[end]


def _socket(family: int, kind: int, listens: bool = False) -> int:
    made = socket.socket(family, kind)
    if listens:
        made.bind(("127.0.0.1", 0) if family == socket.AF_INET else "")
        made.listen(1)
    return made.detach()


def _end(kind: int) -> int:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    other.close()
    return one.detach()


def _memfd(flags: int = 0) -> int:
    fd = os.memfd_create("thing", os.MFD_CLOEXEC)
    if not flags:
        return fd
    try:
        return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)
    finally:
        os.close(fd)


class Crowd:
    """A process that others are said to be, and one that is dead."""

    def __init__(self) -> None:
        self._living = subprocess.Popen(["sleep", "infinity"])
        self._dead = subprocess.Popen(["true"])
        self.dead_pidfd = os.pidfd_open(self._dead.pid)
        self._dead.wait()
        self.pid, self.dead_pid = self._living.pid, self._dead.pid

    def alive(self) -> int:
        """The pid of the living one, which is made anew if it was killed."""
        if self._living.poll() is not None:
            self._living = subprocess.Popen(["sleep", "infinity"])
            self.pid = self._living.pid
        return self.pid

    def close(self) -> None:
        """End it."""
        self._living.send_signal(signal.SIGKILL)
        self._living.wait()
        os.close(self.dead_pidfd)

    @property
    def makers(self) -> Mapping[str, Callable[[], int]]:
        """How to open a thing of each kind."""
        return {
            "pidfd": lambda: os.pidfd_open(self.alive()),
            "own pidfd": lambda: os.pidfd_open(os.getpid()),
            "dead pidfd": lambda: os.dup(self.dead_pidfd),
            "pipe to read": lambda: _pipe(0),
            "pipe to write": lambda: _pipe(1),
            "connection": lambda: _end(socket.SOCK_STREAM),
            "channel": lambda: _end(socket.SOCK_SEQPACKET),
            "datagrams": lambda: _socket(socket.AF_UNIX, socket.SOCK_DGRAM),
            "unbound": lambda: _socket(socket.AF_INET, socket.SOCK_STREAM),
            "listener": lambda: _socket(socket.AF_INET, socket.SOCK_STREAM, listens=True),
            "control": lambda: _socket(socket.AF_UNIX, socket.SOCK_STREAM, listens=True),
            "file": _memfd,
            "place": lambda: _memfd(os.O_PATH),
            "directory": lambda: os.open("/", os.O_PATH | os.O_CLOEXEC),
            "null": lambda: os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC),
            "epoll": lambda: os.dup(_EPOLL.fileno()),
        }


_EPOLL = select.epoll()


@contextlib.contextmanager
def opened(crowd: Crowd, kinds: Sequence[str]) -> Iterator[list[int]]:
    """A thing of each of these kinds; closed here again, as whoever sends one does."""
    makers = crowd.makers
    fds: list[int] = []
    try:
        fds += [makers[kind]() for kind in kinds]
        yield fds
    finally:
        for fd in fds:
            os.close(fd)
