"""A worker at the other end of a link: a fork of its supervisor, which runs a service's class."""

import json
import logging
import socket
import time

from .. import protocol
from ..config import Settings
from ..errors import ProtocolError
from ..linux import processes, signals
from ..linux.event_loop import EventLoop
from ..printable import printable
from .worker import Worker, WorkerListener, WorkerState

_log = logging.getLogger("sdsupervise")

_FIRST_NUDGE_SECONDS, _LAST_NUDGE_SECONDS = 0.2, 5.0


class LinkedWorker(Worker):
    """Says lines over a socketpair, see protocol.py, and is answered by lines."""

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        child: processes.Child,
        link: socket.socket,
        listener: WorkerListener,
        *,
        index: int,
        spare: bool,
    ) -> None:
        super().__init__(loop, settings, child, listener, index=index, spare=spare)
        self._link = link
        self._lines = protocol.LineReader()
        self._linked = True
        link.setblocking(False)
        loop.watch(link.fileno(), self._read_link)

    def _tell_go(self) -> None:
        self._send(b"%s%d\n" % (protocol.GO, self.index))

    def _tell_stop(self) -> None:
        super()._tell_stop()
        self._set_timer(_FIRST_NUDGE_SECONDS, lambda: self._nudge(_FIRST_NUDGE_SECONDS))

    def _nudge(self, waited_seconds: float) -> None:
        """It has not said that it heard: it may have gone to sleep with the signal in its hand."""
        signals.send(self.pidfd, signals.NUDGE_SIGNAL)
        if waited_seconds < _LAST_NUDGE_SECONDS:
            longer = 5 * waited_seconds
            self._set_timer(longer, lambda: self._nudge(longer))

    def _tell_release(self) -> None:
        self._send(protocol.OK)

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
            self._heard_ping()
        elif line == protocol.TAKEOVER:
            self._heard_ready()
        elif line == protocol.STOPPING:
            if self.state is WorkerState.STOPPING:
                self._cancel_timer()
            elif self.state is WorkerState.SERVING:  # it leaves by itself, and has as long for that
                self._set_timer(self._settings.stop_timeout, self.kill)
        elif line == protocol.SHUTDOWN:
            self.kill()
        elif line == protocol.RETIRE:
            self._heard_retire()
        elif line.startswith(protocol.FAILED):
            self.failure = printable(_json_text(line[len(protocol.FAILED) :]))
        else:
            _log.warning("Worker (pid %d) said %r, which is no message, ignoring", self.pid, line[:60])

    def _send(self, line: bytes) -> None:
        if self._linked:
            try:
                self._link.send(line)
            except OSError:
                pass  # dead (its pidfd will tell), or so far behind with reading that its silence will

    def _hear_the_rest(self) -> None:
        while self._linked:
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
