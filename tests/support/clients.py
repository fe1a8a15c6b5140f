"""A service that answers on its listeners, and clients in its machine that ask again and again."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple

from tests.support.fifos import LIMIT_SECONDS
from tests.support.machine import Machine
from tests.support.trial import source

# Threads, so that the rest of the service goes on as it does without listeners.
_ANSWER = """
def answer(name, listener):
    while True:
        client, _ = listener.accept()
        with client:
            client.sendall(f"{RELEASE} {name} {os.getpid()}".encode())
"""
_SERVE = """
for name, listener in self.sockets.items():
    threading.Thread(target=answer, args=(name, listener), daemon=True).start()
"""

# Says every answer that differs from the one before, until there is something on its standard input; then what it
# met with. Refused is who finds nobody listening; cut off, who was accepted by a process that was killed.
_CLIENT = """
import json, select, socket, sys
address = json.loads(sys.argv[1])
family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
met, last = {"answered": 0, "refused": 0, "cut off": 0}, ""
while not select.select([sys.stdin], [], [], 0.001)[0]:
    try:
        with socket.socket(family) as connection:
            connection.connect(address if isinstance(address, str) else tuple(address))
            if not last:
                print("connected", flush=True)
                last = "nothing"
            answer = connection.recv(1000).decode()
    except (ConnectionRefusedError, FileNotFoundError):
        met["refused"] += 1
        continue
    except ConnectionError:
        answer = ""
    met["answered" if answer else "cut off"] += 1
    if answer and answer != last:
        print(answer, flush=True)
        last = answer
print(json.dumps(met), flush=True)
"""


def listening(release: str | int, listen: Mapping[str, object], **statements: str) -> str:
    """A release that answers on these listeners, or on those that systemd gives it."""
    return source(release, top=_ANSWER, listen=listen, serve=_SERVE, **statements)


class Answer(NamedTuple):
    """Of the service."""

    release: str
    name: str
    pid: str


class Client:
    """Connects to one address of the machine again and again while this is open."""

    def __init__(self, machine: Machine, address: str | tuple[str, int]) -> None:
        self._process = machine.popen("python3", "-c", _CLIENT, json.dumps(address), stdin=-1)
        self._unread = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_until_connected(self) -> None:
        """For the first time; nobody need have answered yet."""
        assert self._line(time.monotonic() + LIMIT_SECONDS) == "connected"

    def wait_for(self, release: str | int, *, other_than: str = "") -> Answer:
        """The next answer of this release, of another worker than this one."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            line = self._line(deadline)
            if line == "connected":
                continue
            answer = Answer(*line.split())
            if answer.release == str(release) and answer.pid != other_than:
                return answer

    def stop(self) -> Mapping[str, int]:
        """How often it was answered, refused and cut off."""
        assert self._process.stdin is not None
        self._process.stdin.write("stop\n")
        self._process.stdin.flush()
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (line := self._line(deadline)).startswith("{"):
            pass
        met: Mapping[str, int] = json.loads(line)
        return met

    def _line(self, deadline: float) -> str:
        assert self._process.stdout is not None
        stream = self._process.stdout.buffer.raw  # type: ignore[attr-defined]
        poller = select.poll()
        poller.register(stream, select.POLLIN)
        while b"\n" not in self._unread:
            assert poller.poll(max(0.0, deadline - time.monotonic()) * 1000), "The client was not answered in time."
            data = stream.read(4096)
            assert data, "The client has ended."
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()
