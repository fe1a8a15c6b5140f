#!/usr/bin/env python3
"""Counter hands out each number once. Two generations of it must never run at the same time.

Ask it:  nc 127.0.0.1 7000
"""

import sys
from pathlib import Path
from socket import create_server

from sdsupervise import SupervisedDaemon

RELEASE = 1


class Counter(SupervisedDaemon):
    """Hands out the next number to each client."""

    can_do_hot_reload = True
    delay_before_respawn = 0.2  # seconds from the first crash to the next worker
    worker_timeout = 10  # a worker that sends no ping for 10 seconds is replaced
    options = (
        {"name": "port", "option_type": "integer", "default": 7000, "documentation": "Listen there"},
        {"name": "state", "option_type": "string", "default": "/var/lib/counter/last", "documentation": "State file"},
    )

    def supervised_process(self):
        state = Path(self.get_option("state"))
        # Load and warm up here. In a reload, the old worker still serves.
        self.ready_to_take_over()  # returns when the old worker is gone; the file and the port are free
        number = int(state.read_text()) if state.exists() else 0
        with create_server(("127.0.0.1", self.get_option("port"))) as server:
            server.settimeout(1)  # so that the pings continue when no client comes
            print(f"release {RELEASE} serves, {number} was the last number")
            while True:
                self.ping_supervisor()
                try:
                    client, _ = server.accept()
                    with client:
                        number += 1
                        remember(state, number)  # first: so a crash may lose a number, but never repeats one
                        client.sendall(f"release {RELEASE} says {number}\n".encode())
                except (TimeoutError, ConnectionError):
                    pass  # no client came, or it has left

    def supervised_shutdown(self):
        print(f"release {RELEASE} stops")


def remember(state, number):
    new = state.with_suffix(".new")
    new.write_text(str(number))
    new.replace(state)  # in one step: after a kill, the file has the old number or the new one


if __name__ == "__main__":
    sys.exit(Counter().run())
