"""Every exception that sdsupervise raises, and the exit statuses of its processes.

The statuses follow sysexits(3). They stand in one table, so that `Restart=` and scripts can judge by the number.
"""

import sys
from collections.abc import Sequence
from enum import IntEnum


class ExitStatus(IntEnum):
    """An exit status of our processes. `meaning` says in a few words when it is used."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitStatus":
        """Make a status from its number, 0 to 255, and its meaning."""
        status = int.__new__(cls, value)
        status._value_, status.meaning = value, meaning
        return status

    OK = 0, "success"
    FAILED = 1, "not reloaded; not scaled; or lint found errors"
    USAGE = 64, "the command line is wrong"
    UNAVAILABLE = 69, "already running, not running, or the service never got ready"
    SOFTWARE = 70, "a bug in sdsupervise"
    IO_ERROR = 74, "standard output cannot be written"
    GAVE_UP = 75, "a crash loop"
    NOT_PERMITTED = 77, "the caller has no permission to do this, or the supervisor may not signal a worker"
    CONFIG = 78, "a setting is wrong, or the service cannot be loaded"
    TIMED_OUT = 124, "--timeout has passed, as with timeout(1); the reload goes on"
    INTERRUPTED = 130, "Ctrl-C; a reload goes on, and a service that is stopping is ended at once"
    SERVICE_ERROR = 255, "the service called `error()`"


class SdsuperviseError(Exception):
    """The base of our exceptions. The text is one sentence for the user: what happened, to what, and what to do.

    A process that ends by this exception exits with `exit_status`.
    """

    exit_status: ExitStatus = ExitStatus.SOFTWARE


class ConfigError(SdsuperviseError):
    """A setting has the wrong name, type or range."""

    exit_status = ExitStatus.CONFIG


class BadFile(ConfigError):
    """A file of an instance has mistakes. The text of the exception is the first of them.

    `mistakes` has one sentence for each, at least one; each begins with FILE:LINE:COLUMN.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        more = len(mistakes) - 1
        super().__init__(mistakes[0] + (f" (And {more} more mistake{'s' * (more > 1)} in this file.)" if more else ""))
        self.mistakes = list(mistakes)  # each one "FILE:LINE:COLUMN: sentence"
        # the mistakes that the text leaves out
        self.traceback_text = "".join(f"{mistake}\n" for mistake in mistakes[1:])


class ServiceNotLoadable(SdsuperviseError):
    """The service's code cannot be imported, or it has no such class. `traceback_text` is the traceback, "" without
    one."""

    exit_status = ExitStatus.CONFIG

    def __init__(self, message: str, *, traceback_text: str = "") -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


class UsageError(SdsuperviseError):
    """The command line is wrong."""

    exit_status = ExitStatus.USAGE


class CannotWrite(SdsuperviseError):
    """Standard output cannot be written: the disk is full, or the reader has closed the pipe."""

    exit_status = ExitStatus.IO_ERROR


class AlreadyRunning(SdsuperviseError):
    """A supervisor that runs already holds the lock on the pid file."""

    exit_status = ExitStatus.UNAVAILABLE


class PidFileError(SdsuperviseError):
    """The pid file cannot be opened, written or locked."""

    exit_status = ExitStatus.UNAVAILABLE


class ControlSocketError(SdsuperviseError):
    """The supervisor cannot listen on its control socket."""

    exit_status = ExitStatus.UNAVAILABLE


class ListenError(SdsuperviseError):
    """The supervisor cannot listen on a socket of the setting `listen`."""

    exit_status = ExitStatus.UNAVAILABLE


class LibraryMissing(SdsuperviseError):
    """A package that talks to systemd (sdnotify, systemd-python) is not installed for this Python."""

    exit_status = ExitStatus.UNAVAILABLE

    def __init__(self, error: ImportError) -> None:
        super().__init__(
            f"Under systemd, sdsupervise needs the Python packages sdnotify and systemd, which {sys.executable} "
            f"cannot import ({error}): apt-get install python3-sdnotify python3-systemd, and if this is a virtual "
            f"environment, make "
            "it with --system-site-packages."
        )


class NotRunning(SdsuperviseError):
    """No supervisor answers at the control socket."""

    exit_status = ExitStatus.UNAVAILABLE


class NotPermitted(SdsuperviseError):
    """The caller does not have the rights for this."""

    exit_status = ExitStatus.NOT_PERMITTED


class ReloadFailed(SdsuperviseError):
    """The reload was refused or rolled back. The old code serves, unless the service is stopping."""

    exit_status = ExitStatus.FAILED

    def __init__(self, message: str, *, because_of_stop: bool = False) -> None:
        super().__init__(message)
        self.because_of_stop = because_of_stop  # a stop ended the reload: soon nothing serves


class ReloadGoesOn(SdsuperviseError):
    """The client stops waiting for a reload, and the reload goes on. `exit_status` says why the client stops."""

    def __init__(self, message: str, exit_status: ExitStatus) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class ScaleRefused(SdsuperviseError):
    """The number of workers was not changed."""

    exit_status = ExitStatus.FAILED


class UnitUnavailable(SdsuperviseError):
    """There is no such unit, or systemd gives no information about it."""

    exit_status = ExitStatus.UNAVAILABLE


class CannotWrap(SdsuperviseError):
    """A unit cannot run under a supervisor as it is."""

    exit_status = ExitStatus.CONFIG


class CannotImport(SdsuperviseError):
    """What supervisord or a Procfile runs cannot become an instance, or its files cannot be written. The text names the
    file, and its line."""

    exit_status = ExitStatus.CONFIG


class HandoverError(SdsuperviseError):
    """The peer supervisor sent a message that cannot be used, or no message at all."""

    exit_status = ExitStatus.UNAVAILABLE


class NotReadable(SdsuperviseError):
    """A file cannot be read. The text says why, as the end of a sentence."""


class ProtocolError(SdsuperviseError):
    """A link or a socket carried bytes that are no message of our protocol."""

    exit_status = ExitStatus.UNAVAILABLE


class LinkLost(SdsuperviseError):
    """The supervisor at the far end of a worker's link is dead."""


class ImpossibleEvent(SdsuperviseError):
    """The takeover table has no rule for an event in this state. This is a bug of sdsupervise."""


class BeginsHere(BaseException):
    """Raised in a forked child that is a successor, and need not execute Python: it has today's code already.

    It goes on with these arguments and this environment, as if it had executed them. Nothing but main() catches this.
    """

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        super().__init__()
        self.argv, self.environment = argv, environment
