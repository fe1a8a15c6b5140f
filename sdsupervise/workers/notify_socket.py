"""The NOTIFY_SOCKET of one command worker: the supervisor receives, in place of systemd, what sd_notify(3) sends.

A worker may become another user before it says READY=1, and a daemon that opens a port below 1024 does. So every user
may connect to the socket, if he knows its path. The path is a secret of the supervisor, the worker and its children:
nobody else may list the directory, and the kernel's list of sockets (/proc/net/unix) shows the name before a rename. So
other users cannot even fill the queue.

The kernel names the pid and the uid of each process that sends here (SCM_CREDENTIALS, unix(7)). The supervisor believes
root and its own user, which could do worse to the worker anyway. It believes any other user only for a process of this
worker.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ProtocolError
from ..input.checked import MOST_FDS
from ..linux import privileges, process_groups, processes
from ..linux.channel import Sender, receive
from ..linux.unpatched import os, socket
from ..systemd.notify_client import LONGEST_NAME

MODE_OF_DIRECTORY = 0o711  # all may reach a path that they know, and none may list the paths
_MAX_BYTES = 4096  # of one datagram; systemd's limit


class Notification(NamedTuple):
    """One datagram, parsed as in systemd's service_notify_message(). The receiver owns the descriptors."""

    lines: Sequence[bytes]
    fds: list[int]
    sender: Sender | None

    def says(self, line: bytes) -> bool:
        """Whether this line is among them."""
        return line in self.lines

    def value(self, name: bytes) -> bytes | None:
        """The value of the first NAME= line; None if there is none."""
        start = name + b"="
        return next((line[len(start) :] for line in self.lines if line.startswith(start)), None)

    def close_fds(self) -> None:
        """Close all descriptors. For BARRIER=1 that is the answer."""
        while self.fds:
            os.close(self.fds.pop())


class NotifySocket:
    """The receiving end: a non-blocking, close-on-exec datagram socket."""

    def __init__(self, directory: str) -> None:
        """Bind a new socket in a directory with MODE_OF_DIRECTORY.

        Raises OSError.
        """
        self.path = f"{directory}/{os.urandom(LONGEST_NAME // 2).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        public = f"{directory}/new"
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            os.fchmod(self._socket.fileno(), 0o600)  # bind() gives the file this mode, while its name can be guessed
            self._socket.bind(public)
            os.rename(public, self.path)
            os.chmod(self.path, 0o666)
        except OSError:
            self.close()
            _unlink(public)
            raise

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._socket.fileno()

    def receive(self) -> Notification | None:
        """The next datagram; None if there is none now.

        Raises ProtocolError for a datagram that systemd would reject too.
        """
        try:
            received = receive(self._socket, _MAX_BYTES, MOST_FDS, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        notification = Notification(lines(received.data), received.fds, received.sender)
        if received.cut_short:
            notification.close_fds()
            raise ProtocolError(f"A notification came of more than {_MAX_BYTES} bytes, or {MOST_FDS} descriptors.")
        if b"\0" in received.data[:-1]:
            notification.close_fds()
            raise ProtocolError("A notification came with a NUL byte in it.")
        return notification

    def close(self) -> None:
        """Close the socket and remove its file."""
        self._socket.close()
        _unlink(self.path)


def may_speak(sender: Sender | None, worker_pid: int, mark: int) -> bool:
    """Return whether the supervisor believes this sender about this worker, which has this mark."""
    if sender is None:
        return False
    if sender.pid == worker_pid or sender.uid in _trusted():
        return True
    if sender.pid <= 0:
        return False
    if process_groups.is_in_session(sender.pid, worker_pid):
        return True
    return sender.uid == processes.uid_of(worker_pid) and process_groups.has_mark(sender.pid, mark)


@functools.cache
def _trusted() -> frozenset[int]:
    """Return the uids of which every process is believed."""
    own = os.geteuid()
    return frozenset({0, own} if privileges.is_unambiguous(own) else {0})


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # the unit's runtime directory may already be gone


def lines(data: bytes) -> list[bytes]:
    """The non-empty lines. Each ends at \\n or \\r; one NUL byte may follow the last."""
    return [line for line in data.removesuffix(b"\0").replace(b"\r", b"\n").split(b"\n") if line]
