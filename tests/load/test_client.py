"""The client counts what happened, exactly: each test is served by a server that misbehaves to a script."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.load import client
from tests.load.client import FAILURES, Client, Result

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n%b\r\nrelease 1\n"
LIMIT_SECONDS = 30


class Misbehaving:
    """Answers properly, but for what the script says: in its order, each part as soon as there is a request for it.

    A part like `fresh: reset` is for the first request on a connection, `reused: close` for a later one; the client
    decides which there are, and a slow machine may make it open more connections than a fast one.
    """

    def __init__(self, script: list[str]) -> None:
        self.script = script
        self.lock = threading.Lock()
        self.connections = 0
        self.held: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            which = "fresh"
            while request := connection.recv(4096):
                what = self.next_part(which)
                if not self.answer(connection, what, b"Connection: close" in request):
                    return
                which = "reused"

    def next_part(self, which: str) -> str:
        """What to do with a request on such a connection."""
        with self.lock:
            if self.script and self.script[0].startswith(which):
                return self.script.pop(0).partition(": ")[2]
            return "serve"

    def answer(self, connection: socket.socket, what: str, is_last: bool) -> bool:
        """Do it; whether the connection goes on."""
        match what:
            case "serve":
                connection.sendall(OK % (b"Connection: close\r\n" if is_last else b""))
                return not is_last
            case "in pieces":
                for at in range(len(answer := OK % b"")):
                    connection.sendall(answer[at : at + 1])
                return not is_last
            case "serve, then close":
                connection.sendall(OK % b"")
            case "say close":
                connection.sendall(OK % b"connection: Close\r\n")
            case "end by closing":
                connection.sendall(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nrelease 1\n")
            case "close":
                pass
            case "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case "break off":
                connection.sendall((OK % b"")[:-3])
            case "break off the head":
                connection.sendall(OK[:20])
            case "add":
                connection.sendall(OK % b"" + b"more")
            case "503":
                connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            case "babble":
                connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n\r\n")
            case "without length":
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nrelease 1\n")
            case "say nothing":
                self.held.append(connection.dup())
            case _:
                raise AssertionError(what)
        return False

    def close(self) -> None:
        # A close alone would leave the thread in accept().
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join(LIMIT_SECONDS)
        self.listener.close()
        for connection in self.held:
            connection.close()


@contextmanager
def misbehaving(*script: str) -> Iterator[Misbehaving]:
    """A server, which must have come to its script's end."""
    server = Misbehaving(list(script))
    try:
        yield server
        assert server.script == []
    finally:
        server.close()


def load(
    address: tuple[str, int], mode: str, *, requests: int = 20, rate: float = 200, limit_seconds: float = 10
) -> Result:
    """What the client counts."""
    return Client(address, mode, connections=1, limit_seconds=limit_seconds).run(rate, requests)


def ends(result: Result) -> dict[str, int]:
    """All counts that are not 0, but for those of requests and answers."""
    names = ("retried", "closed_idle", *FAILURES)
    return {name: count for name in names if (count := getattr(result, name))}


@pytest.mark.parametrize("mode", ["close", "keep-alive"])
def test_all_is_well(mode: str) -> None:
    """Every request to a server that serves is answered, and only counted as that, however its answer comes."""
    with misbehaving("fresh: in pieces") as server:
        result = load(server.address, mode)
    assert (result.requests, result.answered, result.failed) == (20, 20, 0)
    assert ends(result) == {}
    assert result.bodies == {"release 1": 20}
    assert result.failures == []


def test_connections_are_kept() -> None:
    """In mode keep-alive a connection serves request after request; in mode close each has its own."""
    with misbehaving() as server:
        load(server.address, "close")
    assert server.connections == 20
    with misbehaving() as server:
        load(server.address, "keep-alive", rate=50)
    assert server.connections < 20


FAILING = {
    "close": "reset",
    "reset": "reset",
    "break off": "short",
    "break off the head": "short",
    "503": "wrong",
    "babble": "wrong",
    "without length": "wrong",
    "add": "wrong",
}


