"""Writing without waiting, to whatever standard error may be; each against the real kernel."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import socket
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sdsupervise.linux.backlog import Backlog
from sdsupervise.linux.outlet import ATOMIC_BYTES, outlet

_NOBODY = 65534
LINE = b"x" * 99 + b"\n"


class Ends:
    """Where a test reads, and where what is tested writes."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader, self.writer = reader, writer
        os.set_blocking(reader, False)

    def read(self) -> bytes:
        data = b""
        with contextlib.suppress(BlockingIOError):
            while some := os.read(self.reader, 65536):
                data += some
        return data


def a_pipe() -> Ends:
    return Ends(*os.pipe())


def a_stream() -> Ends:
    ours, theirs = socket.socketpair()
    return Ends(ours.detach(), theirs.detach())


def a_terminal() -> Ends:
    master, slave = pty.openpty()
    tty.setraw(slave)
    return Ends(master, slave)


@pytest.fixture(params=[a_pipe, a_stream, a_terminal], ids=["pipe", "stream", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Of a pipe, a socket or a terminal."""
    make: Callable[[], Ends] = request.param
    ends = make()
    yield ends
    os.close(ends.reader)
    os.close(ends.writer)


@pytest.mark.parametrize("user", [0, _NOBODY], ids=["ours", "of another user"])
def test_nobody_reads(ends: Ends, user: int) -> None:
    """It is written to until it is full, then BlockingIOError; nothing is lost, or waited for; when it was read there
    is room again. It stays blocking for all others."""
    if user and os.geteuid() != 0:
        pytest.skip("only root can be another user")
    os.seteuid(user or os.geteuid())
    try:
        out = outlet(ends.writer)
        written = 0
        for _ in range(3):
            while True:
                try:
                    written += out.write((LINE * 40)[written % 100 :])
                except BlockingIOError:
                    break
            assert written > ATOMIC_BYTES
            data = ends.read()
            assert data == (LINE * (written // 100 + 2))[: len(data)] and len(data) == written
            written = 0
        assert not fcntl.fcntl(ends.writer, fcntl.F_GETFL) & os.O_NONBLOCK
        out.close()
    finally:
        os.seteuid(os.getuid())


def test_nobody_can_read() -> None:
    """The other end is closed: an OSError that says so, not one to wait for."""
    reader, writer = os.pipe()
    out = outlet(writer)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        out.write(LINE)
    out.close()
    os.close(writer)


@pytest.mark.parametrize("name", ["/dev/null", "file"])
def test_what_is_never_full(tmp_path: Path, name: str) -> None:
    """A file gets it at its end, wherever others write meanwhile."""
    fd = os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    out = outlet(fd)
    assert out.write(LINE) == 100
    os.write(fd, LINE)
    assert out.write(LINE) == 100
    out.close()
    os.close(fd)
    assert name == "/dev/null" or (tmp_path / name).read_bytes() == LINE * 3


def test_a_file_that_is_not_appended_to(tmp_path: Path) -> None:
    """It shares its place with all who write there."""
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    out = outlet(fd)
    for _ in range(2):
        out.write(b"ours\n")
        os.write(fd, b"theirs\n")
    out.close()
    os.close(fd)
    assert (tmp_path / "file").read_text() == "ours\ntheirs\n" * 2


# ----------------------------------------------------------------------------------------------------------- backlog


class Reader:
    """Takes so many bytes of what comes, and no more."""

    def __init__(self) -> None:
        self.room = 0
        self.got = b""

    def send(self, packet: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        taken = min(self.room, len(packet))
        self.room -= taken
        self.got += packet[:taken]
        return taken


def test_order_and_number() -> None:
    """What waits goes out in its order, whole, and then how many lines came while there was no room."""
    reader = Reader()
    backlog = Backlog(send=reader.send, fileno=lambda: -1, notice=lambda lines: b"(%d)" % lines)
    for number in range(1000):
        backlog.add(b"%098d\n" % number)
    backlog.add(b"a\nb\n", lines=2)
    assert backlog
    while backlog:
        reader.room = 33
        backlog.flush()
    text, _, dropped = reader.got.rstrip(b")").rpartition(b"(")
    kept = text.split()
    assert [int(line) for line in kept] == list(range(len(kept)))
    assert len(kept) > 500 and int(dropped) + len(kept) == 1002
    reader.room = 1000
    backlog.add(b"more\n")
    assert reader.got.endswith(b")more\n")


def test_a_reader_that_is_gone() -> None:
    """What nobody can read any more is not kept."""

    def send(packet: bytes) -> int:
        raise BrokenPipeError

    backlog = Backlog(send=send, fileno=lambda: -1, notice=lambda lines: b"")
    for _ in range(10):
        backlog.add(b"x")
    assert not backlog
