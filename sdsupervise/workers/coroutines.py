"""Services written with `async def`: one event loop for the service's code, and then for its shutdown.

asyncio is imported only where a coroutine turns up: it costs 60 ms and several MB.
"""

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import asyncio


CO_COROUTINE = 0x80  # inspect.CO_COROUTINE; importing inspect costs 2 MB


class Unwind(SystemExit):
    """Leave the event loop, then shut down: the shutdown may need that loop, which cannot be entered twice.

    A SystemExit, since asyncio lets only that one out of whatever callback or task it was raised in.
    """

    def __init__(self, status: int | None) -> None:
        super().__init__(status)
        self.status = status  # None: the shutdown's own


class Coroutines:
    """Completes what the service's methods return, be it a value or a coroutine."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._inside = False

    def prepare(self, *methods: Callable[[], object]) -> None:
        """Before these methods run: if one is a coroutine, let asyncio set itself up.

        It does so under a lock, once, and a signal that comes just then would find the lock taken for ever.
        """
        codes = (getattr(method, "__code__", None) for method in methods)
        if any(code is not None and code.co_flags & CO_COROUTINE for code in codes):
            import asyncio

            asyncio.new_event_loop().close()

    def complete(self, result: object) -> object:
        """The value of a method that was called."""
        if not isinstance(result, Coroutine):
            return result
        import asyncio

        self._inside = True
        try:
            if self._runner is None:
                self._runner = asyncio.Runner()
            return self._runner.get_loop().run_until_complete(result)
        finally:
            self._inside = False

    @property
    def inside(self) -> bool:
        """An event loop, ours or one that the service runs itself, is on the stack."""
        return self._inside or _running_loop() is not None

    def unwind(self, status: int | None, *, at_once: bool) -> None:
        """Leave the event loop: at once, or as its next callback, which harms no task that is running now."""
        loop = _running_loop()
        if at_once or loop is None:
            raise Unwind(status)
        loop.call_soon_threadsafe(_raise, Unwind(status))

    def close(self) -> None:
        """Cancel what still runs in our loop and wait for its end."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


def _running_loop() -> "asyncio.AbstractEventLoop | None":
    imported = sys.modules.get("asyncio")
    try:
        return cast("asyncio.AbstractEventLoop", imported.get_running_loop()) if imported is not None else None
    except RuntimeError:
        return None


def _raise(unwinding: Unwind) -> None:
    raise unwinding
