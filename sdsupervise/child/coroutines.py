"""Services written with `async def`: one event loop for the service's code, and then for its shutdown.

asyncio is imported only if there is a coroutine: it costs 60 ms and several MB.
"""

import signal
import sys
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import asyncio


CO_COROUTINE = 0x80  # inspect.CO_COROUTINE; importing inspect costs 2 MB


class Unwind(SystemExit):
    """Leaves the event loop before the shutdown, which may need that loop; a loop cannot be entered twice.

    It is a SystemExit, because asyncio lets only that pass from any callback or task.
    """

    def __init__(self, status: int | None) -> None:
        super().__init__(status)
        self.status = status  # None: the shutdown decides


class Coroutines:
    """Completes what the service's methods return, a value or a coroutine."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._task: asyncio.Task[object] | None = None
        self._inside = False
        self._cancelled = False
        self._unwinding: asyncio.Handle | None = None

    def prepare(self, *methods: Callable[[], object]) -> None:
        """Before these methods run: if one is a coroutine function, let asyncio initialise itself.

        asyncio does so once, under locks. If a signal handler that runs a coroutine interrupted it, it would wait for
        these locks for ever. So all signals are blocked meanwhile.
        """
        codes = (getattr(method, "__code__", None) for method in methods)
        if any(code is not None and code.co_flags & CO_COROUTINE for code in codes):
            before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                import asyncio

                asyncio.new_event_loop().close()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def complete(self, result: object) -> object:
        """Return the result of a method that was called; None for a coroutine that cancel() ended.

        Raises Unwind if that was requested as the method ended.
        """
        try:
            value = self._run(result) if isinstance(result, Coroutine) else result
        except BaseException:
            self._cancel_unwinding()
            raise
        if self._cancel_unwinding():
            raise Unwind(None)
        return value

    def _run(self, coroutine: "Coroutine[Any, Any, object]") -> object:
        import asyncio

        self._inside = True
        try:
            if self._runner is None:
                self._runner = asyncio.Runner()
            loop = self._runner.get_loop()
            self._task = loop.create_task(coroutine)
            return loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
            self._cancelled = False
            return None
        except Unwind:
            if self._task is not None and self._task.done():
                # It ended in the same round, and has requested a stop, which would end the loop's next run.
                self._task.cancelled() or self._task.exception()
                loop.stop()
                loop.run_forever()
            raise
        finally:
            self._task = None
            self._inside = False

    @property
    def inside(self) -> bool:
        """Whether an event loop is on the stack: ours, or one that the service runs itself."""
        return self._inside or running_loop() is not None

    def unwind(self, status: int | None, *, at_once: bool) -> None:
        """Leave the event loop: at once, or as its next callback, which does not interrupt a running task."""
        loop = running_loop()
        if at_once or loop is None:
            self._cancel_unwinding()
            raise Unwind(status)
        if self._unwinding is None:
            self._unwinding = loop.call_soon_threadsafe(self._unwind_now)

    def _unwind_now(self) -> None:
        self._unwinding = None
        raise Unwind(None)

    def _cancel_unwinding(self) -> bool:
        """Cancel a pending Unwind, which must not interrupt the shutdown; return whether there was one."""
        handle, self._unwinding = self._unwinding, None
        if handle is not None:
            handle.cancel()
        return handle is not None

    def cancel(self) -> bool:
        """Cancel the running coroutine, once; return False if there is none."""
        task = self._task
        if task is None:
            return False
        if not self._cancelled:
            self._cancelled = True
            task.get_loop().call_soon_threadsafe(task.cancel)
        return True

    def close(self) -> None:
        """Cancel what still runs in our loop, and wait for its end."""
        runner, self._runner = self._runner, None
        if runner is not None:
            # Its threads are waited for at the end of the process, like all others: not here, without a limit.
            runner.get_loop()._default_executor = None  # type: ignore[attr-defined]
            runner.close()


class MustBeAwaited:
    """Held only by a coroutine: notices if the coroutine is dropped, or does not start.

    Only a coroutine that has started can be relied on to delay its caller.
    """

    def __init__(self, loop: "asyncio.AbstractEventLoop", forgotten: Callable[[], None]) -> None:
        self.begun = False
        self._forgotten = forgotten
        # gather() and wait_for() start it in the loop's next round, so this looks in the round after that.
        myself = weakref.ref(self)
        loop.call_soon(loop.call_soon, _look_at, myself)

    def look(self) -> None:
        """Call back if the coroutine has not started."""
        if not self.begun:
            self._forgotten()

    __del__ = look


def _look_at(reference: "weakref.ref[MustBeAwaited]") -> None:
    promise = reference()
    if promise is not None:
        promise.look()


def running_loop() -> "asyncio.AbstractEventLoop | None":
    """Return the event loop that runs in this thread, or None."""
    imported = sys.modules.get("asyncio")
    try:
        return cast("asyncio.AbstractEventLoop", imported.get_running_loop()) if imported is not None else None
    except (RuntimeError, AttributeError):  # none runs, or asyncio is just being imported
        return None
