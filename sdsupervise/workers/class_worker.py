"""A worker that runs a service's class: a fork of its supervisor, which talks to it over a socketpair (the link)."""

import logging
import signal
import socket
import time

from ..child import protocol
from ..code.code_version import CodeVersion
from ..code.own_code import Loaded
from ..errors import ProtocolError
from ..input.checked import Unfit, list_of, parse, text, tuple_of
from ..input.printable import one_line, printable
from ..linux import process_groups, processes, signals
from ..linux.event_loop import EventLoop
from ..linux.leftovers import Leftovers
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields
from .traces import Traces
from .worker import Worker, WorkerOwner, WorkerState

_log = logging.getLogger("sdsupervise")

_GRACE_SECONDS = 5.0  # for what a dead worker left behind to stop; a stop has its own, longer deadline
_READ_BYTES = 4096
_MOST_BYTES_AT_ITS_END = 512 * 1024  # read from the link after the worker's death
_MOST_WARNINGS = 3  # logged about one worker
_MODULES = list_of(tuple_of(text(), text(), text(100)), 10_000)  # name, file, hash
_FIRST_NUDGE_SECONDS, _LAST_NUDGE_SECONDS = 0.2, 5.0


class WorkerMarks:
    """What the workers of one generation share: the means to find the processes that they started."""

    def __init__(self) -> None:
        self._mark = process_groups.new_mark()  # differs from every other generation's and from a nested container's
        self.sessions: set[int] = set()  # the sessions that living workers lead

    def mark_of(self, worker_pid: int) -> int:
        """The mark of everything that this worker starts; see process_groups.set_mark."""
        return self._mark + worker_pid


