"""sd_notify(3) as a worker's side speaks it: to systemd's socket, or to the one that its supervisor keeps for it.

Nothing but the socket module is imported: `sdsupervise ready` and `sdsupervise ping` start with this.
"""

from ..linux.unpatched import socket

_MAX_BYTES = 4096  # systemd takes no more in one datagram

# What only our own programs send. The text says why the command could not be executed.
FAILED = "X_SDSUPERVISE_FAILED"
# With the write end of a pipe, which gets ANSWER and is closed: at once, or beside READY=1 when this worker may serve.
ASKS_ANSWER = "X_SDSUPERVISE_ANSWER"
ANSWER = b"ok\n"


def send(path: str, *assignments: str, fds: tuple[int, ...] = ()) -> None:
    """Send NAME=VALUE assignments in one datagram.

    Raises OSError when nobody listens.
    """
    address = "\0" + path[1:] if path.startswith("@") else path
    data = "\n".join(assignments).encode(errors="backslashreplace")[:_MAX_BYTES]
    data = data.decode(errors="ignore").encode()  # half a character at its end would spoil it all
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        socket.send_fds(sender, [data], fds)
