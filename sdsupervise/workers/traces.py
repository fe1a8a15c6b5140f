"""Collects the output of a worker's faulthandler into one text.

The faulthandler writes a word at a time from a signal handler. The output of two workers on one standard error would be
mixed.
"""

from collections.abc import Callable

from ..input.printable import printable
from ..linux.event_loop import EventLoop, Timer
from ..linux.unpatched import os

_MOST_BYTES = 64 * 1024  # the capacity of a pipe; the rest is dropped
_QUIET_SECONDS = 0.5  # after the first word; the faulthandler writes everything at once


class Traces:
    """The read end of a worker's pipe, watched by the event loop. Calls `say` with each complete text."""

    def __init__(self, loop: EventLoop, reader: int, *, say: Callable[[str], None]) -> None:
        self._loop, self._reader, self._say = loop, reader, say
        self._data = b""
        self._timer: Timer | None = None
        os.set_blocking(reader, False)
        loop.watch(reader, self._read)

    def _read(self) -> None:
        """Read at most one text's worth of bytes, and no more until `say` was called."""
        try:
            data = os.read(self._reader, _MOST_BYTES - len(self._data))
        except BlockingIOError:
            return
        self._data += data
        if not data or len(self._data) == _MOST_BYTES:
            self._loop.unwatch(self._reader)
        if data and self._timer is None:
            self._timer = self._loop.call_later(_QUIET_SECONDS, self._say_all)

    def _say_all(self) -> None:
        self._timer = None
        if len(self._data) == _MOST_BYTES:
            self._loop.watch(self._reader, self._read)
        self._say_data()

    def close(self) -> None:
        """The worker is dead: report what it has written, and close the pipe."""
        if len(self._data) < _MOST_BYTES:
            self._read()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.unwatch(self._reader)
        os.close(self._reader)
        self._say_data()

    def _say_data(self) -> None:
        data, self._data = self._data, b""
        if text := printable(data.decode(errors="replace").strip()):
            self._say(text)
