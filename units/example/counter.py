#!/usr/bin/env python3
"""Counter hands out numbers, each of them once: a service of which two must never run at a time.

Ask it with:  nc 127.0.0.1 7000
"""

import socket
import sys
from pathlib import Path

from sdsupervise import SupervisedDaemon


class Counter(SupervisedDaemon):
    """Hands out the next number to whoever connects."""

    can_do_hot_reload = True
    delay_before_respawn = 0.2
    options = ({"name": "port", "documentation": "Listen there", "option_type": "integer", "default": 7000},)

    def supervised_process(self):
        state = Path("/var/lib/counter/next")  # warm up here: this may take minutes, the old worker serves on
        self.ready_to_take_over()  # the old worker is gone now, the file and the port are ours
        number = int(state.read_text()) if state.exists() else 1
        with socket.create_server(("127.0.0.1", self.get_option("port"))) as server:
            print(f"release 1 serves, beginning with {number}")
            while True:
                client, _ = server.accept()
                with client:
                    state.write_text(str(number + 1))
                    client.sendall(f"release 1 says {number}\n".encode())
                number += 1
                self.ping_supervisor()

    def supervised_shutdown(self):
        print("release 1 stops")


if __name__ == "__main__":
    sys.exit(Counter().run())
