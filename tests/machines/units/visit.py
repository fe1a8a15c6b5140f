"""Ask a server the same question again and again, each time on a new connection, and count the answers.

    python3 visit.py PROTOCOL ADDRESS [CALLERS]

ADDRESS is HOST:PORT or the path of a UNIX socket. It runs in the machine until its standard input ends. It writes a
line `first ANSWER` for each answer that it has not had before, and at the end one line of JSON. With CALLERS 0 it asks
until it has one answer, and writes that.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

PAUSE_SECONDS = 0.02
LIMIT_SECONDS = 30.0
SHOWN_FAILURES = 5
IMPORTING = threading.Lock()


def connection(address: str) -> socket.socket:
    """A new connection."""
    if address.startswith("/"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT_SECONDS)
        client.connect(address)
        return client
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), LIMIT_SECONDS)


def whole(client: socket.socket, end: bytes = b"") -> bytes:
    """What comes until the peer closes, or until `end`."""
    received = b""
    while not (end and received.endswith(end)):
        data = client.recv(65536)
        if not data:
            if end:
                raise ConnectionError(f"closed after {len(received)} bytes")
            break
        received += data
    return received


def ask_http(address: str) -> str:
    """The last line of GET /."""
    with connection(address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = whole(client)
    if not answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
        raise ConnectionError(f"answered {answer[:60]!r}")
    return answer.decode().rstrip().rpartition("\n")[2].strip()


def ask_fastcgi(address: str) -> str:
    """What /srv/hello/index.php prints."""
    variables = {"SCRIPT_FILENAME": "/srv/hello/index.php", "REQUEST_METHOD": "GET"}
    pairs = [(name.encode(), value.encode()) for name, value in variables.items()]
    parameters = b"".join(bytes((len(name), len(value))) + name + value for name, value in pairs)
    records = ((1, struct.pack("!HB5x", 1, 0)), (4, parameters), (4, b""), (5, b""))
    with connection(address) as client:
        client.sendall(b"".join(struct.pack("!BBHHBx", 1, kind, 1, len(body), 0) + body for kind, body in records))
        answer, printed = whole(client), b""
    while answer:
        _, kind, _, length, padding = struct.unpack_from("!BBHHB", answer)
        printed += answer[8 : 8 + length] if kind == 6 else b""
        answer = answer[8 + length + padding :]
    if b"release" not in printed:
        raise ConnectionError(f"printed {printed!r}")
    return printed.decode().rstrip().rpartition("\n")[2]


def ask_redis(address: str) -> str:
    """Its limit of clients, which is 1000 and the release."""
    with connection(address) as client:
        client.sendall(b"CONFIG GET maxclients\r\n")
        answer = whole(client, b"\r\n")
        while answer.count(b"\r\n") < 5:
            answer += whole(client, b"\r\n")
    return f"release {int(answer.split()[-1]) - 1000}"


def ask_memcached(address: str) -> str:
    """Its limit of connections, which is 1000 and the release."""
    with connection(address) as client:
        client.sendall(b"stats settings\r\n")
        answer = whole(client, b"END\r\n").decode(errors="replace")
    return f"release {int(answer.partition('maxconns ')[2].split()[0]) - 1000}"


def ask_mqtt(address: str) -> str:
    """Always the same: a connection is accepted, and a ping answered."""
    with connection(address) as client:
        client.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x1e\x00\x00")
        whole(client, b"\x20\x02\x00\x00")
        client.sendall(b"\xc0\x00")
        whole(client, b"\xd0\x00")
        client.sendall(b"\xe0\x00")
    return "release 1"


def ask_celery(address: str) -> str:
    """What a task returns."""
    with IMPORTING:
        from celery import Celery  # type: ignore[import-not-found, unused-ignore]

    app = Celery(broker=f"redis://{address}", backend=f"redis://{address}")
    return str(app.send_task("tasks.work").get(timeout=LIMIT_SECONDS))


def ask_rq(address: str) -> str:
    """What a job returns."""
    from redis import Redis  # type: ignore[import-not-found, unused-ignore]
    from rq import Queue  # type: ignore[import-not-found, unused-ignore]

    host, _, port = address.rpartition(":")
    job = Queue(connection=Redis(host, int(port))).enqueue("tasks.work")
    deadline = time.monotonic() + LIMIT_SECONDS
    while (status := job.get_status()) != "finished":
        if status == "failed" or time.monotonic() > deadline:
            raise ConnectionError(f"the job is {status}")
        time.sleep(PAUSE_SECONDS)
    job.refresh()
    return str(job.result)


PROTOCOLS: dict[str, Callable[[str], str]] = {
    "http": ask_http,
    "fastcgi": ask_fastcgi,
    "redis": ask_redis,
    "memcached": ask_memcached,
    "mqtt": ask_mqtt,
    "celery": ask_celery,
    "rq": ask_rq,
}


class Visits:
    """Several callers, and what became of their questions."""

    def __init__(self, ask: Callable[[str], str], address: str) -> None:
        self.ask, self.address = ask, address
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.answers: dict[str, int] = {}
        self.failures: list[str] = []
        self.gaps = 0  # times of failures, with answers between them
        self.in_gap = False

    def visit(self) -> None:
        """Ask until it is over."""
        while not self.over.wait(PAUSE_SECONDS):
            try:
                answer = self.ask(self.address)
            except Exception as error:
                self.failed(f"{type(error).__name__}: {error}")
            else:
                self.answered(answer)

    def answered(self, answer: str) -> None:
        """Count it."""
        with self.lock:
            self.in_gap = False
            if answer not in self.answers:
                print(f"first {answer}", flush=True)
            self.answers[answer] = self.answers.get(answer, 0) + 1

    def failed(self, why: str) -> None:
        """Count it."""
        with self.lock:
            self.gaps += not self.in_gap
            self.in_gap = True
            self.failures.append(why)

    def result(self) -> dict[str, object]:
        """What became of all questions."""
        return {
            "answers": self.answers,
            "lost": len(self.failures),
            "gaps": self.gaps,
            "failures": sorted(set(self.failures))[:SHOWN_FAILURES],
        }


def until_answered(ask: Callable[[str], str], address: str) -> str:
    """The first answer."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        try:
            return ask(address)
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)


def main() -> int:
    """0 however many questions had no answer."""
    ask, address, callers = PROTOCOLS[sys.argv[1]], sys.argv[2], int(sys.argv[3])
    if not callers:
        print(until_answered(ask, address))
        return 0
    visits = Visits(ask, address)
    threads = [threading.Thread(target=visits.visit) for _ in range(callers)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    visits.over.set()
    for thread in threads:
        thread.join()
    print(json.dumps(visits.result()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
