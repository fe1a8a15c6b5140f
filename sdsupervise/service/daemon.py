"""What a service author writes against: Daemon and SupervisedDaemon."""

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
# A service that changes its directory or environment must not change where its successor begins.
this_invocation()
directory_of_code()
if is_successor():
    tell_uncaught()
own_code.watch_script()  # for what it imports after us


class SupervisedDaemon(Daemon):
    """A daemon whose code runs in a worker, under a supervisor that starts it again and reloads it."""

    listen: Mapping[str, object] = {}  # name: address, or a mapping of options; see settings/listen.py
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
    sockets: Mapping[str, socket.socket] = {}  # what `listen` names, or a .socket unit, open

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)
        self.is_supervisor = True
        self.worker_index = 0  # which of the workers this one is: 0 to N-1
        self._link: Link | None = None
        self._link_in_loop: LinkInLoop | None = None
        self._asks_to_take_over = False
        self._released = False
        self._retiring = False
        self._draining = Draining()
        self._drains = False  # the service's code looks at that
        self._time_is_up = False

    @abstractmethod
    def supervised_process(self) -> Awaitable[None] | None:
        """The service's code, `async def` if you like. It runs in the worker; when it returns, the worker exits 0 and
        another is started, unless it was told to stop.

        Of a coroutine the event loop pings the supervisor by itself, as often as worker_timeout asks for.
        """

    @abstractmethod
    def supervised_shutdown(self) -> Awaitable[None] | None:
        """Runs in the worker when it is told to shut down, or calls error(); then the worker exits. Where the code
        looks at `draining`: when supervised_process has returned, or its time is up. It may be `async def`: then it
        runs in the event loop of supervised_process, if there is one."""

    @property
    def supervisor_pipe(self) -> socket.socket:
        """The worker's end of the socketpair to its supervisor.

        Raises SystemExit by error() where there is none.
        """
        if self._link is None:
            self.error("Supervisor pipe is not defined")
        return self._link.socket

    @property
    def draining(self) -> Draining:
        """Whether this worker was told to stop; to be asked, awaited or selected, see Draining.

        To look at it is to promise an end: a signal no longer shuts such a service down in the middle of whatever it
        does, once it serves. It goes on until supervised_process returns, or until shortly before the end of
        stop_timeout: two seconds, or a quarter of it if that is less. Then a coroutine is cancelled.
        """
        self._drains = True
        return self._draining

    def retire(self) -> None:
        """Ask to be replaced, once: in `overlap` by a worker that is started first, else by one that starts when this
        one has been told to stop and is gone. Until then it serves on. Outside of a worker: error()."""
        if self._link is None:
            self.error("Supervisor pipe is not defined")
        if not self._retiring:
            self._retiring = True
            self._link.tell_wish_to_retire()

    def ping_supervisor(self) -> Awaitable[None]:
        """Prove that both sides live: send "ping", wait for "pong". Without an answer, or outside of a worker: error().
        May be awaited."""
        if self._link is None:
            self.error("Supervisor pipe is not defined")
        try:
            self._link.ping()
        except LinkLost:
            self.error("The supervisor does not answer, it is dead")
        return _DONE

    def ready_to_take_over(self) -> Awaitable[None]:
        """Say that this worker is warmed up and wait for its turn; a second call returns at once.

        In the first generation the turn comes at once, in a reload when the old generation is gone. error() if the
        supervisor dies meanwhile. In a coroutine: `await self.ready_to_take_over()`. Its event loop goes on meanwhile,
        so a worker that forgets to await, and would serve out of turn, is ended at once.
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
        """Warn, shut down, and exit with 255, by SystemExit; the supervisor gives the message as the reason."""
        if self._link is not None:
            self._link.tell_failure(message)
        super().error(message)

    def handle_shutdown(self) -> int | None:
        """In the worker: supervised_shutdown. In the supervisor there is nothing to do: it stops its worker itself."""
        if not self.is_supervisor:
            self._coroutines.complete(self.supervised_shutdown())
        return 0

    # ------------------------------------------------------------------------------------------------- our side

    def become_worker(self, link: Link, *, waits: bool) -> None:
        """In the worker: what need not wait until the service's code may run. A spare has it done by then."""
        self.is_supervisor = waits  # as long as it does there is nothing to shut down
        self._link = link
        greenlets.renew_in_worker()
        self.sockets = greenlets.for_service(self.sockets)
        self._draining.renew_in_worker()
        self._coroutines.prepare(self.supervised_process, self.supervised_shutdown)

    def be_worker(self, *, index: int) -> None:
        """In the worker: run the service's code."""
        self.is_supervisor = False
        self.worker_index = index
        if not self._asks_to_take_over:
            self.ready_to_take_over()
        self._complete(self._serve)

    def drain_worker(self) -> None:
        """In the worker, told to stop by a signal, perhaps again: let the service's code come to its end if it knows
        how to, and as long as there is time; else shut down."""
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
        # A service that runs its own event loop has us in it for so long.
        link = self._link_in_loop or LinkInLoop(self._link, loop, on_loss=_stop_without_supervisor)
        try:
            await link.take_over()
            self._released = True
        except LinkLost:
            if not self._shutting_down:
                self.error("Failed to take over")
            await loop.create_future()  # nothing to say any more, and the shutdown needs this loop
        finally:
            if link is not self._link_in_loop:
                link.close()

    def _end_for_want_of_await(self, caller: FrameType) -> Callable[[], None]:
        where = f"{os.path.basename(caller.f_code.co_filename)}, line {caller.f_lineno}"

        def end() -> None:
            if self._shutting_down or self._draining:
                return  # it was cancelled before it began
            # An exception would be lost here, and what comes next in the service's code must not run.
            message = f"ready_to_take_over() in {where}, was not awaited; write: await self.ready_to_take_over()"
            if self._link is not None:
                self._link.tell_failure(message)
            _log.error("Ending: %s", message)
            processes.flush()
            os._exit(ExitStatus.SERVICE_ERROR)

        return end

    def prepare_workers(self, sockets: Mapping[str, socket.socket]) -> None:
        """What every worker is to know, before there is one."""
        if sockets:
            self.sockets = sockets
        # A worker whose code never calls ready_to_take_over is ready when it enters supervised_process, but must not
        # enter it before its turn. Where the call is hidden from us the class is asked to wait at the entry: safe, only
        # its warm-up comes late.
        self._asks_to_take_over = names_used(type(self), "ready_to_take_over")
        self._drains = self._drains or names_used(type(self), "draining")

    def run(self) -> int:
        """As Daemon."""
        status = super().run()
        # Half of what the other supervisor of a reload waits for this one beyond its stop_timeout.
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
            lambda context: ClassWorkers(context, self),
            settings,
            started,
            stop_signals=self.shutdown_signals,
            can_reload=plan.can_reload,
        )


def _number(value: object, otherwise: float) -> float:
    """A setting that may not have been checked yet."""
    return value if isinstance(value, int | float) and value > 0 else otherwise


class _Done:
    """What can be awaited, and is over already."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_DONE = _Done()


def _stop_without_supervisor() -> None:
    """As by the signal that the kernel sends when a parent dies, which a worker that has changed its user since it
    was forked does not get; prctl(2)."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.raise_signal(signal.SIGTERM)
