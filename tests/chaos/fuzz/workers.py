"""What workers say: over the link of a class, and in the datagrams of a command."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from abc import abstractmethod
from typing import NamedTuple

from sdsupervise.child import protocol
from sdsupervise.code.code_version import CodeVersion
from sdsupervise.linux.event_loop import EventLoop
from sdsupervise.linux.processes import Child
from sdsupervise.settings.settings import CommandSettings, Settings
from sdsupervise.systemd.notify_client import ASKS_ANSWER, FAILED
from sdsupervise.workers.class_worker import LinkedWorker, WorkerMarks
from sdsupervise.workers.command_worker import CommandIdentity, NotifiedWorker
from sdsupervise.workers.notify_socket import NotifySocket
from sdsupervise.workers.worker import Worker

from .chance import Chance, as_json
from .surface import Surface
from .things import Crowd, opened


class WorkersOwner:
    """Hears all that a worker says, and does nothing."""

    def worker_ready(self, worker: Worker) -> None:
        pass

    def worker_asks_to_retire(self, worker: Worker) -> None:
        pass

    def worker_up(self, worker: Worker) -> None:
        pass

    def worker_extends(self, worker: Worker, seconds: float) -> None:
        pass

    def worker_refuses(self, worker: Worker) -> None:
        pass

    def worker_gone(self, worker: Worker) -> None:
        pass


_OWNER = WorkersOwner()
_KEPT_BY_A_WORKER = 8  # descriptors that may wait for its release


class _OfWorker(Surface):
    """Words of one worker, a new one now and then."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._loop: EventLoop | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def rest(self) -> None:
        if self._loop is None or self._process is None:
            return
        self._bury()
        self._process.kill()
        self._process.wait()
        self._loop.close()
        self._loop = self._process = None

    def _begin(self) -> None:
        if self._loop is None:
            self._loop = EventLoop()
            self._process = subprocess.Popen(["sleep", "infinity"], start_new_session=True)
            self._meet(self._loop, Child(self._process.pid, os.pidfd_open(self._process.pid)))

    @abstractmethod
    def _meet(self, loop: EventLoop, child: Child) -> None: ...

    @abstractmethod
    def _bury(self) -> None: ...


def _unwatch(loop: EventLoop, worker: Worker) -> None:
    loop.unwatch(worker.pidfd)
    os.close(worker.pidfd)


_LINES = (
    *(protocol.PING, protocol.TAKEOVER, protocol.STOPPING, protocol.RETIRE, protocol.SHUTDOWN, protocol.PONG),
    *(protocol.OK, b"go 3\n", b"failed \n", b'failed "no good"\n', b"failed 7\n", b"failed [[]]\n", b"\n", b"ping"),
    *(protocol.CHILDREN, b'code [["x", "/srv/x.py", "0"]]\n', b"code [[1, 2]]\n", b"code \n"),
)


class LinkSurface(_OfWorker):
    """The link of a class worker."""

    name = "link"

    def make(self) -> object:
        chance = self.chance
        data = b"".join(chance.choice(_LINES) for _ in range(chance.randrange(1, 12)))
        if chance.one_in(3):
            data += chance.choice((protocol.FAILED, protocol.CODE)) + as_json(chance.weird()) + b"\n"
        if chance.one_in(200):
            data += b"x" * chance.choice((4095, 4096, 65_000, 70_000)) + b"\n" * chance.randrange(2)
        return data if chance.one_in(4) else chance.bytes(data, [*_LINES, b"\xff\xfe", b"\0"])

    def feed(self, given: object) -> None:
        assert isinstance(given, bytes)
        self._begin()
        self._theirs.settimeout(0)
        while given:
            try:
                given = given[self._theirs.send(given) :]
            except BlockingIOError:
                pass
            self._worker._read_link()
            self._drain_answers()
        self._worker._read_link()

    def _drain_answers(self) -> None:
        try:
            while self._theirs.recv(65536):
                pass
        except BlockingIOError:
            pass

    def _meet(self, loop: EventLoop, child: Child) -> None:
        ours, self._theirs = socket.socketpair()
        traces, writer = os.pipe()
        os.close(writer)
        code_version = CodeVersion("/srv/x.py")
        self._worker = LinkedWorker(
            *(loop, Settings(), child, ours, traces, _OWNER, code_version), marks=WorkerMarks(), index=0, spare=False
        )

    def _bury(self) -> None:
        assert self._loop is not None
        self._theirs.close()
        self._worker._hear_the_rest()
        _unwatch(self._loop, self._worker)


class _Datagram(NamedTuple):
    data: bytes
    things: list[str]


_ASSIGNMENTS = (
    *(b"READY=1", b"RELOADING=1", b"STOPPING=1", b"WATCHDOG=1", b"WATCHDOG=trigger", b"BARRIER=1", b"FDSTORE=1"),
    *(b"STATUS=ok", b"STATUS=\xe4", b"STATUS=\x1b[2J\xe2\x80\xae", b"MAINPID=7", b"MAINPID=", b"ERRNO=2", b"READY=0"),
    *(b"EXTEND_TIMEOUT_USEC=%d" % number for number in (0, 1, 10**6, 2**64 - 1, 2**64, 10**30)),
    *(b"EXTEND_TIMEOUT_USEC=-1", b"EXTEND_TIMEOUT_USEC=\xb2", b"EXTEND_TIMEOUT_USEC=1e9", b"=", b"==", b"X"),
    *(FAILED.encode() + b"=no", FAILED.encode() + b"=\xff", ASKS_ANSWER.encode() + b"=1", b"\0", b"\r", b"A=\x00B"),
)


_IDENTITY = CommandIdentity("/usr/bin/true", 2**40)


class NotifySurface(_OfWorker):
    """The datagrams of a command worker, with descriptors beside them."""

    name = "notify"

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self._crowd = Crowd()

    def close(self) -> None:
        super().close()
        self._crowd.close()

    def make(self) -> object:
        chance = self.chance
        lines = [chance.choice(_ASSIGNMENTS) for _ in range(chance.randrange(1, 6))]
        if chance.one_in(4):
            lines += [b"READY=1", ASKS_ANSWER.encode() + b"=1"]
        data = chance.choice((b"\n", b"\n", b"\r\n", b"\n\n")).join(lines)
        if not chance.one_in(3):
            data = chance.bytes(data, [*_ASSIGNMENTS, b"\xff", b"x" * 4096])
        kinds = list(self._crowd.makers)
        number = chance.choice((0, 0, 1, 1, 2, 5)) if not chance.one_in(100) else 253
        return _Datagram(data[: chance.choice((4096, 5000))], chance.choices(kinds, k=number))

    def feed(self, given: object) -> None:
        assert isinstance(given, _Datagram)
        self._begin()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, opened(self._crowd, given.things) as fds:
            sender.connect(self._notify.path)
            socket.send_fds(sender, [given.data], fds)
        self._worker._hear_some()
        if len(self._worker._wait_for_release) > _KEPT_BY_A_WORKER:
            raise AssertionError(f"{len(self._worker._wait_for_release)} descriptors wait for the release")

    def _meet(self, loop: EventLoop, child: Child) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._notify = NotifySocket(self._directory.name)
        self._worker = NotifiedWorker(
            loop, CommandSettings(), child, self._notify, None, _OWNER, index=0, identity=_IDENTITY
        )

    def _bury(self) -> None:
        assert self._loop is not None
        self._worker._hear_the_rest()
        self._worker._close()
        self._directory.cleanup()
        _unwatch(self._loop, self._worker)
