"""One thread, one epoll, timers. With nothing to do it sleeps in the kernel without a time-out.

asyncio was rejected: it costs every service 60 ms of start and several MB, and its child watcher wants SIGCHLD.
"""

import heapq
import itertools
import os
import time
from collections.abc import Callable

from ..unpatched import select

Callback = Callable[[], None]

_LONGEST_SLEEP_SECONDS = 86400.0  # epoll takes 24 days at most, a setting may be a year


class Timer:
    """A callback that is due once, unless it is cancelled before."""

    def __init__(self, callback: Callback, due: float) -> None:
        self._callback: Callback | None = callback
        self._due = due

    @property
    def pending(self) -> bool:
        """Neither fired nor cancelled."""
        return self._callback is not None

    @property
    def seconds_left(self) -> float:
        """Until it is due."""
        return self._due - time.monotonic()

    def cancel(self) -> None:
        """From now on it never fires."""
        self._callback = None

    def fire(self) -> None:
        """Call back, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class EventLoop:
    """Calls back when a file descriptor is readable (or hung up) and when time has passed."""

    def __init__(self) -> None:
        self._epoll = select.epoll()  # close-on-exec from birth
        self._watched: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._running = False

    def watch(self, fd: int, on_ready: Callback) -> None:
        """Call back whenever fd is readable or at its end. The callback must bear finding nothing."""
        self._epoll.register(fd, select.EPOLLIN)
        self._watched[fd] = on_ready

    def unwatch(self, fd: int) -> None:
        """Stop watching, before the fd is closed. Not watched: nothing happens."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, so many seconds from now (0: in the next round)."""
        due = time.monotonic() + seconds
        timer = Timer(callback, due)
        heapq.heappush(self._timers, (due, next(self._order), timer))
        return timer

    def run(self) -> None:
        """Serve until stop() is called from a callback."""
        self._running = True
        while self._running:
            found = self._epoll.poll(self._seconds_to_next_timer() if self._timers else None)
            # A callback may take long, or we may be stopped in it. What arrives meanwhile is looked at before a timer
            # that becomes due meanwhile: nobody who spoke in time is taken for silent.
            now = time.monotonic() if self._timers else 0.0
            for fd, on_ready in [(fd, self._watched[fd]) for fd, _ in found]:
                # An earlier callback of this round may have unwatched it, and even have got its number for another.
                if self._watched.get(fd) is on_ready:
                    on_ready()
                    if not self._running:
                        return
            if self._timers:
                self._fire_timers_due(now)

    def stop(self) -> None:
        """Let run() return after the current callback."""
        self._running = False

    def close(self) -> None:
        """Give the epoll descriptor back."""
        self._epoll.close()

    def close_in_child(self) -> None:
        """In a forked child: close its copies of the epoll and of all that is watched.

        It looks at numbers alone, not at whom they belong to, and closes neighbours together. Of 500 workers each is
        forked with copies of what leads to those before it; a child that looked at as many objects would have the
        kernel copy the pages they lie on.
        """
        self._epoll.close()
        numbers = sorted(self._watched)
        while numbers:
            first = last = numbers.pop()
            while numbers and numbers[-1] == first - 1:
                first = numbers.pop()
            os.closerange(first, last + 1)

    def _seconds_to_next_timer(self) -> float | None:
        timers = self._timers
        while timers and not timers[0][2].pending:
            heapq.heappop(timers)
        return min(max(0.0, timers[0][0] - time.monotonic()), _LONGEST_SLEEP_SECONDS) if timers else None

    def _fire_timers_due(self, now: float) -> None:
        timers = self._timers
        while self._running and timers and timers[0][0] <= now:
            heapq.heappop(timers)[2].fire()
