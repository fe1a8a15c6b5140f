"""sd_notify(3) for a worker: to systemd's socket, or to the socket that its supervisor keeps for it.

This imports nothing but the socket module, because `sdsupervise ready` and `sdsupervise ping` start with it.
"""

from ..linux.unpatched import socket

_MAX_BYTES = 4096  # systemd reads no more of one datagram

# Only our own programs send this. Its value says why the command could not be executed.
FAILED = "X_SDSUPERVISE_FAILED"
# Sent with the write end of a pipe, into which the supervisor writes ANSWER: at once, or with READY=1 when this worker
# may serve.
ASKS_ANSWER = "X_SDSUPERVISE_ANSWER"
ANSWER = b"ok\n"


def send(path: str, *assignments: str, fds: tuple[int, ...] = ()) -> None:
    """Send NAME=VALUE assignments in one datagram, with descriptors.

    `path` is that of NOTIFY_SOCKET; "@" means an abstract address. Raises OSError if no process receives there.
    """
    address = "\0" + path[1:] if path.startswith("@") else path
    data = "\n".join(assignments).encode(errors="backslashreplace")[:_MAX_BYTES]
    data = data.decode(errors="ignore").encode()  # half a character at the end would make the whole datagram invalid
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        socket.send_fds(sender, [data], fds)
