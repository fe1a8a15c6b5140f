"""One thread, one epoll(7), timers. Without work it sleeps in the kernel, without a time-out.

asyncio was rejected: it costs every service 60 ms of start and several MB, and its child watcher wants SIGCHLD.
"""

import heapq
import itertools
import math
import os
import time
from collections.abc import Callable

from .patience import GLANCE, NAP
from .unpatched import select

Callback = Callable[[], None]

_LONGEST_SLEEP_SECONDS = 86400.0  # epoll takes 24 days at most, and a setting may be a year


class Timer:
    """A callback that is due once, unless it is cancelled."""

    def __init__(
        self, callback: Callback, due: float, anew: float = 0.0, expected: "dict[Timer, None] | None" = None
    ) -> None:
        self._callback: Callback | None = callback
        self.due = due
        self.anew = anew  # seconds that the timed process gets again if we slept; 0: no process is timed
        self._expected = expected
        if expected is not None:
            expected[self] = None

    @property
    def pending(self) -> bool:
        """Whether it has neither fired nor been cancelled."""
        return self._callback is not None

    @property
    def seconds_left(self) -> float:
        """The seconds until it is due."""
        return self.due - time.monotonic()

    def cancel(self) -> None:
        """Make sure that it never fires."""
        self._callback = None
        if self._expected is not None:
            self._expected.pop(self, None)

    def restart(self, now: float) -> None:
        """Give the timed process its whole time again. `now` is in seconds of time.monotonic()."""
        self.due = now + self.anew

    def fire(self) -> None:
        """Call back, unless it has fired or is cancelled."""
        callback = self._callback
        self.cancel()
        if callback is not None:
            callback()


class EventLoop:
    """Calls back when a descriptor is readable or hung up, and when time has passed."""

    def __init__(self) -> None:
        self._epoll = select.epoll()  # close-on-exec from its creation
        self._watched: dict[int, Callback] = {}
        self._writable: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._expected: dict[Timer, None] = {}  # the pending timers of expect_within
        self._shortest = 0.0  # the shortest time that one of them allows
        # The clock and the CPU time of this thread when it last woke, while there are such timers.
        self._looked_at = self._worked = 0.0
        self._order = itertools.count()
        self._running = False

    def watch(self, fd: int, on_ready: Callback) -> None:
        """Call back whenever fd is readable or at its end. The callback must accept that there is nothing to read."""
        self._epoll.register(fd, select.EPOLLIN)
        self._watched[fd] = on_ready

    def unwatch(self, fd: int) -> None:
        """Stop watching; call this before the fd is closed. Does nothing if the fd is not watched."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def watch_writable(self, fd: int, on_ready: Callback) -> None:
        """Call back whenever fd is writable, or its other end is closed. A forked child does not close it."""
        self._epoll.register(fd, select.EPOLLOUT)
        self._writable[fd] = on_ready

    def unwatch_writable(self, fd: int) -> None:
        """Stop watching for writing; call this before the fd is closed."""
        if self._writable.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, after `seconds`; 0 means in the next round."""
        due = time.monotonic() + seconds
        timer = Timer(callback, due)
        heapq.heappush(self._timers, (due, next(self._order), timer))
        return timer

    def expect_within(self, seconds: float, on_overdue: Callback, *, anew: float | None = None) -> Timer:
        """Call back once, if another process has had `seconds` for what is expected from it.

        If this process itself slept meanwhile, the other process may have slept too. Then it gets the seconds once
        more, or `anew` seconds; see patience.py.
        """
        if seconds <= 0:
            return self.call_later(0, on_overdue)
        now = time.monotonic()
        if not self._expected:
            self._looked_at, self._worked, self._shortest = now, time.thread_time(), math.inf
        timer = Timer(on_overdue, now + seconds, seconds if anew is None else anew, self._expected)
        self._shortest = min(self._shortest, timer.anew)
        heapq.heappush(self._timers, (now + seconds, next(self._order), timer))
        return timer

    def run(self) -> None:
        """Run until a callback calls stop()."""
        self._running = True
        while self._running:
            seconds = self._seconds_to_sleep() if self._timers else None
            found = self._epoll.poll(seconds)
            # A callback may take long, or this process may be suspended in it. What arrives meanwhile is handled before
            # a timer that becomes due meanwhile, so a process that reported in time never counts as silent.
            now = time.monotonic() if self._timers else 0.0
            if self._expected:
                self._look_at_own_clock(now, wanted=seconds or 0.0)
            for fd, on_ready in [(fd, self._callback_of(fd)) for fd, _ in found]:
                # An earlier callback of this round may have unwatched the fd, and its number may belong to another file
                # now.
                if on_ready is not None and self._callback_of(fd) is on_ready:
                    on_ready()
                    if not self._running:
                        return
            if self._timers:
                self._fire_timers_due(now)

    def stop(self) -> None:
        """Let run() return after the current callback."""
        self._running = False

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()

    def close_in_child(self) -> None:
        """In a forked child, close its copies of the epoll and of all watched descriptors.

        This looks only at numbers, and closes neighbours together. Each of 500 workers is forked with copies of the
        descriptors of those before it. If a child looked at as many objects, the kernel would copy the memory pages
        that hold them.
        """
        self._epoll.close()
        numbers = sorted(self._watched)
        while numbers:
            first = last = numbers.pop()
            while numbers and numbers[-1] == first - 1:
                first = numbers.pop()
            os.closerange(first, last + 1)

    def _callback_of(self, fd: int) -> Callback | None:
        return self._watched.get(fd) or self._writable.get(fd)

    def _seconds_to_sleep(self) -> float | None:
        """Return the seconds until the next timer, or until the next look at the clock while another process is
        timed."""
        timers = self._timers
        while timers and not timers[0][2].pending:
            heapq.heappop(timers)
        if not timers:
            return None
        seconds = max(0.0, timers[0][0] - time.monotonic())
        if self._expected:
            seconds = min(seconds, self._shortest * GLANCE)
        return min(seconds, _LONGEST_SLEEP_SECONDS)

    def _look_at_own_clock(self, now: float, *, wanted: float) -> None:
        """Notice lost time: the time since the last look, without the sleep that was wanted and without our own CPU
        time."""
        worked = time.thread_time()
        lost = now - self._looked_at - wanted - (worked - self._worked)
        slept_through = now - self._looked_at > self._shortest * GLANCE
        self._looked_at, self._worked = now, worked
        if lost > self._shortest * NAP:
            for timer in self._expected:
                if lost > timer.anew * NAP:
                    timer.restart(now)
            self._timers[:] = [(timer.due, number, timer) for _, number, timer in self._timers]
            heapq.heapify(self._timers)
        if slept_through:
            self._shortest = min(timer.anew for timer in self._expected)

    def _fire_timers_due(self, now: float) -> None:
        timers = self._timers
        while self._running and timers and timers[0][0] <= now:
            heapq.heappop(timers)[2].fire()
