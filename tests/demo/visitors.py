"""Visit the web all the time: `python3 -m tests.demo.visitors PORT RATE [TOTAL]`, until standard input ends.

The clock says when a request is sent, not the server: see tests.load.client, which counts. This one prints a line as
each request ends: its number, when it was due and when it ended (CLOCK_MONOTONIC), and what it got: the answer's text,
or how it failed. Each has a connection of its own.
"""

import gc
import sys
import time

from tests.load.client import Client, Connection, Request

LIMIT_SECONDS = 30


class Visitors(Client):
    """The client of the load tests, telling of each request how it ended."""

    def __init__(self, port: int, rate: float) -> None:
        super().__init__(("127.0.0.1", port), "close", connections=0, limit_seconds=LIMIT_SECONDS)
        self.rate = rate

    def answered(self, connection: Connection, request: Request, body: bytes) -> None:
        text = body.decode(errors="replace").strip()
        self.bodies.setdefault(text, 0)  # our line tells more than its own, which is for texts it has not had
        super().answered(connection, request, body)
        self.tell(request, text)

    def fail(self, request: Request, kind: str, reason: str) -> None:
        super().fail(request, kind, reason)
        self.tell(request, f"{kind}: {reason}")

    def tell(self, request: Request, text: str) -> None:
        number = round((request.due - self.began) * self.rate)
        print(f"{number} {request.due:.6f} {time.monotonic():.6f} {text}", flush=True)


def main() -> int:
    port, rate, *total = map(int, sys.argv[1:])
    gc.disable()  # else a collection would be seen as the server's pause
    Visitors(port, rate).run(rate, total[0] if total else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
