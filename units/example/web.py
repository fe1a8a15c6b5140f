#!/usr/bin/env python3
"""Web answers over HTTP. A reload loses no request: an old worker answers all requests that it has accepted."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from selectors import EVENT_READ, DefaultSelector

from sdsupervise import SupervisedDaemon

RELEASE = 1


class Web(SupervisedDaemon):
    """Answers with its release."""

    can_do_hot_reload = True
    handover = "overlap"  # the old worker serves until the new worker serves
    listen = {"http": "127.0.0.1:8080"}  # the supervisor opens it and keeps it open
    worker_timeout = 10  # a worker that sends no ping for 10 seconds is replaced

    def supervised_process(self):
        Answer.draining = self.draining
        with ThreadingHTTPServer(None, Answer, bind_and_activate=False) as server, DefaultSelector() as selector:
            server.daemon_threads = False  # the server waits for them at the end, up to stop_timeout
            server.socket = self.sockets["http"]
            server.socket.setblocking(False)  # another worker may accept the client that wakes this one
            selector.register(server, EVENT_READ)
            selector.register(self.draining, EVENT_READ)  # so that a signal to stop wakes it, too
            self.ready_to_take_over()
            while not self.draining:
                selector.select(timeout=3)
                server.handle_request()  # if a client has come
                self.ping_supervisor()

    def supervised_shutdown(self):
        print(f"release {RELEASE} stops")


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # with keep-alive
    timeout = 5  # seconds without a request; then the connection is closed
    wbufsize = -1  # head and body in one packet

    def do_GET(self):
        body = f"release {RELEASE}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if self.draining:
            self.send_header("Connection", "close")  # the client's next connection goes to another worker
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    sys.exit(Web().run())
