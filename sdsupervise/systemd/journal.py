"""Log records as journal entries with fields, where standard error is the journal; systemd.exec(5), JOURNAL_STREAM.

systemd-python's own JournalHandler was rejected: it sends every attribute of a record as a field.
"""

import logging
import os
from collections.abc import Mapping

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def stderr_is_journal() -> bool:
    """What is written to standard error goes to the journal."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        here = os.fstat(2)
    except OSError:
        return False
    return stream == f"{here.st_dev}:{here.st_ino}"


class JournalHandler(logging.Handler):
    """Sends MESSAGE, PRIORITY, where in the code, and the fields given; nothing else of the record."""

    def __init__(self, identifier: str, fields: Mapping[str, str]) -> None:
        super().__init__()
        from systemd import journal

        self._send = journal.send
        self._identifier = identifier
        self._fields = fields

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
            self._send(
                self.format(record),
                PRIORITY=str(priority),
                SYSLOG_IDENTIFIER=self._identifier,
                LOGGER=record.name,
                CODE_FILE=record.pathname,
                CODE_LINE=record.lineno,
                CODE_FUNC=record.funcName,
                **self._fields,
            )
        except Exception:
            self.handleError(record)