@pytest.mark.parametrize(("what", "kind"), FAILING.items())
@pytest.mark.parametrize("mode", ["close", "keep-alive"])
def test_what_fails_on_a_fresh_connection(mode: str, what: str, kind: str) -> None:
    """Each way to fail is counted as what it is, as often as it happened, and never tried again."""
    with misbehaving(f"fresh: {what}", f"fresh: {what}") as server:
        result = load(server.address, mode)
    assert ends(result) == {kind: 2}
    assert (result.failed, result.answered) == (2, 18)
    assert [failure.partition(" ")[0] for failure in result.failures] == [kind, kind]


@pytest.mark.parametrize("what", ["say close", "end by closing"])
@pytest.mark.parametrize("mode", ["close", "keep-alive"])
def test_a_server_may_say_that_it_closes(mode: str, what: str) -> None:
    """An answer that says so is the connection's last, and neither a failure nor a retry."""
    with misbehaving(*[f"fresh: {what}"] * 10) as server:
        result = load(server.address, mode)
    assert (result.answered, ends(result)) == (20, {})


@pytest.mark.parametrize("what", ["close", "reset"])
def test_a_kept_connection_that_ends_under_a_request(what: str) -> None:
    """The request is sent again, once, and counted apart; no failure."""
    with misbehaving(f"reused: {what}", f"reused: {what}") as server:
        result = load(server.address, "keep-alive", rate=100)
    assert (result.answered, ends(result)) == (20, {"retried": 2})


@pytest.mark.parametrize(("what", "kind"), FAILING.items())
def test_what_fails_when_sent_again(what: str, kind: str) -> None:
    """A second failure of one request is a failure."""
    with misbehaving("reused: close", f"fresh: {what}") as server:
        result = load(server.address, "keep-alive", rate=100)
    assert (result.answered, ends(result)) == (19, {"retried": 1, kind: 1})


def test_an_idle_connection_that_is_closed() -> None:
    """A server's close between two requests costs nothing, and is told apart from a retry; which of them it is only the
    server's speed decides."""
    with misbehaving("fresh: serve, then close") as server:
        result = load(server.address, "keep-alive", rate=10, requests=3)
    assert result.answered == 3
    assert ends(result) in ({"closed_idle": 1}, {"retried": 1})


def test_nobody_listens() -> None:
    """Every request is refused, and none sent again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        result = load(taken.getsockname(), "close")
    assert (result.answered, ends(result)) == (0, {"refused": 20})
    assert result.failures[0] == "refused at 0.000 s: Connection refused"


@pytest.mark.parametrize("mode", ["close", "keep-alive"])
def test_a_server_that_says_nothing(mode: str) -> None:
    """A request without an answer is given up at its limit, once; the others are sent in time, and served."""
    with misbehaving("fresh: say nothing") as server:
        result = load(server.address, mode, limit_seconds=2)
    assert (result.answered, ends(result)) == (19, {"timed_out": 1})


def test_a_pause_is_seen_by_all_who_had_to_wait() -> None:
    """Latency counts from when a request was due. A server that answers the first fifty only once the fiftieth has
    come, at a hundred a second, keeps each of them waiting, the first for 490 ms: a client that waits for an answer
    before it sends on would have seen one slow answer, and never come to the fiftieth."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        serving = threading.Thread(target=answer_together, args=(listener, 50, 60), daemon=True)
        serving.start()
        result = load(listener.getsockname(), "close", requests=60, rate=100)
        serving.join(LIMIT_SECONDS)
    assert (result.answered, ends(result)) == (60, {})
    assert min(result.slowest, result.longest_pause) >= 490
    assert result.p50 >= 190


def answer_together(listener: socket.socket, first: int, total: int) -> None:
    waiting = [listener.accept()[0] for _ in range(first)]
    for number in range(total):
        with waiting.pop(0) if waiting else listener.accept()[0] as connection:
            assert connection.recv(4096), number
            connection.sendall(OK % b"")


def test_it_tells_of_each_new_answer_and_ends_with_its_input() -> None:
    """Whoever runs it learns at once that another release answers, and ends it by closing its standard input: what was
    sent by then is still waited for."""
    with misbehaving() as server:
        command = [sys.executable, client.__file__, "{}:{}".format(*server.address)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == "first release 1\n"
            process.stdin.close()
            result = Result(**json.loads(process.stdout.readline()))
            assert process.wait(LIMIT_SECONDS) == 0
    assert result.requests == result.answered > 0
