"""An HTTP server of the standard library's: run as a script it is the bare one, as a class it is supervised.

It answers with the moment it was imported, which tells old code from new.
"""

from __future__ import annotations

import os
import select
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TYPE_CHECKING = False  # typing would be an import that the bare server does not need
if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_ANSWER = b"%d\n" % time.monotonic_ns()


class _Request(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.server.between_requests.discard(self.connection)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(_ANSWER)))
        if self.server.stops:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(_ANSWER)
        self.server.between_requests.add(self.connection)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Answers on a socket that others may accept from as well."""

    daemon_threads = False  # server_close() waits for them

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(("", 0), _Request, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.socket.setblocking(False)  # another worker may be faster
        self.stops = False
        self.between_requests: set[socket.socket] = set()  # kept alive, after at least one answer

    def serve_until(self, stop: FileDescriptorLike) -> None:
        """Answer until `stop` is readable; then finish what has begun."""
        while True:
            readable, _, _ = select.select([self.socket, stop], [], [])
            if stop in readable:
                break
            self.handle_request()
        self.stops = True
        for connection in tuple(self.between_requests):
            try:
                connection.shutdown(socket.SHUT_RD)  # what is there already is still read, and answered
            except OSError:
                pass  # closed meanwhile
        self.server_close()

    def shutdown_request(self, request: object) -> None:
        """A connection is over."""
        assert isinstance(request, socket.socket)
        self.between_requests.discard(request)
        super().shutdown_request(request)


if __name__ == "__main__":
    never, _ = os.pipe()
    Server(socket.socket(fileno=3)).serve_until(never)
else:
    from sdsupervise import SupervisedDaemon

    class Web(SupervisedDaemon):
        """The same, in two workers."""

        can_do_hot_reload = True

        def supervised_process(self) -> None:
            """Serve until told to stop."""
            self.ready_to_take_over()
            Server(self.sockets["http"]).serve_until(self.draining)

        def supervised_shutdown(self) -> None:
            """All is done."""
