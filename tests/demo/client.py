"""Ask the counter for a number again and again: `python3 client.py PORT`, until standard input ends.

Prints a line for each answer, and one where answers cease: the time (CLOCK_MONOTONIC), then the answer or nothing.
It is run where the service is, which may be a container with its own network: the standard library alone.
"""

import select
import socket
import sys
import time

ANSWER_LIMIT_SECONDS = 10
PACE_MILLISECONDS = 2


def ask(port: int) -> str:
    """The service's answer; empty if there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_LIMIT_SECONDS) as service:
            return service.makefile().readline().strip()
    except OSError:
        return ""  # refused, or cut off: ask anew


def main() -> int:
    port = int(sys.argv[1])
    poller = select.poll()
    poller.register(0, select.POLLIN)
    before = ""
    while not poller.poll(PACE_MILLISECONDS):
        answer = ask(port)
        if answer or before:
            print(f"{time.monotonic():.6f} {answer}", flush=True)
        before = answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
