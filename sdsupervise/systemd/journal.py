"""Log records as journal entries with fields, if standard error is the journal: systemd.exec(5), JOURNAL_STREAM.

systemd-python was rejected: its JournalHandler sends every attribute of a record as a field, and its sendv() waits for
a journald that does not read. This module speaks journald's protocol, https://systemd.io/JOURNAL_NATIVE_PROTOCOL.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Mapping

from ..linux.backlog import Backlog
from ..linux.unpatched import socket
from .own_programs import program

_LINES = 20
_ADDRESS = "/run/systemd/journal/socket"
_BUFFER_BYTES = 8 * 1024 * 1024  # as sd_journal_send(3) asks for; the kernel gives what it allows
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def stderr_is_journal() -> bool:
    """Return whether standard error goes to the journal, as $JOURNAL_STREAM says."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        here = os.fstat(2)
    except OSError:
        return False
    return stream == f"{here.st_dev}:{here.st_ino}"


class Journal:
    """The socket from which journald reads entries. With `waits`, as in a worker, sending blocks until journald
    reads."""

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._connected = False
        self.backlog = Backlog(send=self._send, fileno=self._socket.fileno, notice=self._notice)
        self._about: Mapping[str, str] = {}

    def add(self, fields: Mapping[str, str]) -> None:
        """Send an entry with these fields. Without `waits` it is kept, or dropped, while journald does not read."""
        self._about = fields
        packet = _packet(fields)
        if self.waits:
            try:
                self._send(packet)
            except OSError:
                pass  # no journald runs
        else:
            self.backlog.add(packet)

    def _send(self, packet: bytes) -> int:
        flags = socket.MSG_NOSIGNAL if self.waits else socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
        for is_last in (False, True):
            try:
                if not self._connected:
                    self._socket.connect(_ADDRESS)  # only a connected socket becomes writable when journald reads
                    self._connected = True
                self._send_whole(packet, flags)
                break
            except BlockingIOError:
                raise
            except OSError:
                self._connected = False  # journald has opened a new socket, or is gone
                if is_last:
                    raise
        return len(packet)

    def _send_whole(self, packet: bytes, flags: int) -> None:
        try:
            self._socket.send(packet, flags)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            fd = _sealed(packet)
            try:
                socket.send_fds(self._socket, [b""], [fd], flags)
            finally:
                os.close(fd)

    def _notice(self, entries: int) -> bytes:
        text = f"{entries} log entr{'ies' if entries != 1 else 'y'} dropped, because journald took no more"
        kept = ("SYSLOG_IDENTIFIER", "LOGGER", "SDSUPERVISE_ROLE", "SDSUPERVISE_GENERATION")
        return _packet({"MESSAGE": text, "PRIORITY": "4", **{k: v for k, v in self._about.items() if k in kept}})


def command_for_words_of(pid: int, since: float, *, uid: int = 0) -> list[str]:
    """Return the command that prints the last 20 lines that a process has written to the journal, the last one first.

    With --since and without --reverse, journalctl would print the first 20 lines. `oldest_first` puts them in order.

    `since` is in seconds since the epoch. A `uid` other than 0 selects the lines that this user wrote: a process that
    began as root may have changed its user. This is journalctl rather than systemd-python's reader, because the caller
    must not wait for a journal of gigabytes.
    """
    # Not --boot: in a container's sandbox, our boot id differs from the journal's.
    options = ("--quiet", "--no-pager", "--output=cat", "--reverse", f"--lines={_LINES}", f"--since=@{int(since)}")
    of_user = [f"_UID={uid}"] if uid else []
    return [program("journalctl"), *options, f"_PID={pid}", *of_user]


def oldest_first(output: str) -> str:
    """Return the output of command_for_words_of in the order in which it was written."""
    return "\n".join(reversed(output.splitlines()))


class JournalHandler(logging.Handler):
    """Sends each log record as an entry: MESSAGE, PRIORITY, its place in the code, the given fields, and an event's
    fields.

    Other attributes of the record are not sent.
    """

    def __init__(self, journal: Journal, identifier: str, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._journal, self._identifier, self._fields = journal, identifier, fields

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            self._journal.add(
                {
                    "MESSAGE": self.format(record),
                    "PRIORITY": str(next((number for level, number in _PRIORITIES if record.levelno >= level), 7)),
                    "SYSLOG_IDENTIFIER": self._identifier,
                    "LOGGER": record.name,
                    "CODE_FILE": record.pathname,
                    "CODE_LINE": str(record.lineno),
                    "CODE_FUNC": record.funcName or "",
                    **self._fields,
                    **getattr(record, "sdsupervise", {}),
                }
            )
        except Exception:
            self.handleError(record)


def _packet(fields: Mapping[str, str]) -> bytes:
    """Return the entry in journald's protocol, where the length stands before a value of several lines."""
    packet = bytearray()
    for name, text in fields.items():
        value = text.encode(errors="backslashreplace")  # a path may contain any byte
        if b"\n" in value:
            packet += b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
        else:
            packet += b"%s=%s\n" % (name.encode(), value)
    return bytes(packet)


def _sealed(packet: bytes) -> int:
    """Return a descriptor of a sealed memfd with an entry that is too large for a datagram; memfd_create(2)."""
    fd = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(packet)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(fd)
        raise
    return fd
