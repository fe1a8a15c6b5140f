"""What a service author writes against: Daemon and SupervisedDaemon (SEED.md, first table)."""

import logging
import os
import signal
import socket
import sys
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import CodeType, FunctionType
from typing import NoReturn

from . import launch, options
from .config import Settings
from .errors import ExitStatus, LinkLost, SdsuperviseError, UsageError
from .linux.inheritance import this_invocation
from .linux.signals import handle
from .supervisor import Supervisor
from .workers.coroutines import Coroutines, Unwind
from .workers.link import Link

_log = logging.getLogger("sdsupervise")
_DEFAULTS = Settings()
this_invocation()  # a service that changes its directory or environment must not change where its successor begins


class Daemon(ABC):
    """A daemon without a supervisor. Attributes may be set on the class, on the instance, or by keyword."""

    documentation: str = ""
    options: Sequence[Mapping[str, object]] = ()
    user: str | None = None
    group: str | None = None
    pid_file: str = ""  # --pid-file goes first; else CLASS.pid in $RUNTIME_DIRECTORY, or in /run
    can_do_hot_reload: bool = False
    shutdown_signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    foreground: bool = False  # as if --no-fork were always given; `sdsupervise run` sets it

    def __init__(self, **attributes: object) -> None:
        self.orig_args: list[str] = sys.argv[1:]
        self.script_name: str = os.path.basename(sys.argv[0]) or type(self).__name__
        for name, value in attributes.items():
            if not hasattr(self, name):
                raise TypeError(f"{type(self).__name__} has no attribute {name!r}.")
            setattr(self, name, value)
        self.parsed_args: list[str] = []
        self._parsed: options.Parsed | None = None
        self._shutting_down = False
        self._coroutines = Coroutines()
        self._blocks_loop = False

    @abstractmethod
    def handle_shutdown(self) -> int | None:
        """Shut down: called for a shutdown signal and by error(); its value is the exit status."""

    # Not abstract for SupervisedDaemon, whose daemon_run is the supervisor.
    def daemon_run(self, *parsed_args: str) -> Awaitable[int | None] | int | None:
        """The daemon's code, `async def` if you like; its value is the exit status."""
        raise NotImplementedError(f"{type(self).__name__} must define daemon_run.")

    def get_option(self, name: str) -> object:
        """The value of an option as given or by default.

        Raises KeyError for an unknown name.
        """
        if self._parsed is None:
            self._parse()
        assert self._parsed is not None
        return self._parsed.get(name)

    def usage(self) -> str:
        """The usage statement: documentation and a sorted table of the options."""
        return self._parser().format_help()

    def error(self, message: str) -> NoReturn:
        """Warn, shut down, and exit with 255."""
        _log.warning("Shutting down: %s", message)
        self.shut_down(ExitStatus.SERVICE_ERROR)
        sys.exit(ExitStatus.SERVICE_ERROR)

    def run(self) -> int:
        """Parse the command line, lock the pid file, daemonize, drop privileges, run; the exit status.

        Under systemd (NOTIFY_SOCKET is set) it stays in the foreground. Raises nothing of ours: what is wrong is
        said in one sentence on standard error.
        """
        try:
            if not self._parse():
                return ExitStatus.OK
        except UsageError as error:
            # A successor's last line is the reason its reload failed for.
            print(error if launch.is_successor() else f"{error}\n\n{self.usage().rstrip()}", file=sys.stderr)
            return ExitStatus.FAILED  # the original's status; `sdsupervise` itself uses 64
        try:
            return self._run()
        except SdsuperviseError as error:
            return launch.say_failure(error)

    # ------------------------------------------------------------------------------------------------- our side

    def _run(self) -> int:
        started = launch.start(self._plan())
        if isinstance(started, int):
            return started
        handle(self.shutdown_signals, lambda _number, _frame: self.shut_down())
        started.notifier.send("READY=1")
        status = self._complete(lambda: self.daemon_run(*self.parsed_args))
        return status if isinstance(status, int) else 0

    def shut_down(self, status: int | None = None) -> None:
        """Call handle_shutdown and exit, with its value if no status is given; nothing if that is going on already."""
        if self._shutting_down:
            return
        self._shutting_down = True
        if self._coroutines.inside:
            # A signal must not end whichever task it meets; only error(), and a wait that blocks the loop, do.
            self._coroutines.unwind(status, at_once=status is not None or self._blocks_loop)
        else:
            self._exit_by_shutdown(status)

    def _exit_by_shutdown(self, status: int | None) -> NoReturn:
        own_status = self.handle_shutdown() or 0
        sys.exit(own_status if status is None else status)

    def _complete(self, method: Callable[[], object]) -> object:
        """Run the service's code to its end, whether or not it is a coroutine."""
        try:
            return self._coroutines.complete(method())
        except Unwind as unwinding:
            self._exit_by_shutdown(unwinding.status)
        finally:
            self._coroutines.close()

    def _plan(self) -> launch.Plan:
        return launch.Plan(
            name=type(self).__name__,
            module=type(self).__module__,
            pid_file=None if self.get_option("no-pid-file") else self.pid_file,
            user=self._text_option("user", self.user),
            group=self._text_option("group", self.group),
            silent=bool(self.get_option("no-warn")),
            detach=not (self.foreground or self.get_option("no-fork")),
            supervised=False,
            can_reload=False,
        )

    def _text_option(self, name: str, default: str | None = None) -> str | None:
        """As given, also an empty one: `--user "$UNSET"` must not mean root."""
        value = self.get_option(name)
        return default if value is None else str(value)

    def _parse(self) -> bool:
        """Parse the command line; False if it asked for help, which has been given.

        Raises UsageError.
        """
        self._parsed = options.parse(self._parser(), self.orig_args)
        self.parsed_args = self._parsed.rest
        self.pid_file = self._text_option("pid-file") or self.pid_file or launch.default_pid_file(type(self).__name__)
        if self._parsed.get("help"):
            print(self.usage(), end="")
        return not self._parsed.get("help")

    def _parser(self) -> ArgumentParser:
        return options.parser_for(self.script_name, self._documentation(), self.options)

    def _documentation(self) -> str:
        return self.documentation or (type(self).__doc__ or "").strip()


