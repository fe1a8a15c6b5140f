"""`self.draining`: whether a worker has been asked to stop, for services that finish their work."""

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ..linux.unpatched import select
from . import greenlets
from .coroutines import running_loop

if TYPE_CHECKING:
    import asyncio

_LONGEST_WAIT_MS = 2**31 - 1  # the most that poll(2) takes: 24 days


class Draining:
    """True once this worker has been asked to stop: it finishes its work, and starts nothing new.

        while not self.draining: ...               ask
        await self.draining                        in any number of tasks
        select([listener, self.draining], [], [])  or by poll, selectors
        self.draining.wait()                       in a thread

    It uses a descriptor only if one is asked for.
    """

    # A signal handler starts it, and may interrupt every other method. So nothing here takes a lock.

    def __init__(self) -> None:
        self._begun = False
        self._events: list[int] = []  # eventfds; one, unless two threads ask for the first at the same time
        self._waiters: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return self._begun

    def __repr__(self) -> str:
        return f"<Draining: {'begun' if self._begun else 'not begun'}>"

    def fileno(self) -> int:
        """Return a descriptor that is readable once the worker drains, as long as no code reads from it."""
        if not self._events:
            self._events.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        if self._begun:  # it may have begun since the check for descriptors above
            self._write()
        return self._events[0]

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Block until it begins, for at most `timeout_seconds`; return whether it has begun.

        Raises RuntimeError if it would block an event loop.
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
        """Make it true; for the worker's signal handler."""
        self._begun = True
        self._write()
        for waiter in tuple(self._waiters):
            try:
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)
            except RuntimeError:
                pass  # the loop of another thread, which is closed by now

    def renew_in_worker(self) -> None:
        """In a freshly forked worker, replace descriptors that code asked for in the supervisor: all workers would
        share them."""
        for shared in self._events:
            own = os.eventfd(0, os.EFD_CLOEXEC)
            os.dup2(own, shared, inheritable=False)
            os.close(own)

    def _write(self) -> None:
        for event in self._events:
            try:
                os.eventfd_write(event, 1)
            except OSError:
                pass  # the service has closed it, or filled its counter


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
