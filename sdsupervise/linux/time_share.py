"""Descriptors that get only a share of an event loop's time, however much data they have.

In one turn of the loop at most one of them is served, and each in its turn. Then all of them pause as the share
demands: with a share of a tenth, for nine times as long as the one has taken.
"""

import time
from collections.abc import Callable

from .event_loop import EventLoop
from .unpatched import select

_LONGEST_PAUSE_SECONDS = 1.0


class TimeShare:
    """Some descriptors, in an epoll of their own, which the loop watches as one."""

    def __init__(self, loop: EventLoop, share: float) -> None:
        """`share` is above 0 and at most 1."""
        self._loop, self._share = loop, share
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._go_on()

    def watch(self, fd: int, on_ready: Callable[[], None], *, writable: bool = False) -> None:
        """Call back, in its turn, while fd is readable (or writable, if asked) or at its end."""
        self._epoll.register(fd, select.EPOLLOUT if writable else select.EPOLLIN)
        self._watched[fd] = on_ready

    def unwatch(self, fd: int) -> None:
        """Stop watching; call this before the fd is closed. Does nothing if the fd is not watched."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Close the epoll; in a forked child, its copy."""
        self._epoll.close()

    def _go_on(self) -> None:
        self._loop.watch(self._epoll.fileno(), self._serve_one)

    def _serve_one(self) -> None:
        # The kernel returns one descriptor, and moves it to the end of its queue.
        for fd, _ in self._epoll.poll(0, 1):
            began = time.thread_time()
            self._watched[fd]()
            pause = (time.thread_time() - began) * (1 / self._share - 1)
            if pause > 0:
                self._loop.unwatch(self._epoll.fileno())
                self._loop.call_later(min(pause, _LONGEST_PAUSE_SECONDS), self._go_on)
