#!/usr/bin/env python3
"""Web answers over HTTP, and no client notices a reload: what an old worker accepted it answers before it leaves."""

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
        Answer.draining = self.draining
        with ThreadingHTTPServer(None, Answer, bind_and_activate=False) as server, DefaultSelector() as selector:
            server.daemon_threads = False  # but waited for at the end, as long as stop_timeout allows
            server.socket = self.sockets["http"]
            server.socket.setblocking(False)  # the client that wakes us may be accepted by another worker
            selector.register(server, EVENT_READ)
            selector.register(self.draining, EVENT_READ)  # so a signal to stop wakes us, too
            self.ready_to_take_over()
            while not self.draining:
                selector.select(timeout=3)
                server.handle_request()  # if there is one
                self.ping_supervisor()

    def supervised_shutdown(self):
        print(f"release {RELEASE} stops")


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # with keep-alive
    timeout = 5  # seconds without a request, then the connection is closed
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
