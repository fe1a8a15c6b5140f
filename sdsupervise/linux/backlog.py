"""A bounded queue of output for a slow reader: a few packets, and the number of the lines that were dropped."""

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from .unpatched import select

_MOST_BYTES = 64 * 1024


class WritableLoop(Protocol):
    """An event loop that can wait until a descriptor is writable."""

    def watch_writable(self, fd: int, on_ready: Callable[[], None]) -> None:
        """Call `on_ready` whenever the descriptor is writable."""

    def unwatch_writable(self, fd: int) -> None:
        """Stop watching."""


class Backlog:
    """Sends packets in their order, and keeps at most 64 KiB that the reader does not take yet.

    `send` returns how many bytes of a packet were taken. It raises BlockingIOError if it must be tried again, and
    another OSError if it never succeeds. Packets beyond the limit are dropped. When there is room again, `notice` gets
    the number of dropped lines, and returns the packet that reports them.
    """

    def __init__(
        self, *, send: Callable[[bytes], int], fileno: Callable[[], int], notice: Callable[[int], bytes]
    ) -> None:
        self._send, self._fileno, self._notice = send, fileno, notice
        self._waiting: deque[bytes] = deque()
        self._bytes = self._dropped = 0
        self._loop: WritableLoop | None = None
        self._watched: int | None = None
        self._is_sending = False  # perhaps in another thread, of a service's module

    def __bool__(self) -> bool:
        """Whether packets or a notice wait."""
        return bool(self._waiting) or self._dropped > 0

    def attach(self, loop: WritableLoop) -> None:
        """Use this loop to learn when there is room again."""
        self._loop = loop
        self.flush()

    def add(self, packet: bytes, *, lines: int = 1) -> None:
        """Send the packet, which is not empty, now or when there is room. If it is dropped, it counts as `lines`
        lines."""
        if self._dropped or (self._waiting and self._bytes + len(packet) > _MOST_BYTES):
            self._dropped += lines
        else:
            self._waiting.append(packet)
            self._bytes += len(packet)
        self.flush()

    def flush(self) -> None:
        """Send what can be sent now."""
        if self._is_sending:
            return  # the call that is sending sends this too
        self._is_sending = True
        try:
            self._send_some()
        finally:
            self._is_sending = False
        self._watch(bool(self))

    def _send_some(self) -> None:
        while self._waiting or self._dropped:
            if not self._waiting:
                self._waiting.append(self._notice(self._dropped))
                self._bytes, self._dropped = len(self._waiting[0]), 0
            packet = self._waiting[0]
            try:
                taken = self._send(packet)
            except BlockingIOError:
                taken = 0
            except OSError:
                taken = len(packet)  # the reader is gone for ever
            if not taken:
                break
            self._waiting.popleft()
            self._bytes -= taken
            if taken < len(packet):
                self._waiting.appendleft(packet[taken:])

    def finish(self, end: float) -> None:
        """Send what can be sent until `end`, in seconds of time.monotonic()."""
        while self and time.monotonic() < end:
            poller = select.poll()
            poller.register(self._fileno(), select.POLLOUT)
            if not poller.poll(1000 * max(0.0, end - time.monotonic())):
                break
            self.flush()

    def unwatch(self) -> None:
        """Stop watching, because the descriptor is about to change."""
        if self._watched is not None and self._loop is not None:
            self._loop.unwatch_writable(self._watched)
        self._watched = None

    def forget(self) -> None:
        """In a forked child, drop what waits: the parent sends it."""
        self._waiting.clear()
        self._bytes = self._dropped = 0
        self._loop = self._watched = None
        self._is_sending = False

    def _watch(self, wanted: bool) -> None:
        if not wanted:
            self.unwatch()
        elif self._loop is not None and self._watched is None:
            self._watched = self._fileno()
            self._loop.watch_writable(self._watched, self.flush)
