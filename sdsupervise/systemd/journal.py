"""Log records as journal entries with fields, where standard error is the journal; systemd.exec(5), JOURNAL_STREAM.

systemd-python's own JournalHandler was rejected: it sends every attribute of a record as a field.
"""

import logging
import os
from collections.abc import Mapping

from ..errors import LibraryMissing

_LINES = 20
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def stderr_is_journal() -> bool:
    """What is written to standard error goes to the journal."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        here = os.fstat(2)
    except OSError:
        return False
    return stream == f"{here.st_dev}:{here.st_ino}"


def command_for_words_of(pid: int, since: float) -> list[str]:
    """The command that prints the last lines a process has written to the journal since a time of the epoch.

    journalctl rather than systemd-python's reader: whoever asks must not wait for a journal of gigabytes.
    """
    # Not --boot: in a sandbox within a container the boot that we see is another one than the journal's.
    options = ("--quiet", "--no-pager", "--output=cat", f"--lines={_LINES}", f"--since=@{int(since)}")
    return ["journalctl", *options, f"_PID={pid}"]


class JournalHandler(logging.Handler):
    """Sends MESSAGE, PRIORITY, where in the code, the fields given, and those of an event (events.py); nothing else of
    the record.

    Raises LibraryMissing.
    """

    def __init__(self, identifier: str, fields: Mapping[str, str]) -> None:
        super().__init__()
        # What systemd.journal.send() calls. The module around it imports the journal's reader, datetime and uuid too,
        # which would cost every supervisor 1 MB.
        try:
            from systemd._journal import sendv
        except ImportError:
            try:
                from systemd.journal import sendv
            except ImportError as error:
                raise LibraryMissing(error) from None
        self._send = sendv
        self._identifier = identifier
        self._fields = fields

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
            fields = {**self._fields, **getattr(record, "sdsupervise", {})}
            self._send(
                "MESSAGE=" + _utf8(self.format(record)),
                f"PRIORITY={priority}",
                f"SYSLOG_IDENTIFIER={self._identifier}",
                f"LOGGER={record.name}",
                f"CODE_FILE={record.pathname}",
                f"CODE_LINE={record.lineno}",
                f"CODE_FUNC={record.funcName}",
                *(f"{name}={_utf8(value)}" for name, value in fields.items()),
            )
        except Exception:
            self.handleError(record)


def _utf8(text: str) -> str:
    """What can be encoded: a path, and what names one, may hold any byte."""
    return text.encode(errors="backslashreplace").decode()
