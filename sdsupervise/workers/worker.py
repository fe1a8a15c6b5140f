"""A worker as its supervisor sees it: its process, the link, and the deadlines that are its own."""

import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from enum import Enum

from .. import protocol
from ..config import Settings
from ..errors import ProtocolError
from ..linux import processes, signals
from ..linux.event_loop import EventLoop, Timer

_log = logging.getLogger("sdsupervise")

# A worker that hangs is asked for a traceback, so many seconds later for a core (SIGABRT), then killed.
_TRACEBACK_SECONDS = 1.0
_ABORT_SECONDS = 5.0


class WorkerState(Enum):
    """How far a worker is."""

    SPARE = "spare"  # forked ahead, runs no service code before it is let go
    STARTING = "starting"
    READY = "ready"  # said "takeover", waits for "ok"
    SERVING = "serving"
    STOPPING = "stopping"


class Worker:
    """One living worker. It reports through its callbacks: on_ready once, on_gone at the very end, once."""

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        child: processes.Child,
        link: socket.socket,
        *,
        spare: bool,
        on_ready: Callable[["Worker"], None],
        on_gone: Callable[["Worker"], None],
    ) -> None:
        self._loop, self._settings, self._child, self._link = loop, settings, child, link
        self._on_ready, self._on_gone = on_ready, on_gone
        self._lines = protocol.LineReader()
        self._linked = True
        self._timer: Timer | None = None  # of the deadline that is running: ready, next ping, abort or kill
        self.pid, self.pidfd = child.pid, child.pidfd
        self.state = WorkerState.SPARE if spare else WorkerState.STARTING
        self.started_at = time.monotonic()
        self.last_ping: float | None = None
        self.exit_status: int | None = None  # a wait status, once it is dead
        self.failure = ""  # the traceback it left
        link.setblocking(False)
        loop.watch(link.fileno(), self._read_link)
        loop.watch(child.pidfd, self._reap)
        self._expect_ready()

    @property
    def exit_in_words(self) -> str:
        """How it ended."""
        return processes.exit_in_words(self.exit_status) if self.exit_status is not None else "lives"

    @property
    def lived(self) -> float:
        """Seconds since it was forked, or let go where it was a spare."""
        return time.monotonic() - self.started_at

    def facts(self) -> dict[str, object]:
        """What status shows of it; seconds."""
        ping = None if self.last_ping is None else round(time.monotonic() - self.last_ping, 3)
        return {"pid": self.pid, "state": self.state.value, "age": round(self.lived, 3), "last_ping": ping}

    def let_go(self) -> None:
        """It may run service code: the peer knows it now, or the spare is needed."""
        self._send(protocol.GO)
        if self.state is WorkerState.SPARE:
            self.state = WorkerState.STARTING
            self.started_at = time.monotonic()
            self._expect_ready()

    def release(self) -> None:
        """Answer "ok": it may serve."""
        self.state = WorkerState.SERVING
        self._send(protocol.OK)

    def stop(self) -> None:
        """SIGTERM; the deadline for it is the takeover table's. A spare has nothing to finish."""
        if self.state is not WorkerState.STOPPING:
            number = signal.SIGKILL if self.state is WorkerState.SPARE else signal.SIGTERM
            self.state = WorkerState.STOPPING
            self._cancel_timer()
            signals.send(self.pidfd, number)

    def kill(self) -> None:
        """SIGKILL."""
        signals.send(self.pidfd, signal.SIGKILL)

    def close_in_child(self) -> None:
        """In another worker's freshly forked process: a held copy of the link would hide its end."""
        self._link.close()
        os.close(self.pidfd)

    # ------------------------------------------------------------------------------------- what the worker says

    def _read_link(self) -> None:
        try:
            data = self._link.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if data == protocol.PING and self.last_ping is not None:  # the hot path
            self.last_ping = time.monotonic()
            self._send(protocol.PONG)
        elif data:
            self._hear(data)
        else:
            self._close_link()

    def _hear(self, data: bytes) -> None:
        try:
            for line in self._lines.feed(data):
                self._hear_line(line)
        except ProtocolError as error:
            _log.warning("Worker (pid %d): %s Ignoring it", self.pid, error)

    def _hear_line(self, line: bytes) -> None:
        if line == protocol.PING:
            self._send(protocol.PONG)
            if self.last_ping is None and self._settings.worker_timeout and self.state is WorkerState.SERVING:
                self._set_timer(self._settings.worker_timeout, self._check_pings)
            self.last_ping = time.monotonic()
        elif line == protocol.TAKEOVER:
            self._say_ready()
        elif line == protocol.SHUTDOWN:
            self.kill()
        elif line.startswith(protocol.FAILED):
            self.failure = _json_text(line[len(protocol.FAILED) :])
        else:
            _log.warning("Worker (pid %d) said %r, which is no message, ignoring", self.pid, line[:60])

    def _say_ready(self) -> None:
        if self.state is WorkerState.STARTING:
            self.state = WorkerState.READY
            self.failure = ""
            self._cancel_timer()
            if self.last_ping is not None and self._settings.worker_timeout:
                self._set_timer(self._settings.worker_timeout, self._check_pings)
            self._on_ready(self)
        elif self.state is WorkerState.SERVING:
            self._send(protocol.OK)

    def _send(self, line: bytes) -> None:
        if self._linked:
            try:
                self._link.send(line)
            except OSError:
                pass  # dead (its pidfd will tell), or so far behind with reading that its silence will

    # ------------------------------------------------------------------------------------------ its deadlines

    def _expect_ready(self) -> None:
        if self._settings.start_timeout and self.state is WorkerState.STARTING:
            self._set_timer(self._settings.start_timeout, self._never_ready)

    def _never_ready(self) -> None:
        _log.warning("Worker (pid %d) was not ready in %g s, ending it", self.pid, self._settings.start_timeout)
        self.failure = self.failure or f"The worker was not ready in {self._settings.start_timeout:g} s."
        self._ask_for_traceback()

    def _check_pings(self) -> None:
        # Looks at the last ping instead of being set anew by each.
        assert self.last_ping is not None
        if self.state is WorkerState.READY:
            self.last_ping = time.monotonic()  # it waits for us, and cannot ping meanwhile
        left = self.last_ping + self._settings.worker_timeout - time.monotonic()
        if left > 0:
            self._set_timer(left, self._check_pings)
            return
        _log.warning("Worker (pid %d) sent no ping for %g s, ending it", self.pid, self._settings.worker_timeout)
        self.failure = f"The worker sent no ping for {self._settings.worker_timeout:g} s."
        self._ask_for_traceback()

    def _ask_for_traceback(self) -> None:
        signals.send(self.pidfd, signals.TRACEBACK_SIGNAL)
        self._set_timer(_TRACEBACK_SECONDS, self._abort)

    def _abort(self) -> None:
        signals.send(self.pidfd, signal.SIGABRT)
        self._set_timer(_ABORT_SECONDS, self.kill)

    def _set_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, callback)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------------------------------------------ its end

    def _reap(self) -> None:
        status = processes.reap(self._child)
        if status is None:
            return
        while self._linked:  # what it said before it died comes first
            self._read_link_to_its_end()
        self.exit_status = status
        self._cancel_timer()
        self._loop.unwatch(self.pidfd)
        os.close(self.pidfd)
        self._on_gone(self)

    def _read_link_to_its_end(self) -> None:
        try:
            data = self._link.recv(65536)
        except OSError:  # also BlockingIOError: a child of the worker holds a copy of the link
            data = b""
        if data:
            self._hear(data)
        else:
            self._close_link()

    def _close_link(self) -> None:
        if self._linked:
            self._linked = False
            self._loop.unwatch(self._link.fileno())
            self._link.close()


def _json_text(data: bytes) -> str:
    try:
        return str(json.loads(data))
    except (ValueError, RecursionError):
        return data.decode(errors="replace")
