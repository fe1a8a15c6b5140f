"""What systemd may hear of a supervisor, and until when."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdsupervise.linux.event_loop import EventLoop
from sdsupervise.systemd import reporter
from sdsupervise.systemd.notify import Notifier


@pytest.fixture
def notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """$NOTIFY_SOCKET, at its reading end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind(str(tmp_path / "notify"))
        reader.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield reader


def read_all(reader: socket.socket) -> list[str]:
    found = []
    try:
        while True:
            data, fds, _, _ = socket.recv_fds(reader, 4096, 8)
            found.append(data.decode())
            for fd in fds:
                os.close(fd)
    except BlockingIOError:
        return found


def test_no_more_time_is_asked_for_after_the_main_pid(
    notifications: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd refuses messages of the predecessor from then on, and logs each that it refuses."""
    monkeypatch.setattr(reporter, "_EXTEND_EVERY_SECONDS", 0.001)
    loop = EventLoop()
    reports = reporter.Reporter(loop, Notifier())
    reports.become_main(systemd_believes="ready")
    reports.report("reloading", "Generation 1 serves, generation 2 is starting")
    loop.call_later(0.02, loop.stop)
    loop.run()
    before = read_all(notifications)
    assert any("EXTEND_TIMEOUT_USEC=" in text for text in before[2:])  # again and again
    reports.name_main_pid(os.getpid(), "Generation 2 serves", on_processed=lambda: None)
    loop.call_later(0.02, loop.stop)
    loop.run()
    after = read_all(notifications)
    assert "MAINPID=" in after[0]
    assert not [text for text in after if "EXTEND_TIMEOUT_USEC=" in text]
    reports.forget_barrier()
    loop.close()
