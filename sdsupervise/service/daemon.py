"""The classes for authors of services: Daemon and SupervisedDaemon."""

import logging
import os
import signal
import socket
import sys
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from ..child import greenlets
from ..child.coroutines import MustBeAwaited, running_loop
from ..child.draining import Draining
from ..child.link import Link, LinkInLoop
from ..child.process_end import end_on_time, grace_of, warn_of_threads
from ..code import own_code
from ..code.code_names import names_used
from ..errors import ExitStatus, LinkLost
from ..linux import processes
from ..linux.inheritance import directory_of_code, is_successor, this_invocation
from ..linux.signals import interrupt_later
from ..settings.settings import Settings, settings_of
from ..supervisor.supervise import supervise
from ..workers.class_source import ClassWorkers
from .failure import tell_uncaught
from .plain_daemon import Daemon
from .start import start

if TYPE_CHECKING:
    import asyncio

__all__ = ["Daemon", "SupervisedDaemon"]

_log = logging.getLogger("sdsupervise")
_DEFAULTS = Settings()
# If a service changes its directory or environment, its successor must still start in the original ones.
this_invocation()
directory_of_code()
if is_successor():
    tell_uncaught()
own_code.watch_script()  # watches what the script imports after this module


class SupervisedDaemon(Daemon):
    """A daemon whose code runs in a worker. A supervisor restarts the worker when it dies, and reloads it."""

    listen: Mapping[str, object] = {}  # name to address, or to a mapping of options; see settings/listen.py
    handover: str = _DEFAULTS.handover
    workers: int | str = _DEFAULTS.workers
    max_workers: int = _DEFAULTS.max_workers
    delay_before_respawn: float = _DEFAULTS.delay_before_respawn
    respawn_backoff_limit: float = _DEFAULTS.respawn_backoff_limit
    respawn_forgiven_after: float = _DEFAULTS.respawn_forgiven_after
    crash_limit: int = _DEFAULTS.crash_limit
    crash_window: float = _DEFAULTS.crash_window
    start_timeout: float = _DEFAULTS.start_timeout
    worker_timeout: float = _DEFAULTS.worker_timeout
    stop_timeout: float = _DEFAULTS.stop_timeout
    max_lifetime: float = _DEFAULTS.max_lifetime
    max_memory: int | str = _DEFAULTS.max_memory
    reload_timeout: float = _DEFAULTS.reload_timeout
    takeover_timeout: float = _DEFAULTS.takeover_timeout
    before_commit: Sequence[str] = _DEFAULTS.before_commit
    before_commit_timeout: float = _DEFAULTS.before_commit_timeout
    before_commit_each: bool = _DEFAULTS.before_commit_each
    probation: float = _DEFAULTS.probation
    barrier_timeout: float = _DEFAULTS.barrier_timeout
    notify_command: Sequence[str] = _DEFAULTS.notify_command
    notify_timeout: float = _DEFAULTS.notify_timeout
    sockets: Mapping[str, socket.socket] = {}  # the open sockets of `listen` or of a .socket unit, by name

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)
        self.is_supervisor = True
        self.worker_index = 0  # the index of this worker: 0 to N-1
        self._link: Link | None = None
        self._link_in_loop: LinkInLoop | None = None
        self._asks_to_take_over = False
        self._released = False
        self._retiring = False
        self._draining = Draining()
        self._drains = False  # the service's code uses `draining`
        self._time_is_up = False

    @abstractmethod
    def supervised_process(self) -> Awaitable[None] | None:
        """The service's code; it may be `async def`. It runs in the worker.

        When it returns, the worker exits with status 0, and the supervisor starts another one, unless it asked this
        worker to stop. For a coroutine the event loop sends the pings that worker_timeout asks for.
        """

    @abstractmethod
    def supervised_shutdown(self) -> Awaitable[None] | None:
        """Clean up in the worker, after a stop signal or by error(); then the worker exits.

        If the code uses `draining`, this runs when supervised_process has returned or its time is up. It may be
        `async def`: then it runs in the event loop of supervised_process, if there is one.
        """

    @property
    def supervisor_pipe(self) -> socket.socket:
        """The worker's end of the socketpair to its supervisor.

        Raises SystemExit, by error(), if this process is no worker.
        """
        if self._link is None:
            self.error("Supervisor pipe is not defined")
        return self._link.socket

    @property
    def draining(self) -> Draining:
        """Whether this worker was asked to stop; it can be tested, awaited or selected on, see Draining.

        A service that uses it promises to end by itself. Once it serves, a stop signal does not interrupt it any more.
        It runs until supervised_process returns, or until shortly before the end of stop_timeout: two seconds before,
        or a quarter of stop_timeout if that is less. Then a coroutine is cancelled, other code is shut down.
        """
        self._drains = True
        return self._draining

    def retire(self) -> None:
        """Ask the supervisor once to replace this worker, which serves until then.

        In `overlap` the other worker starts first. In `exclusive` this one is stopped first. Calls error() if this
        process is no worker.
        """
        if self._link is None:
            self.error("Supervisor pipe is not defined")
        if not self._retiring:
            self._retiring = True
            self._link.tell_wish_to_retire()

    def ping_supervisor(self) -> Awaitable[None]:
        """Prove that worker and supervisor both live: send "ping", wait for "pong". It may be awaited.

        Calls error() if no answer comes, or this process is no worker.
        """
        if self._link is None:
            self.error("Supervisor pipe is not defined")
        try:
            self._link.ping()
        except LinkLost:
            self.error("The supervisor does not answer, it is dead")
        return _DONE

    def ready_to_take_over(self) -> Awaitable[None]:
        """Report that this worker is ready, and wait until it may serve. A second call returns at once.

        In the first generation that is at once, in a reload when the old generation is gone. Calls error() if the
        supervisor dies meanwhile.

        In a coroutine, write `await self.ready_to_take_over()`. The event loop continues meanwhile. A worker that omits
        `await` would serve too early, and is ended at once.
        """
        if self._link is None:
            self.error("Supervisor pipe is not defined")
        if self._released:
            return _DONE
        loop = running_loop()
        if loop is not None:
            return self._await_turn(loop, MustBeAwaited(loop, self._end_for_want_of_await(sys._getframe(1))))
        try:
            self._link.take_over()
        except LinkLost:
            self.error("Failed to take over")
        self._released = True
        return _DONE

    def error(self, message: str) -> NoReturn:
        """Warn, shut down, and exit with status 255 by SystemExit. The supervisor reports the message as the reason."""
        if self._link is not None:
            self._link.tell_failure(message)
        super().error(message)

    def handle_shutdown(self) -> int | None:
        """Call supervised_shutdown in a worker. Do nothing in the supervisor, which stops its workers itself."""
        if not self.is_supervisor:
            self._coroutines.complete(self.supervised_shutdown())
        return 0

    # ------------------------------------------------------------------------------- called by sdsupervise itself

    def become_worker(self, link: Link, *, waits: bool) -> None:
        """Prepare this process as a worker, as far as that is possible before the service's code may run."""
        self.is_supervisor = waits  # while it waits there is nothing to shut down
        self._link = link
        greenlets.renew_in_worker()
        self.sockets = greenlets.for_service(self.sockets)
        self._draining.renew_in_worker()
        self._coroutines.prepare(self.supervised_process, self.supervised_shutdown)

    def be_worker(self, *, index: int) -> None:
        """Run the service's code in this worker."""
        self.is_supervisor = False
        self.worker_index = index
        if not self._asks_to_take_over:
            self.ready_to_take_over()
        self._complete(self._serve)

    def drain_worker(self) -> None:
        """Handle a stop signal in the worker; it may come again.

        Lets the service's code end by itself if it uses `draining` and time is left; else shuts down.
        """
        first = not self._draining
        self._draining.begin()
        if not (self._drains and self._released and self.stop_timeout):
            self.shut_down()
        elif first:
            interrupt_later(self.stop_timeout - grace_of(self.stop_timeout), signal.SIGTERM, self._note_that_time_is_up)
        elif self._time_is_up and not self._shutting_down and not self._coroutines.cancel():
            self.shut_down()

    def _note_that_time_is_up(self) -> None:
        self._time_is_up = True

    def _serve(self) -> object:
        result = self.supervised_process()
        return self._serve_in_loop(result) if isinstance(result, Coroutine) else result

    async def _serve_in_loop(self, process: Coroutine[Any, Any, object]) -> None:
        loop = running_loop()
        assert loop is not None and self._link is not None
        self._link_in_loop = LinkInLoop(self._link, loop, on_loss=_stop_without_supervisor)
        if self.worker_timeout:
            self._link_in_loop.ping_every(self.worker_timeout / 3)
        await process

    def _shutdown_follows(self) -> bool:
        return bool(self._draining)

    async def _await_turn(self, loop: "asyncio.AbstractEventLoop", promise: MustBeAwaited) -> None:
        promise.begun = True
        assert self._link is not None
        # A service that runs its own event loop needs this link only while it waits.
        link = self._link_in_loop or LinkInLoop(self._link, loop, on_loss=_stop_without_supervisor)
        try:
            await link.take_over()
            self._released = True
        except LinkLost:
            if not self._shutting_down:
                self.error("Failed to take over")
            await loop.create_future()  # never returns: the shutdown still needs this loop
        finally:
            if link is not self._link_in_loop:
                link.close()

    def _end_for_want_of_await(self, caller: FrameType) -> Callable[[], None]:
        where = f"{os.path.basename(caller.f_code.co_filename)}, line {caller.f_lineno}"

        def end() -> None:
            if self._shutting_down or self._draining:
                return  # the coroutine was cancelled before it began
            # An exception would be lost here, and the next line of the service's code must not run.
            message = f"ready_to_take_over() in {where}, was not awaited; write: await self.ready_to_take_over()"
            if self._link is not None:
                self._link.tell_failure(message)
            _log.error("Ending: %s", message)
            processes.flush()
            os._exit(ExitStatus.SERVICE_ERROR)

        return end

    def prepare_workers(self, sockets: Mapping[str, socket.socket]) -> None:
        """Set what all workers need, before the first one is forked."""
        if sockets:
            self.sockets = sockets
        # Code that never calls ready_to_take_over is ready when it enters supervised_process, which must wait for its
        # turn. If the analysis does not find the call, the class waits at the entry: safe, with a late warm-up.
        self._asks_to_take_over = names_used(type(self), "ready_to_take_over")
        self._drains = self._drains or names_used(type(self), "draining")

    def run(self) -> int:
        """See Daemon.run."""
        status = super().run()
        # Half of the time that the peer waits for our exit beyond stop_timeout.
        end_on_time(status, exit_seconds=_number(self.takeover_timeout, _DEFAULTS.takeover_timeout) / 2)
        return status

    def _run(self) -> int:
        settings = settings_of(self)
        plan = self._plan()._replace(
            supervised=True,
            can_reload=self.can_do_hot_reload,
            listen=settings.listen,
            overlaps=settings.overlaps,
            checked=settings.checked_beside,
        )
        started = start(plan, self._claimed)
        if isinstance(started, int):
            return started
        self.prepare_workers(started.listeners)
        warn_of_threads()
        return supervise(
            plan.name,
            settings,
            started,
            source=lambda context: ClassWorkers(context, self),
            stop_signals=self.shutdown_signals,
            can_reload=plan.can_reload,
        )


def _number(value: object, otherwise: float) -> float:
    """The value of a setting that may not be checked yet; `otherwise` if it is no positive number."""
    return value if isinstance(value, int | float) and value > 0 else otherwise


class _Done:
    """An awaitable that is already done."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_DONE = _Done()


def _stop_without_supervisor() -> None:
    """Stop as by the signal that the kernel sends when a parent dies (prctl(2), PR_SET_PDEATHSIG).

    A worker that has changed its user since the fork does not get that signal.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.raise_signal(signal.SIGTERM)
