"""sd_notify(3) for a worker: to systemd's socket, or to the socket that its supervisor keeps for it.

This imports nothing that takes time, because `sdsupervise ready` and `sdsupervise ping` start with it.
"""

import array

from ..linux.unpatched import os, socket

_MAX_BYTES = 4096  # systemd reads no more of one datagram

# Only our own programs send this. Its value says why the command could not be executed.
FAILED = "X_SDSUPERVISE_FAILED"
# Sent with the write end of a pipe, into which the supervisor writes ANSWER: at once, or with READY=1 when this worker
# may serve.
ASKS_ANSWER = "X_SDSUPERVISE_ANSWER"
ANSWER = b"ok\n"


# A worker's socket is DIRECTORY.PID.HEX/HEX, in the supervisor's runtime directory or in a temporary one.
DIRECTORY = "notify"
LONGEST_NAME = 16  # characters of a socket's name in its directory
_DIGITS = frozenset("0123456789abcdef")


def is_of_supervisor(path: str) -> bool:
    """Return whether a NOTIFY_SOCKET is that of a supervisor, and not systemd's or that of a container manager.

    The name decides, because it is part of the value: no other variable tells, since one may be set and the other not.
    Nothing else can tell at once: a datagram socket has no SO_PEERCRED, and what does not answer may only be slow.
    """
    *_, directory, name = ("", *path.split("/"))
    parts = directory.split(".")
    return len(parts) == 3 and parts[0] == DIRECTORY and len(name) == LONGEST_NAME and _DIGITS.issuperset(name)


def send(path: str, *assignments: str, fds: tuple[int, ...] = (), from_pid: int | None = None) -> None:
    """Send NAME=VALUE assignments in one datagram, with descriptors, or in the name of another process.

    `path` is that of NOTIFY_SOCKET; "@" means an abstract address. Raises OSError if no process receives there, and
    PermissionError if this process may not speak for another one.
    """
    address = "\0" + path[1:] if path.startswith("@") else path
    data = "\n".join(assignments).encode(errors="backslashreplace")[:_MAX_BYTES]
    data = data.decode(errors="ignore").encode()  # half a character at the end would make the whole datagram invalid
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        if from_pid is None:
            socket.send_fds(sender, [data], fds)
            return
        credentials = array.array("i", (from_pid, os.getuid(), os.getgid()))
        sender.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
