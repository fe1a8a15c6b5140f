"""Send requests to an HTTP server at the clock's pace, and count how each of them ended.

    python3 client.py --mode close 127.0.0.1:8000

The schedule is the clock's, not the server's: a request whose time has come is sent whether or not those before it were
answered, and its latency counts from the time it was due. So a server that stands still for a second is seen to have
kept five hundred clients waiting, not one.

Every request has one end: it was answered (200, whole), or it failed, of one of these:

    refused     no connection: refused, or reset while being made
    reset       the connection ended, by whatever means, before the first byte of an answer
    short       the connection ended within the answer
    timed_out   no whole answer within the time limit
    wrong       an answer that is not 200, or that is no HTTP

One thing is no failure but counted apart: a server may close a kept-alive connection between two requests, and a
client that has just sent the next one on it sends it again on a fresh connection, which RFC 9110, 9.2.2 allows for a
GET. Such a request was `retried`, once; how that ends is how it ended. On a fresh connection nothing is ever sent
twice.

It writes a line `first TEXT` when an answer's body is one it has not had before, and when its standard input has ended,
and the last request too, one line of JSON: the fields of `Result`. It runs where the server is, which
may be a container with a network of its own: one file, the standard library alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import select
import socket
import sys
import time
from collections import deque
from typing import NamedTuple

FAILURES = ("refused", "reset", "short", "timed_out", "wrong")
NOTED_FAILURES = 50

REQUEST = "GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sdsupervise-load\r\nConnection: {mode}\r\n\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+) *\r\n", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close *\r\n", re.IGNORECASE)


class Result(NamedTuple):
    """What became of all requests; times in milliseconds."""

    mode: str
    requests: int
    answered: int
    retried: int
    closed_idle: int
    """Kept-alive connections that the server closed while no request was on them."""
    refused: int
    reset: int
    short: int
    timed_out: int
    wrong: int
    p50: float
    p99: float
    p999: float
    slowest: float
    longest_pause: float
    """The longest time between two answers."""
    pause_began: float
    """When that was, since the first request."""
    seconds: float
    """From the first request to the last one's end."""
    cpu_seconds: float
    """What the client itself took."""
    bodies: dict[str, int]
    """How many answers had this body, in the order of their first appearance."""
    failures: list[str]
    """Of the first failures: kind, when it was due since the first request, and what is known."""

    @property
    def failed(self) -> int:
        """Requests that failed, of whatever."""
        return self.refused + self.reset + self.short + self.timed_out + self.wrong


class Request:
    """One request, until it has ended."""

    __slots__ = ("connection", "due", "is_over", "is_retry")

    def __init__(self, due: float) -> None:
        self.due = due
        self.connection: Connection | None = None
        self.is_over = False
        self.is_retry = False


class Connection:
    """One TCP connection, with the request that waits for an answer on it, if any."""

    __slots__ = ("is_connected", "is_reused", "received", "request", "socket")

    def __init__(self, sock: socket.socket, request: Request) -> None:
        self.socket = sock
        self.request: Request | None = request
        self.received = b""
        self.is_connected = False
        self.is_reused = False

    @property
    def is_open(self) -> bool:
        """We have not closed it."""
        return self.socket.fileno() >= 0


