"""The service that is killed. A copy of this file is `service.py` of each release, beside `release.json` and marks.py.

It tells the test's hub of everything it does and waits for the hub's word before it starts and before it stops, so
that a test can make it slow or stubborn at will. Whoever of its workers is released keeps a locked file in `active` for
as long as it takes on work: one too many at a time would be seen by the last of them, whatever any supervisor believes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

from marks import Mark  # type: ignore[import-not-found]  # beside us, where we run

from sdsupervise import SupervisedDaemon
from sdsupervise.workers import worker as worker_module

RELEASE = Path(__file__).resolve().parent
PLACE = RELEASE.parents[1]
FACTS = json.loads((RELEASE / "release.json").read_text())
NUMBER = int(FACTS["number"])
HANDOVER = FACTS["settings"].get("handover", "exclusive")
ACTIVE = PLACE / "active"
PING_SECONDS = 0.1

# The two pauses on the way from a silent worker to a killed one are no settings, and too long for a thousand cases.
worker_module._TRACEBACK_SECONDS = worker_module._ABORT_SECONDS = 0.2

if FACTS["breaks"] == "import" and (PLACE / "broken").exists():
    raise ImportError("this release cannot be imported")


SUPERVISOR = os.getpid()


def leave() -> NoReturn:
    """There is no test any more, and the service has no reason to be."""
    if os.getppid() == SUPERVISOR:
        os.kill(SUPERVISOR, signal.SIGTERM)
    os._exit(0)


class Wire:
    """A connection to the hub."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.socket.connect(str(PLACE / "hub"))
        except OSError:
            leave()

    def say(self, words: str) -> None:
        with contextlib.suppress(OSError):
            self.socket.send(words.encode())

    def hear(self) -> str:
        try:
            words = self.socket.recv(1000).decode()
        except ConnectionError:
            words = ""
        if not words:
            leave()
        return words

    def wait_for(self, wanted: str) -> None:
        while self.hear() != wanted:
            pass


def write(line: str, more: str = "") -> None:
    """Append a line to the log in one piece: the order of the lines is the order of the events."""
    log = os.open(PLACE / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(log, f"{line} release={NUMBER} worker={os.getpid()} supervisor={os.getppid()}{more}\n".encode())
    os.close(log)


def answer(listener: socket.socket) -> None:
    """Tell a client our number, if no other worker does."""
    listener.setblocking(False)
    with contextlib.suppress(OSError):
        client, _ = listener.accept()
        with client:
            client.sendall(str(NUMBER).encode())


class Probe(SupervisedDaemon):
    """Answers the hub's questions with the number of its release."""

    can_do_hot_reload = True
    wire: Wire | None = None
    mark: Mark | None = None

    def __init__(self) -> None:
        super().__init__(**FACTS["settings"])
        wire = Wire()
        wire.say(f"supervisor {NUMBER}")
        wire.wait_for("go")
        wire.socket.close()

    def supervised_process(self) -> None:
        self.wire = Wire()
        self.wire.say(f"worker {NUMBER} {os.getppid()}")
        self.ping_supervisor()  # from now on a silence is noticed
        self.wire.wait_for("start")
        if FACTS["breaks"] == "start" and (PLACE / "broken").exists():
            raise RuntimeError("this release breaks when it starts")
        if FACTS["breaks"] == "promise":
            self.begin()  # without asking: for the test of the test
        if FACTS["breaks"] == "early":
            self.supervisor_pipe.sendall(b"takeover\n")  # so that it is in the pipe when the hub hears "ready"
        self.wire.say("ready")
        self.ready_to_take_over()
        self.begin()
        if FACTS["breaks"] == "serve" and (PLACE / "broken").exists():
            raise RuntimeError("this release breaks when it serves")
        self.serve(self.wire)

    def begin(self) -> None:
        if self.mark is not None:
            return
        self.mark = Mark(ACTIVE, str(os.getppid()), self.worker_index, HANDOVER)
        too_many = self.mark.find_too_many()
        if too_many:
            write("VIOLATION", f" beside={','.join(map(str, too_many))}")
        write("BEGIN")
        assert self.wire is not None
        self.wire.say("begin")

    def serve(self, wire: Wire) -> None:
        next_ping = 0.0
        while True:
            left = next_ping - time.monotonic()
            ready = select.select([wire.socket, *self.sockets.values()], [], [], left)[0] if left > 0 else []
            if wire.socket in ready:
                word, _, number = wire.hear().partition(" ")
                if word == "ask":
                    wire.say(f"answer {number} {NUMBER}")
            for listener in self.sockets.values():
                if listener in ready:
                    answer(listener)
            if next_ping <= time.monotonic():
                self.ping_supervisor()
                next_ping = time.monotonic() + PING_SECONDS

    def supervised_shutdown(self) -> None:
        if self.mark is not None and HANDOVER == "overlap":
            self.mark.remove()  # from here on it takes on nothing new
        if self.wire is not None:
            self.wire.say("stopping")
            self.wire.wait_for("stop")
        if self.mark is not None:
            write("END")
            self.mark.remove()
            self.mark = None


if __name__ == "__main__":
    sys.exit(Probe().run())