class SupervisedDaemon(Daemon):
    """A daemon whose code runs in a worker, under a supervisor that starts it again and reloads it."""

    handover: str = _DEFAULTS.handover
    workers: int | str = _DEFAULTS.workers
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
    probation: float = _DEFAULTS.probation
    barrier_timeout: float = _DEFAULTS.barrier_timeout

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)
        self.is_supervisor = True
        self._link: Link | None = None
        self._released = False
        self._asks_to_take_over = False

    @abstractmethod
    def supervised_process(self) -> Awaitable[None] | None:
        """The service's code, `async def` if you like. It runs in the worker; when it returns, the worker exits 0 and
        another is started."""

    @abstractmethod
    def supervised_shutdown(self) -> Awaitable[None] | None:
        """Runs in the worker when it is told to shut down, or calls error(); then the worker exits. It may be
        `async def`: then it runs in the event loop of supervised_process, if there is one."""

    @property
    def supervisor_pipe(self) -> socket.socket:
        """The worker's end of the socketpair to its supervisor.

        Raises SystemExit by error() where there is none.
        """
        if self._link is None:
            self.error("Supervisor pipe is not defined")
        return self._link.socket

    def ping_supervisor(self) -> None:
        """Prove that both sides live: send "ping", wait for "pong". Without an answer: error()."""
        if self._link is None:
            self.error("Supervisor pipe is not defined")
        try:
            self._link.ping()
        except LinkLost:
            self.error("The supervisor does not answer, it is dead")

    def ready_to_take_over(self) -> None:
        """Say that this worker is warmed up and wait for its turn; a second call returns at once.

        In the first generation the turn comes at once, in a reload when the old generation is gone. error() if the
        supervisor dies meanwhile.
        """
        if self._link is None:
            self.error("Supervisor pipe is not defined")
        if self._released:
            return
        self._blocks_loop = True
        try:
            self._link.take_over()
        except LinkLost:
            self.error("Failed to take over")
        finally:
            self._blocks_loop = False
        self._released = True

    def error(self, message: str) -> NoReturn:
        """Warn, shut down, and exit with 255; the supervisor gives the message as the reason."""
        if self._link is not None:
            self._link.tell_failure(message)
        super().error(message)

    def handle_shutdown(self) -> int | None:
        """In the worker: supervised_shutdown. In the supervisor there is nothing to do: it stops its worker itself."""
        if not self.is_supervisor:
            self._coroutines.complete(self.supervised_shutdown())
        return 0

    # ------------------------------------------------------------------------------------------------- our side

    def be_worker(self, link: Link) -> None:
        """In the worker: run the service's code."""
        self.is_supervisor = False
        self._link = link
        self._coroutines.prepare(self.supervised_process, self.supervised_shutdown)
        if not self._asks_to_take_over:
            self.ready_to_take_over()
        self._complete(self.supervised_process)

    def _run(self) -> int:
        settings = launch.settings_of(self)
        started = launch.start(self._plan()._replace(supervised=True, can_reload=self.can_do_hot_reload))
        if isinstance(started, int):
            return started
        name, can_reload = type(self).__name__, self.can_do_hot_reload
        self._asks_to_take_over = _mentions(type(self), "ready_to_take_over")
        try:
            return Supervisor(name, self, settings, started, can_reload=can_reload).run()
        except Exception:
            _log.critical("A bug in sdsupervise, leaving; please report it", exc_info=True)
            return ExitStatus.SOFTWARE


def _mentions(cls: type, name: str) -> bool:
    """Some method a service's class defines uses a name.

    A worker whose code never calls ready_to_take_over is ready when it enters supervised_process, but must not enter
    it before its turn. Where the call is hidden from us (in a helper of another module) the class is asked to wait at
    the entry: safe, only its warm-up comes late.
    """
    functions = [
        member
        for base in cls.__mro__
        if base.__module__ != __name__
        for member in vars(base).values()
        if isinstance(member, FunctionType)
    ]
    codes: list[CodeType] = [function.__code__ for function in functions]
    while codes:
        code = codes.pop()
        if name in code.co_names:
            return True
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return False