class Client:
    """Sends, receives and counts; everything in one thread."""

    def __init__(self, address: tuple[str, int], mode: str, *, connections: int, limit_seconds: float) -> None:
        self.address = address
        self.mode = mode
        self.bytes_to_send = REQUEST.format(host=f"{address[0]}:{address[1]}", mode=mode).encode()
        self.keeps_at_most = connections if mode == "keep-alive" else 0
        self.limit_seconds = limit_seconds
        self.poller = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.idle: deque[Connection] = deque()
        self.by_time: deque[Request] = deque()
        """Requests in the order they were due, at least those whose time is not up."""
        self.pending = 0
        self.latencies: list[float] = []
        self.bodies: dict[str, int] = {}
        self.counts = dict.fromkeys(("retried", "closed_idle", *FAILURES), 0)
        self.failures: list[str] = []
        self.began = self.ended = self.last_answer = self.longest_pause = self.pause_began = 0.0

    def run(self, rate: float, total: int | None) -> Result:
        """Send so many requests per second until there were `total`, or else until standard input ends."""
        self.began = self.last_answer = now = time.monotonic()
        sent = 0
        if total is None:
            self.poller.register(0, select.EPOLLIN)
        while sent != total or self.pending:
            while sent != total and (due := self.began + sent / rate) <= now:
                sent += 1
                self.pending += 1
                request = Request(due)
                self.by_time.append(request)
                self.send(request)
            wake_ups = [self.by_time[0].due + self.limit_seconds] if self.by_time else []
            if sent != total:
                wake_ups.append(self.began + sent / rate)
            # epoll alone would wait for whole milliseconds, of which there are two from one request to the next.
            select.select([self.poller], [], [], max(0.0, min(wake_ups, default=now) - time.monotonic()))
            for fd, events in self.poller.poll(0):
                if fd == 0:
                    self.poller.unregister(0)
                    total = sent
                elif (connection := self.connections.get(fd)) is not None:
                    self.handle(connection, events)
            now = time.monotonic()
            self.expire(now)
        self.ended = time.monotonic()
        for connection in list(self.connections.values()):
            self.close(connection)
        return self.result(sent)

    # Sending

    def send(self, request: Request) -> None:
        """Send on a kept connection, the one that was idle for longest, or on a fresh one."""
        if not self.idle:
            self.send_on_a_fresh_one(request)
            return
        connection = self.idle.popleft()
        connection.is_reused = True
        connection.request = request
        request.connection = connection
        self.put(connection)

    def send_on_a_fresh_one(self, request: Request) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        connection = Connection(sock, request)
        request.connection = connection
        try:
            sock.connect(self.address)
        except BlockingIOError:
            interest = select.EPOLLIN | select.EPOLLOUT
        except OSError as error:
            sock.close()
            self.fail(request, "refused", os.strerror(error.errno or 0))
            return
        else:
            interest = select.EPOLLIN
            connection.is_connected = True
        self.connections[sock.fileno()] = connection
        self.poller.register(sock.fileno(), interest)
        if connection.is_connected:
            self.put(connection)

    def put(self, connection: Connection) -> None:
        """Write the request; it is far smaller than any socket's buffer."""
        try:
            connection.socket.send(self.bytes_to_send)
        except OSError as error:
            self.lost(connection, os.strerror(error.errno or 0))

    # Receiving

    def handle(self, connection: Connection, events: int) -> None:
        """Go on with a connection that something has happened to."""
        if not connection.is_connected:
            errno = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if errno:
                request = connection.request
                self.close(connection)
                assert request is not None
                self.fail(request, "refused", os.strerror(errno))
                return
            connection.is_connected = True
            self.poller.modify(connection.socket.fileno(), select.EPOLLIN)
            self.put(connection)
        elif events & ~select.EPOLLOUT:
            self.receive(connection)

    def receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.lost(connection, os.strerror(error.errno or 0))
            return
        if not data:
            self.lost(connection, "end of file")
        elif connection.request is None:
            self.lost(connection, "bytes nobody had asked for")
        else:
            connection.received += data
            self.look(connection, at_end=False)

    def look(self, connection: Connection, *, at_end: bool) -> None:
        """See whether the answer is whole."""
        request, received = connection.request, connection.received
        assert request is not None
        head_ends = received.find(b"\r\n\r\n")
        if head_ends < 0:
            return
        head, body = received[: head_ends + 2], received[head_ends + 4 :]
        if not head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
            self.close(connection)
            self.fail(request, "wrong", head.partition(b"\r\n")[0].decode(errors="replace"))
            return
        length = CONTENT_LENGTH.search(head)
        if length is None and not CLOSE.search(head):
            self.close(connection)
            self.fail(request, "wrong", "an answer of unknown length")
        elif length and len(body) > int(length[1]):
            self.close(connection)
            self.fail(request, "wrong", f"{len(body)} bytes instead of {int(length[1])}")
        elif (len(body) == int(length[1])) if length else at_end:
            self.answered(connection, request, body)
            if self.keeps_at_most > len(self.idle) and not at_end and not CLOSE.search(head):
                connection.received = b""
                self.idle.append(connection)
            elif self.keeps_at_most or at_end:
                self.close(connection)
            # Else the server closes: who does it first keeps the port, and a client has not that many.

    def answered(self, connection: Connection, request: Request, body: bytes) -> None:
        now = time.monotonic()
        connection.request = None
        self.over(request)
        self.latencies.append(now - request.due)
        if now - self.last_answer > self.longest_pause:
            self.longest_pause, self.pause_began = now - self.last_answer, self.last_answer
        self.last_answer = now
        text = body.decode(errors="replace").strip()
        if text not in self.bodies:
            self.bodies[text] = 0
            print(f"first {text}", flush=True)
        self.bodies[text] += 1

    # Ends

    def lost(self, connection: Connection, reason: str) -> None:
        """A connection has ended: between two requests, before an answer, within one, or at the end of one."""
        request = connection.request
        if request is not None and connection.received:
            self.look(connection, at_end=True)
            request = connection.request
        self.close(connection)
        if request is None:
            if connection in self.idle:
                self.idle.remove(connection)
                self.counts["closed_idle"] += 1
        elif request.is_over:
            pass  # an answer that was wrong
        elif connection.received:
            self.fail(request, "short", f"{reason} after {len(connection.received)} bytes")
        elif connection.is_reused and not request.is_retry:
            request.is_retry = True
            self.counts["retried"] += 1
            self.send_on_a_fresh_one(request)
        else:
            self.fail(request, "reset", f"{reason}{', retried' if request.is_retry else ''}")

    def expire(self, now: float) -> None:
        """Give up requests whose time is up, and the connections that a server does not close."""
        while self.by_time:
            request, connection = self.by_time[0], self.by_time[0].connection
            # In mode close an answered request's connection lingers until the server has closed it.
            lingers = not self.keeps_at_most and connection is not None and connection.is_open
            if request.due + self.limit_seconds > now and (lingers or not request.is_over):
                return
            self.by_time.popleft()
            if connection is not None and (lingers or not request.is_over):
                self.close(connection)
            if not request.is_over:
                self.fail(request, "timed_out", f"no whole answer in {self.limit_seconds:g} s")

    def fail(self, request: Request, kind: str, reason: str) -> None:
        self.over(request)
        self.counts[kind] += 1
        if len(self.failures) < NOTED_FAILURES:
            self.failures.append(f"{kind} at {request.due - self.began:.3f} s: {reason}")

    def over(self, request: Request) -> None:
        request.is_over = True
        self.pending -= 1

    def close(self, connection: Connection) -> None:
        """Close it, if it is not closed."""
        self.connections.pop(connection.socket.fileno(), None)
        connection.socket.close()  # which takes it out of the poller

    def result(self, sent: int) -> Result:
        ordered = sorted(self.latencies) or [0.0]

        def percentile(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)

        return Result(
            mode=self.mode,
            requests=sent,
            answered=len(self.latencies),
            **self.counts,
            p50=percentile(0.5),
            p99=percentile(0.99),
            p999=percentile(0.999),
            slowest=percentile(1),
            longest_pause=round(self.longest_pause * 1000, 3),
            pause_began=round((self.pause_began - self.began) * 1000, 3),
            seconds=round(self.ended - self.began, 3),
            cpu_seconds=round(time.process_time(), 3),
            bodies=self.bodies,
            failures=self.failures,
        )


def main() -> int:
    """Run it; 0 however many requests failed."""
    parser = argparse.ArgumentParser(description="Send HTTP requests at the clock's pace until standard input ends.")
    parser.add_argument("address", metavar="IPV4:PORT")
    parser.add_argument("--mode", choices=("close", "keep-alive"), default="close")
    parser.add_argument("--rate", type=float, default=500, help="requests per second (default 500)")
    parser.add_argument("--requests", type=int, metavar="N", help="end after N instead of with standard input")
    parser.add_argument("--connections", type=int, default=16, help="how many to keep alive (default 16)")
    parser.add_argument("--limit", type=float, default=10, metavar="SECONDS", help="for an answer (default 10)")
    parsed = parser.parse_args()
    host, _, port = parsed.address.rpartition(":")
    client = Client((host, int(port)), parsed.mode, connections=parsed.connections, limit_seconds=parsed.limit)
    gc.disable()  # nothing here makes cycles, and a collection would be seen as the server's pause
    print(json.dumps(client.run(parsed.rate, parsed.requests)._asdict()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
