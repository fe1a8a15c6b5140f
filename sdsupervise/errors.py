"""Every exception sdsupervise raises, and the exit statuses they end in.

The statuses follow sysexits(3); one table here, so that `Restart=` and scripts can judge by number.
"""

import sys
from collections.abc import Sequence
from enum import IntEnum


class ExitStatus(IntEnum):
    """What our processes exit with."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitStatus":
        """A status and what it means."""
        status = int.__new__(cls, value)
        status._value_, status.meaning = value, meaning
        return status

    OK = 0, "all went well"
    FAILED = 1, "not reloaded; not scaled; or lint found errors"
    USAGE = 64, "the command line is wrong"
    UNAVAILABLE = 69, "already running, not running, or the service never got ready"
    SOFTWARE = 70, "a bug of ours"
    IO_ERROR = 74, "standard output cannot be written"
    GAVE_UP = 75, "a crash loop"
    NOT_PERMITTED = 77, "the caller may not do this"
    CONFIG = 78, "a setting is wrong, or the service cannot be loaded"
    TIMED_OUT = 124, "--timeout has passed, as with timeout(1); the reload goes on"
    INTERRUPTED = 130, "Ctrl-C; a reload goes on, and a service that is stopping is ended at once"
    SERVICE_ERROR = 255, "`error()` of a service, as in the original"


class SdsuperviseError(Exception):
    """Base of our errors: its text is one sentence for a person (what, where, what to do)."""

    exit_status: ExitStatus = ExitStatus.SOFTWARE


class ConfigError(SdsuperviseError):
    """A setting has the wrong name, type or range."""

    exit_status = ExitStatus.CONFIG


class BadFile(ConfigError):
    """A file of an instance is wrong; the text is the first mistake in it."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        more = len(mistakes) - 1
        super().__init__(mistakes[0] + (f" (And {more} more mistake{'s' * (more > 1)} in this file.)" if more else ""))
        self.mistakes = list(mistakes)  # FILE:LINE:COLUMN: a sentence
        self.traceback_text = "".join(f"{mistake}\n" for mistake in mistakes[1:])  # what the sentence leaves out


class ServiceNotLoadable(SdsuperviseError):
    """The service's code could not be imported, or holds no such class."""

    exit_status = ExitStatus.CONFIG

    def __init__(self, message: str, *, traceback_text: str = "") -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


class UsageError(SdsuperviseError):
    """The command line is wrong."""

    exit_status = ExitStatus.USAGE


class CannotWrite(SdsuperviseError):
    """Standard output takes no more."""

    exit_status = ExitStatus.IO_ERROR


class AlreadyRunning(SdsuperviseError):
    """Another supervisor holds the pid file's lock."""

    exit_status = ExitStatus.UNAVAILABLE


class PidFileError(SdsuperviseError):
    """The pid file cannot be opened, written or locked."""

    exit_status = ExitStatus.UNAVAILABLE


class ControlSocketError(SdsuperviseError):
    """The control socket cannot be listened on."""

    exit_status = ExitStatus.UNAVAILABLE


class ListenError(SdsuperviseError):
    """A socket cannot be listened on."""

    exit_status = ExitStatus.UNAVAILABLE


class LibraryMissing(SdsuperviseError):
    """What talks to systemd is not installed for this Python."""

    exit_status = ExitStatus.UNAVAILABLE

    def __init__(self, error: ImportError) -> None:
        super().__init__(
            f"Under systemd sdsupervise needs the Python packages sdnotify and systemd, which {sys.executable} has not "
            f"({error}): apt-get install python3-sdnotify python3-systemd, and if this is a virtual environment, make "
            "it with --system-site-packages."
        )


class NotRunning(SdsuperviseError):
    """Nobody answers at the control socket."""

    exit_status = ExitStatus.UNAVAILABLE


class NotPermitted(SdsuperviseError):
    """The caller may not do this."""

    exit_status = ExitStatus.NOT_PERMITTED


class ReloadFailed(SdsuperviseError):
    """The reload was refused or rolled back; the old code serves."""

    exit_status = ExitStatus.FAILED

    def __init__(self, message: str, *, because_of_stop: bool = False) -> None:
        super().__init__(message)
        self.because_of_stop = because_of_stop  # then nothing serves for long


class ReloadGoesOn(SdsuperviseError):
    """Nobody waits for the verdict any more."""

    def __init__(self, message: str, exit_status: ExitStatus) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class ScaleRefused(SdsuperviseError):
    """There are as many workers as before."""

    exit_status = ExitStatus.FAILED


class UnitUnavailable(SdsuperviseError):
    """There is no such unit, or systemd does not tell of it."""

    exit_status = ExitStatus.UNAVAILABLE


class CannotWrap(SdsuperviseError):
    """A unit cannot work under a supervisor as it is."""

    exit_status = ExitStatus.CONFIG


class HandoverError(SdsuperviseError):
    """The other supervisor sent something we cannot use, or nothing at all."""

    exit_status = ExitStatus.UNAVAILABLE


class NotReadable(SdsuperviseError):
    """A file that cannot be read; the text says why, as the end of a sentence."""


class ProtocolError(SdsuperviseError):
    """Bytes on a link or socket that are no message of ours."""

    exit_status = ExitStatus.UNAVAILABLE


class LinkLost(SdsuperviseError):
    """The supervisor at the other end of a worker's link is gone."""


class ImpossibleEvent(SdsuperviseError):
    """The takeover table has no answer to an event: a bug of ours."""
