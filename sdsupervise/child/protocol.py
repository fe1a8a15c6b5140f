"""The messages between a worker and its supervisor, over the link: lines of ASCII.

    worker         supervisor
    ping           pong    at once, in every state
    takeover       ok      when this worker may serve; until then it waits
    stopping               it has received SIGTERM, and needs no nudge
    shutdown               it asks to be killed
    retire                 it asks to be replaced, and then to be stopped
    children               it ends; processes that it started may live on
    failed "text"          why it is about to die, a JSON string
    code [["name", "file", "hash"], …]
                           modules that its supervisor has not loaded
                   go 3    run the service's code now, as worker 3: the
                           peer supervisor knows of it (only if it must)

This turns bytes into messages, without a socket.
"""

from ..errors import ProtocolError

PING = b"ping\n"
PONG = b"pong\n"
TAKEOVER = b"takeover\n"
OK = b"ok\n"
STOPPING = b"stopping\n"
SHUTDOWN = b"shutdown\n"
RETIRE = b"retire\n"
CHILDREN = b"children\n"
GO = b"go "  # followed by the worker's index and a newline
FAILED = b"failed "  # followed by a JSON string and a newline
CODE = b"code "  # followed by a JSON list and a newline

MAX_LINE_BYTES = 64 * 1024  # more than printable.fit_failure leaves of a text


class LineReader:
    """Cuts a stream into lines, whatever pieces arrive."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that this data completes, each with its newline.

        Raises ProtocolError if a line is longer than MAX_LINE_BYTES.
        """
        if not self._rest and data.endswith(b"\n") and data.count(b"\n") == 1:
            return [data]  # the usual case: one whole message
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest = b""
            raise ProtocolError(f"A line of more than {MAX_LINE_BYTES} bytes arrived on a worker's link.")
        return [line + b"\n" for line in lines]
