"""The sockets a service keeps: opened, handed on by reloads, given back."""

from __future__ import annotations

import itertools
import os
import socket

import pytest

from tests.service.harness import SDSUPERVISE, Ground, service
from tests.service.running import LIMIT_SECONDS

# Answers every connection with its release, the listener's name and its own pid.
_ECHO = """
    def serve(self):
        poller = select.poll()
        by_fd = {listener.fileno(): (name, listener) for name, listener in self.sockets.items()}
        for fd in by_fd:
            poller.register(fd, select.POLLIN)
        while True:
            for fd, _ in poller.poll():
                name, listener = by_fd[fd]
                client, _ = listener.accept()
                with client:
                    client.sendall(f"{self.release} {name} {os.getpid()}".encode())
"""

_ports = itertools.count(20000)


def echo(listen: object = None, body: str = "") -> str:
    """A service that listens there and tells every client who answers."""
    return service(f"listen = {listen or {}!r}\n{body}", before="import select").replace(
        "    release =", _ECHO.replace("\n    ", "\n    ") + "    release =", 1
    )


@pytest.fixture
def host() -> str:
    """A loopback address of this process's own: no other test run has its ports."""
    pid = os.getpid()
    return f"127.{pid >> 16 & 127 | 64}.{pid >> 8 & 255}.{pid & 255 or 1}"


@pytest.fixture
def port() -> int:
    """A port no other test of this process uses."""
    return next(_ports)


def connect(address: object) -> socket.socket:
    """A connection to (host, port), a path, or an abstract name; raises what the kernel says."""
    families = (
        {tuple: socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET} if isinstance(address, tuple) else {}
    )
    client = socket.socket(families.get(type(address), socket.AF_UNIX))
    client.settimeout(LIMIT_SECONDS)
    try:
        client.connect(address)  # type: ignore[arg-type]
    except BaseException:
        client.close()
        raise
    return client


def ask(address: object) -> list[str]:
    """What the service answers: its release, the listener's name, the worker's pid."""
    with connect(address) as client:
        return b"".join(iter(lambda: client.recv(4096), b"")).decode().split()


def refused(address: object) -> bool:
    """Nobody listens there."""
    try:
        connect(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


def test_all_kinds_of_addresses(ground: Ground, host: str, port: int) -> None:
    """TCP over IPv4 and IPv6, a port alone, a UNIX socket with a file and an abstract one: the service gets each under
    its name, and status shows them."""
    pid = os.getpid()
    path = ground.directory / "app.sock"
    wild = 10000 + pid % 10000
    listen = {
        "four": f"{host}:{port}",
        "six": f"[::1]:{wild}",
        "port": str(wild + 10000),
        "file": str(path),
        "name": f"@sds{pid}",
    }
    ground.deploy(1, echo(listen))
    ground.serving()
    addresses = {
        "four": (host, port),
        "six": ("::1", wild),
        "port": ("::1", wild + 10000),
        "file": str(path),
        "name": f"\0sds{pid}",
    }
    worker = str(ground.worker_pids()[0])
    for name, address in addresses.items():
        assert ask(address) == ["1", name, worker]
    assert ask((host, wild + 10000)) == ["1", "port", worker]
    shown = {**listen, "port": f"[::]:{wild + 10000}"}
    assert ground.status()["sockets"] == [
        {"name": name, "address": address, "from": "sdsupervise"} for name, address in shown.items()
    ]
    text = ground.finish(ground.run(SDSUPERVISE, "status", "--pid-file", ground.pid_file)).stdout
    assert f"  socket     four   {host}:{port}\n" in text


def test_reload_adds_and_removes(ground: Ground, host: str, port: int) -> None:
    """A reload opens what is new, keeps what stays, and closes what is no longer listed, its file with it."""
    gone, kept, new = ground.directory / "gone", (host, port), ground.directory / "new"
    ground.deploy(1, echo({"a": f"{host}:{port}", "b": str(gone)}))
    ground.serving()
    assert ask(kept)[:2] == ["1", "a"] and ask(str(gone))[:2] == ["1", "b"]
    ground.deploy(2, echo({"a": f"{host}:{port}", "c": str(new)}))
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    assert ask(kept)[:2] == ["2", "a"] and ask(str(new))[:2] == ["2", "c"]
    assert refused(str(gone)) and not gone.exists()
