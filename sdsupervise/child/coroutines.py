"""Services written with `async def`: one event loop for the service's code, and then for its shutdown.

asyncio is imported only where a coroutine turns up: it costs 60 ms and several MB.
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
        self._task: asyncio.Task[object] | None = None
        self._inside = False
        self._cancelled = False
        self._unwinding: asyncio.Handle | None = None

    def prepare(self, *methods: Callable[[], object]) -> None:
        """Before these methods run: if one is a coroutine, let asyncio set itself up.

        It does so under locks, once. A signal handler that shuts down by a coroutine must not find them taken, which
        would be for ever: so no signal comes meanwhile.
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
        """The value of a method that was called; None of a coroutine that cancel() ended.

        Raises Unwind where that was asked for as the method came to its end.
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
                # It came to its end in the same round, and has asked for a stop that the loop's next run would meet.
                self._task.cancelled() or self._task.exception()
                loop.stop()
                loop.run_forever()
            raise
        finally:
            self._task = None
            self._inside = False

    @property
    def inside(self) -> bool:
        """An event loop, ours or one that the service runs itself, is on the stack."""
        return self._inside or running_loop() is not None

    def unwind(self, status: int | None, *, at_once: bool) -> None:
        """Leave the event loop: at once, or as its next callback, which harms no task that is running now."""
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
        """One that is still to come must not go off in the middle of the shutdown; True if there was one."""
        handle, self._unwinding = self._unwinding, None
        if handle is not None:
            handle.cancel()
        return handle is not None

    def cancel(self) -> bool:
        """Cancel the coroutine that is being completed, once; False if there is none."""
        task = self._task
        if task is None:
            return False
        if not self._cancelled:
            self._cancelled = True
            task.get_loop().call_soon_threadsafe(task.cancel)
        return True

    def close(self) -> None:
        """Cancel what still runs in our loop and wait for its end."""
        runner, self._runner = self._runner, None
        if runner is not None:
            # Its threads are waited for as all others are, at the end of the process: not here, without a limit.
            runner.get_loop()._default_executor = None  # type: ignore[attr-defined]
            runner.close()


class MustBeAwaited:
    """Held by a coroutine alone, it notices when that is dropped, or left lying, without having begun.

    Only a coroutine that has begun may be counted on to hold up whoever called for it.
    """

    def __init__(self, loop: "asyncio.AbstractEventLoop", forgotten: Callable[[], None]) -> None:
        self.begun = False
        self._forgotten = forgotten
        # gather() and wait_for() begin it in the loop's next round, so this looks in the one after that.
        myself = weakref.ref(self)
        loop.call_soon(loop.call_soon, _look_at, myself)

    def look(self) -> None:
        """Call back if it has not begun."""
        if not self.begun:
            self._forgotten()

    __del__ = look


def _look_at(reference: "weakref.ref[MustBeAwaited]") -> None:
    promise = reference()
    if promise is not None:
        promise.look()


def running_loop() -> "asyncio.AbstractEventLoop | None":
    """The event loop that runs in this thread."""
    imported = sys.modules.get("asyncio")
    try:
        return cast("asyncio.AbstractEventLoop", imported.get_running_loop()) if imported is not None else None
    except (RuntimeError, AttributeError):  # none runs; asyncio is just being imported
        return None
