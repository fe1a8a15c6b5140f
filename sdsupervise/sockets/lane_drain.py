"""The end of a generation's lanes: its workers are stopped when no connection can be left there; see linux/lanes.py."""

import time
from collections.abc import Callable, Sequence

from ..linux import lanes
from ..linux.event_loop import EventLoop, Timer
from .opening import Listener

# After the kernel sends clients elsewhere: time for handshakes to end, and for accepted connections to be read.
_CALM_SECONDS = 1.0


class LaneDrain:
    """Looks every second whether connections wait, and calls back after a second without any, or after `at_most`
    seconds.

    It must look, because the kernel does not report an empty queue.
    """

    def __init__(
        self, loop: EventLoop, listeners: Sequence[Listener], *, on_empty: Callable[[], None], at_most: float
    ) -> None:
        self._loop, self._listeners, self._on_empty = loop, listeners, on_empty
        self._due = time.monotonic() + at_most
        self._calm = True
        self._timer: Timer = loop.call_later(min(_CALM_SECONDS, at_most), self._look)

    def cancel(self) -> None:
        """Stop looking, and never call back."""
        self._timer.cancel()
        self._close()

    def _look(self) -> None:
        has_waiting_clients = any(lanes.has_waiting_clients(listener) for listener in self._listeners)
        left = self._due - time.monotonic()
        if left <= 0 or (self._calm and not has_waiting_clients):
            self._close()
            self._on_empty()
            return
        self._calm = not has_waiting_clients
        self._timer = self._loop.call_later(min(_CALM_SECONDS, left), self._look)

    def _close(self) -> None:
        for listener in self._listeners:
            listener.close()
