"""The web servers in units/example lose no request to a reload."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.demo.ground import EXAMPLE
from tests.support.harness import SDSUPERVISE, Ground
from tests.support.running import LIMIT_SECONDS, Running

CLASSES = {"web": "Web", "web_async": "WebAsync"}


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def deploy(ground: Ground, example: str, release: int) -> None:
    text = (EXAMPLE / f"{example}.py").read_text().replace("RELEASE = 1\n", f"RELEASE = {release}\n")
    # What idles here waits for the test, which a loaded machine may hold up.
    patient = text.replace("timeout = 5 ", f"timeout = {LIMIT_SECONDS} ").replace(
        "timeout(5)", f"timeout({LIMIT_SECONDS})"
    )
    assert patient != text
    ground.deploy(release, **{example: patient})


def start(ground: Ground, example: str, port: int, *options: str) -> Running:
    deploy(ground, example, 1)
    target = ground.current / f"{example}.py:{CLASSES[example]}"
    running = ground.run(
        *(SDSUPERVISE, "run", f"--listen=http=127.0.0.1:{port}", *options, target, "--pid-file", ground.pid_file)
    )
    running.expect_line("is ready")
    return running


class Client(http.client.HTTPConnection):
    """One connection."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port, timeout=LIMIT_SECONDS)

    def ask(self, **headers: str) -> tuple[str, bool]:
        """What it answers, and whether the connection ends with that."""
        self.request("GET", "/", headers=headers)
        answer = self.getresponse()
        assert answer.status == 200
        return answer.read().decode(), answer.will_close


@contextmanager
def busy(port: int) -> Iterator[None]:
    """Clients ask one request after the other meanwhile, each over a connection of its own; all are answered."""
    done = threading.Event()
    failures: list[Exception] = []

    def ask() -> None:
        while not done.is_set():
            try:
                with closing(Client(port)) as client:
                    client.ask(Connection="close")
            except Exception as failure:
                failures.append(failure)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        done.set()
        for client in clients:
            client.join()
    assert failures == []


@pytest.mark.parametrize("example", CLASSES)
def test_what_an_old_worker_accepted(ground: Ground, port: int, example: str) -> None:
    """After a reload the old worker answers the request it has half received, and one more of each connection that is
    kept open, and closes them with that; then it leaves. Whoever connects meanwhile is answered: by the old one, where
    that has not got its signal yet, or the new one; then by the new one alone."""
    running = start(ground, example, port)
    with closing(Client(port)) as kept, socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as half:
        assert kept.ask() == ("release 1\n", False)
        half.sendall(b"GET / HTTP/1.1\r\n")
        deploy(ground, example, 2)
        assert ground.reload().returncode == 0
        with closing(Client(port)) as fresh:
            assert fresh.ask() in (("release 1\n", False), ("release 1\n", True), ("release 2\n", False))
        assert kept.ask() == ("release 1\n", True)
        half.sendall(b"Host: localhost\r\n\r\n")
        answer = half.makefile("rb").read().decode()
        assert answer.startswith("HTTP/1.1 200 ") and answer.endswith("release 1\n")
    running.expect_line("release 1 stops", stream="out")
    assert running.wait() == 0
    with closing(Client(port)) as fresh:
        assert fresh.ask() == ("release 2\n", False)
    assert "Killing" not in running.err and "Traceback" not in running.err


@pytest.mark.parametrize("example", CLASSES)
def test_no_request_is_lost_to_reloads(ground: Ground, port: int, example: str) -> None:
    """Clients that ask all the time, of several workers, are all answered through several reloads."""
    start(ground, example, port, "--workers=2")
    with busy(port):
        for release in (2, 3, 4):
            deploy(ground, example, release)
            assert ground.reload().returncode == 0
    with closing(Client(port)) as client:
        assert client.ask() == ("release 4\n", False)


@pytest.mark.parametrize("example", CLASSES)
def test_stop_beside_a_client_that_says_nothing(ground: Ground, port: int, example: str) -> None:
    """A stop waits for a connection that is kept open no longer than stop_timeout allows; the worker leaves by
    itself."""
    running = start(ground, example, port, "--stop-timeout=3")
    with closing(Client(port)) as client:
        client.ask()
        running.signal(signal.SIGTERM)
        assert client.sock.recv(1) == b""
    assert running.wait() == 0
    assert running.out == "release 1 stops\n"
    assert "Killing" not in running.err
