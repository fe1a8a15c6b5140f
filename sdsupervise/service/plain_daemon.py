"""A daemon without a supervisor, and what it has in common with a supervised one."""

import logging
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NoReturn

from ..child import greenlets
from ..child.coroutines import Coroutines, Unwind
from ..code import early_code
from ..code.code_version import read_code_version
from ..control import client
from ..errors import ExitStatus, SdsuperviseError, UsageError
from ..handover.failure_reason import tell_reason
from ..linux.inheritance import is_successor
from ..linux.signals import handle
from . import options
from .claim import Claim
from .failure import say_failure
from .plan import Plan
from .start import start

_log = logging.getLogger("sdsupervise")


class Daemon(ABC):
    """A daemon without a supervisor. Attributes may be set on the class, on the instance, or by keyword."""

    documentation: str = ""
    options: Sequence[Mapping[str, object]] = ()
    user: str | None = None
    group: str | None = None
    pid_file: str = ""  # --pid-file overrides it; "" is CLASS.pid in $RUNTIME_DIRECTORY or /run
    can_do_hot_reload: bool = False
    shutdown_signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    foreground: bool = False  # like --no-fork on each call; `sdsupervise run` sets it
    instance_name: str = ""  # replaces the class's name; `sdsupervise run NAME` sets it

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
        self._claimed: Claim | None = None

    @abstractmethod
    def handle_shutdown(self) -> int | None:
        """Shut down, after a shutdown signal or by error(). Returns the exit status; None is 0."""

    # Not abstract, because a SupervisedDaemon does not define it.
    def daemon_run(self, *parsed_args: str) -> Awaitable[int | None] | int | None:
        """The daemon's code; it may be `async def`. Returns the exit status; None is 0."""
        raise NotImplementedError(f"{type(self).__name__} must define daemon_run.")

    def get_option(self, name: str) -> object:
        """The value of an option, given or default: a bool, str, int or float by its option_type, or None.

        Raises KeyError for an unknown name.
        """
        if self._parsed is None:
            self._parse()
        assert self._parsed is not None
        return self._parsed.get(name)

    def usage(self) -> str:
        """The usage statement: the documentation and a sorted table of the options."""
        from .usage import parser_for

        return parser_for(self.script_name, self._documentation(), self.options).format_help()

    def error(self, message: str) -> NoReturn:
        """Warn, shut down (handle_shutdown), and exit with status 255 by SystemExit."""
        _log.warning("Shutting down: %s", message)
        self.shut_down(ExitStatus.SERVICE_ERROR)
        sys.exit(ExitStatus.SERVICE_ERROR)

    def run(self) -> int:
        """Parse the command line, lock the pid file, daemonize, drop privileges, and run. Returns the exit status.

        Under systemd (NOTIFY_SOCKET is set) it stays in the foreground. Raises no SdsuperviseError: an error is one
        sentence on standard error.
        """
        try:
            if not self._parse():
                return ExitStatus.OK
        except UsageError as error:
            tell_reason(error)  # only in a successor
            print(error if is_successor() else f"{error}\n\n{self.usage().rstrip()}", file=sys.stderr)
            return ExitStatus.FAILED  # the original's status; `sdsupervise` itself uses 64
        try:
            self._assure_code()
            return self._run()
        except SdsuperviseError as error:
            return say_failure(error)

    # ------------------------------------------------------------------------------- called by sdsupervise itself

    def plan(self) -> Plan | None:
        """The Plan of this daemon; None if its command line asked for help, which was printed.

        Raises UsageError.
        """
        return self._plan() if self._parse() else None

    def take_claim(self, claimed: Claim | None) -> None:
        """Set the claim that `sdsupervise run` made before it loaded this code; None if there is none."""
        self._claimed = claimed

    def _assure_code(self) -> None:
        """Make sure that the loaded code is the code on disk.

        Raises ServiceNotLoadable if it is not.
        """
        try:
            # A new execution would lose the claim and could not repeat it: the rights are gone.
            early_code.assure(type(self).__module__, may_execute_anew=self._claimed is None)
        except SdsuperviseError:
            if self._claimed is not None:
                self._claimed.give_back()
            raise

    def _run(self) -> int:
        started = start(self._plan(), self._claimed)
        if isinstance(started, int):
            return started
        handle(self.shutdown_signals, lambda _number, _frame: self.shut_down())
        started.notifier.send("READY=1")
        status = self._complete(lambda: self.daemon_run(*self.parsed_args))
        return status if isinstance(status, int) else 0

    def shut_down(self, status: int | None = None) -> None:
        """Call handle_shutdown and exit, with its value if `status` is None. Do nothing during a shutdown."""
        if self._shutting_down:
            return
        if self._coroutines.inside:
            # A signal must not end an arbitrary task; only error() does.
            self._coroutines.unwind(status, at_once=status is not None)
        elif status is not None or not greenlets.raise_in_main(Unwind(None)):
            self._exit_by_shutdown(status)

    def _exit_by_shutdown(self, status: int | None) -> NoReturn:
        self._shutting_down = True
        own_status = self.handle_shutdown() or 0
        sys.exit(own_status if status is None else status)

    def _complete(self, method: Callable[[], object]) -> object:
        """Run the service's code, a coroutine or not, to its end. Returns its value."""
        try:
            value = self._coroutines.complete(method())
            if self._shutdown_follows():
                self.shut_down()
            return value
        except Unwind as unwinding:
            self._exit_by_shutdown(unwinding.status)
        finally:
            self._shutting_down = True
            self._coroutines.close()

    def _shutdown_follows(self) -> bool:
        """Whether the shutdown runs also after the service's code has returned."""
        return False

    def _plan(self) -> Plan:
        return Plan(
            name=self.instance_name or type(self).__name__,
            read_code_version=lambda: read_code_version(type(self).__module__),
            pid_file=None if self.get_option("no-pid-file") else self.pid_file,
            user=self._text_option("user", self.user),
            group=self._text_option("group", self.group),
            silent=bool(self.get_option("no-warn")),
            detach=not (self.foreground or self.get_option("no-fork")),
            supervised=False,
            can_reload=False,
            is_instance=bool(self.instance_name),
            code=getattr(sys.modules[type(self).__module__], "__file__", None) or "",
        )

    def _text_option(self, name: str, default: str | None = None) -> str | None:
        """The option as given, even if it is empty: `--user "$UNSET"` must not mean root."""
        value = self.get_option(name)
        return default if value is None else str(value)

    def _parse(self) -> bool:
        """Parse the command line. Returns False if it asked for help, which was printed.

        Raises UsageError.
        """
        self._parsed = options.parse_plain(self.options, self.orig_args)
        if self._parsed is None:
            from . import usage

            parser = usage.parser_for(self.script_name, self._documentation(), self.options)
            self._parsed = usage.parse(parser, self.orig_args)
        self.parsed_args = self._parsed.rest
        name = self.instance_name or type(self).__name__
        self.pid_file = self._text_option("pid-file") or self.pid_file or client.default_pid_file(name)
        if self._parsed.get("help"):
            print(self.usage(), end="")
        return not self._parsed.get("help")

    def _documentation(self) -> str:
        return self.documentation or (type(self).__doc__ or "").strip()