class LinkedWorker(Worker):
    """Exchanges lines with its worker over a socketpair; see child/protocol.py."""

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        child: processes.Child,
        link: socket.socket,
        traces: int,
        owner: WorkerOwner,
        code_version: CodeVersion,
        *,
        marks: WorkerMarks,
        index: int,
        spare: bool,
    ) -> None:
        super().__init__(loop, settings, child, owner, index=index, spare=spare)
        self._link, self._marks, self._code_version = link, marks, code_version
        self._leftovers: Leftovers | None = None
        self._had_children = self._killed = False
        self._traces = Traces(loop, traces, say=self._say_traceback)
        marks.sessions.add(child.pid)
        self._lines = protocol.LineReader()
        self._linked, self._warnings = True, 0
        link.setblocking(False)
        loop.watch(link.fileno(), self._read_link)

    def kill(self) -> None:
        """See Worker. Kills also what the worker left behind."""
        self._killed = True
        if self._leftovers is not None:
            self._leftovers.kill()
        super().kill()

    def _send_go(self) -> None:
        self._send(b"%s%d\n" % (protocol.GO, self.index))

    def _send_stop(self) -> None:
        if self.exit_status is not None:
            return  # dead already; only its leftovers remain
        super()._send_stop()
        self._set_timer(_FIRST_NUDGE_SECONDS, lambda: self._nudge(_FIRST_NUDGE_SECONDS))

    def _nudge(self, waited_seconds: float) -> None:
        """Repeat the signal: the worker has not confirmed the stop, and may have gone to sleep before it handled it."""
        signals.send(self.pidfd, signals.NUDGE_SIGNAL)
        if waited_seconds < _LAST_NUDGE_SECONDS:
            longer = 5 * waited_seconds
            self._set_timer(longer, lambda: self._nudge(longer))

    def _send_release(self) -> None:
        self._send(protocol.OK)

    def _read_link(self) -> None:
        data = self._receive()
        if data == protocol.PING and self.last_ping is not None:  # the hot path
            self.last_ping = time.monotonic()
            self._send(protocol.PONG)
        elif data:
            self._hear(data)
        elif data is not None:
            self._close_link()

    def _receive(self) -> bytes | None:
        """Read a small amount, because each line costs work.

        Returns None if there is nothing to read now, b"" at the end of the link.
        """
        try:
            return self._link.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except ConnectionError:
            return b""

    def _hear(self, data: bytes) -> None:
        try:
            for line in self._lines.feed(data):
                self._hear_line(line)
        except ProtocolError as error:
            if self._warns():
                _log.warning("Worker (pid %d): %s Ignoring it", self.pid, error)

    def _hear_line(self, line: bytes) -> None:
        if line == protocol.PING:
            self._send(protocol.PONG)
            self._on_ping()
        elif line == protocol.TAKEOVER:
            self._on_ready()
        elif line == protocol.STOPPING:
            if self.state is WorkerState.STOPPING:
                self._cancel_timer()
            elif self.state is WorkerState.SERVING:  # leaves by itself, with the same time limit
                self._set_timer(self._settings.stop_timeout, self.kill)
        elif line == protocol.SHUTDOWN:
            self.kill()
        elif line == protocol.RETIRE:
            self._on_retire()
        elif line == protocol.CHILDREN:
            self._had_children = True
        elif line.startswith(protocol.FAILED):
            self.failure = printable(_json_text(line[len(protocol.FAILED) :]))
        elif line.startswith(protocol.CODE):
            self._on_code(line[len(protocol.CODE) :])
        elif self._warns():
            _log.warning("Worker (pid %d) sent %r, which is not a message; ignoring it", self.pid, line[:60])

    def _on_code(self, said: bytes) -> None:
        try:
            modules = [Loaded(*module) for module in _MODULES(parse(said), "code")]
        except Unfit as error:
            if self._warns():
                _log.warning("Worker (pid %d) sent an unreadable report on its code: %s; ignoring it", self.pid, error)
            return
        others = self._code_version.add(modules)
        if others and self._warns():
            _log.warning(
                "Worker (pid %d) runs %s as it is on disk now, but other workers of this generation run an earlier "
                "version of it; reload, so that all run the same code",
                *(self.pid, one_line(others[0])),
            )

    def _warns(self) -> bool:
        """Limit the warnings: a worker that sends invalid messages may send many of them."""
        self._warnings += 1
        return self._warnings <= _MOST_WARNINGS

    def _send(self, line: bytes) -> None:
        if self._linked:
            try:
                self._link.send(line)
            except OSError:
                pass  # it is dead (its pidfd reports that), or it reads so slowly that a deadline will end it

    def _hear_the_rest(self) -> None:
        self._traces.close()
        # At most what the kernel can have buffered: a child that holds a copy of the link may write without end.
        for _ in range(_MOST_BYTES_AT_ITS_END // _READ_BYTES):
            data = self._receive() if self._linked else b""
            if not data:
                break
            self._hear(data)
        self._close_link()

    def _be_gone(self) -> None:
        if self._leftovers is None and self._may_have_left():
            self._see_to_leftovers()
            return
        self._marks.sessions.discard(self.pid)
        super()._be_gone()

    def _may_have_left(self) -> bool:
        """Whether to search for leftovers. A worker that ended normally has said so; the other checks are cheap."""
        return bool(self.exit_status) or self._had_children or processes.group_lives(self.pid)

    def _see_to_leftovers(self) -> None:
        mark, sessions = self._marks.mark_of(self.pid), self._marks.sessions
        self._leftovers = Leftovers(
            self._loop,
            self.pid,
            signal.SIGTERM,
            None if self.state is WorkerState.STOPPING else min(_GRACE_SECONDS, self._settings.stop_timeout),
            find=lambda: process_groups.of_worker(self.pid, mark, others=sessions - {self.pid}),
            gone=self._be_gone,
        )
        if self._killed:
            self._leftovers.kill()

    def _say_traceback(self, text: str) -> None:
        extra = entry_fields(CatalogEntry.WORKER_TRACEBACK, worker=self)
        _log.warning("Where worker %d (pid %d) is:\n%s", self.index, self.pid, text, extra=extra)

    def _close_link(self) -> None:
        if self._linked:
            self._linked = False
            self._loop.unwatch(self._link.fileno())
            self._link.close()


def _json_text(data: bytes) -> str:
    try:
        text = parse(data)
    except Unfit:
        text = None
    return text if isinstance(text, str) else data.decode(errors="replace")
