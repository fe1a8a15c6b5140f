#!/usr/bin/env python3
"""Web answers over HTTP, and no client notices a reload: whatever the old worker accepted it answers before it leaves.

Ask it:  curl http://127.0.0.1:8080
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from selectors import EVENT_READ, DefaultSelector

from sdsupervise import SupervisedDaemon

RELEASE = 1


class Web(SupervisedDaemon):
    """Says which release it is."""

    can_do_hot_reload = True
    handover = "overlap"  # the old worker accepts until the new one does
    listen = {"http": "127.0.0.1:8080"}  # kept open by the supervisor, whatever becomes of workers
    worker_timeout = 10  # a worker that sends no ping for so long hangs, and is replaced

    def supervised_process(self):
        with Server(self) as server, DefaultSelector() as selector:
            selector.register(server, EVENT_READ)
            selector.register(self.draining, EVENT_READ)  # wakes us when we are told to stop
            self.ready_to_take_over()
            while not self.draining:
                selector.select(timeout=3)
                server.handle_request()  # if there is one
                self.ping_supervisor()
        # Here the threads have come to their end; stop_timeout says how long that may take.

    def supervised_shutdown(self):
        print(f"release {RELEASE} stops")


class Server(ThreadingHTTPServer):
    daemon_threads = False  # waited for at the end

    def __init__(self, daemon):
        super().__init__(("", 0), Answer, bind_and_activate=False)
        self.socket.close()
        self.socket = daemon.sockets["http"]
        self.socket.setblocking(False)  # whom we were told of may have been accepted by another worker
        self.daemon = daemon


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # with keep-alive
    timeout = 5  # seconds without a request, then the connection is closed; so long may a last one take
    wbufsize = -1  # head and body in one packet

    def do_GET(self):
        body = f"release {RELEASE}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if self.server.daemon.draining:
            self.send_header("Connection", "close")  # the client opens its next one, which another worker accepts
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    sys.exit(Web().run())
