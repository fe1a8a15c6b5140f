"""`self.draining`: whether a worker was told to stop, for services that finish what they began."""

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ..linux.unpatched import select
from . import greenlets
from .coroutines import running_loop

if TYPE_CHECKING:
    import asyncio

_LONGEST_WAIT_MS = 2**31 - 1  # what poll(2) takes: 24 days


class Draining:
    """True once this worker was told to stop: it is to finish what it began, and to begin nothing new.

        while not self.draining: ...               ask
        await self.draining                        in any number of tasks
        select([listener, self.draining], [], [])  or by poll, selectors
        self.draining.wait()                       in a thread

    It costs a descriptor only where one is asked for.
    """

    # A signal handler begins it, wherever that interrupts the rest: so nothing here takes a lock.

    def __init__(self) -> None:
        self._begun = False
        self._events: list[int] = []  # eventfds; one, but for two threads that ask for the first at a time
        self._waiters: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return self._begun

    def __repr__(self) -> str:
        return f"<Draining: {'begun' if self._begun else 'not begun'}>"

    def fileno(self) -> int:
        """A descriptor that is readable from the beginning on, and stays so as long as nobody reads from it."""
        if not self._events:
            self._events.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        if self._begun:  # perhaps just now, between looking for descriptors and there being one
            self._write()
        return self._events[0]

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Block until it begins, or for so long at most; whether it has begun.

        Raises RuntimeError where it would block an event loop.
        """
        if running_loop() is not None:
            raise RuntimeError("draining.wait() would block the event loop: write 'await self.draining'.")
        if greenlets.run_here():
            greenlets.wait_readable(self.fileno(), timeout_seconds)
            return self._begun
        poller = select.poll()
        poller.register(self, select.POLLIN)
        poller.poll(None if timeout_seconds is None else min(max(timeout_seconds * 1000, 0), _LONGEST_WAIT_MS))
        return self._begun

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait_in_loop().__await__()

    async def _wait_in_loop(self) -> None:
        import asyncio

        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            if not self._begun:
                await waiter
        finally:
            self._waiters.remove(waiter)

    def begin(self) -> None:
        """From now on it is true; for the worker's signal handler."""
        self._begun = True
        self._write()
        for waiter in tuple(self._waiters):
            try:
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)
            except RuntimeError:
                pass  # another thread's loop, closed by now

    def renew_in_worker(self) -> None:
        """In a freshly forked worker: a descriptor that code asked for in the supervisor is shared with all others."""
        for shared in self._events:
            own = os.eventfd(0, os.EFD_CLOEXEC)
            os.dup2(own, shared, inheritable=False)
            os.close(own)

    def _write(self) -> None:
        for event in self._events:
            try:
                os.eventfd_write(event, 1)
            except OSError:
                pass  # the service has closed it, or raised it to its limit


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
