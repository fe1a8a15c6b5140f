"""Log records as journal entries with fields, where standard error is the journal; systemd.exec(5), JOURNAL_STREAM.

systemd-python was rejected: its JournalHandler sends every attribute of a record as a field, and its sendv() waits for
a journald that does not read. What it speaks is the protocol of https://systemd.io/JOURNAL_NATIVE_PROTOCOL.
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
    """What is written to standard error goes to the journal."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        here = os.fstat(2)
    except OSError:
        return False
    return stream == f"{here.st_dev}:{here.st_ino}"


class Journal:
    """The socket that journald reads entries from. A worker waits for it, as for whatever else it writes to."""

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._connected = False
        self.backlog = Backlog(send=self._send, fileno=self._socket.fileno, notice=self._notice)
        self._about: Mapping[str, str] = {}

    def add(self, fields: Mapping[str, str]) -> None:
        """An entry."""
        self._about = fields
        packet = _packet(fields)
        if self.waits:
            try:
                self._send(packet)
            except OSError:
                pass  # there is no journald
        else:
            self.backlog.add(packet)

    def _send(self, packet: bytes) -> int:
        flags = socket.MSG_NOSIGNAL if self.waits else socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
        for is_last in (False, True):
            try:
                if not self._connected:
                    self._socket.connect(_ADDRESS)  # so that we are told when there is room
                    self._connected = True
                self._send_whole(packet, flags)
                break
            except BlockingIOError:
                raise
            except OSError:
                self._connected = False  # journald has a socket anew, or none
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
    """The command that prints the last lines a process has written to the journal since a time of the epoch; those
    that it wrote as this user, where that is not root, which may have become anybody.

    journalctl rather than systemd-python's reader: whoever asks must not wait for a journal of gigabytes.
    """
    # Not --boot: in a sandbox within a container the boot that we see is another one than the journal's.
    options = ("--quiet", "--no-pager", "--output=cat", f"--lines={_LINES}", f"--since=@{int(since)}")
    of_user = [f"_UID={uid}"] if uid else []
    return [program("journalctl"), *options, f"_PID={pid}", *of_user]


class JournalHandler(logging.Handler):
    """Sends MESSAGE, PRIORITY, where in the code, the fields given, and those of an event (catalog.py); nothing else of
    the record."""

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
    """In which a value of several lines has its length before it."""
    packet = bytearray()
    for name, text in fields.items():
        value = text.encode(errors="backslashreplace")  # a path, and what names one, may hold any byte
        if b"\n" in value:
            packet += b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
        else:
            packet += b"%s=%s\n" % (name.encode(), value)
    return bytes(packet)


def _sealed(packet: bytes) -> int:
    """A file in memory that nobody can change: what is too big for a datagram."""
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
