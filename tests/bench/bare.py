"""The baselines: the least that Python needs to do the same, run as `python3 -I -S bare.py NAME`.

Each obeys orders, lines on standard input, and answers on standard output, as the measured service does.
"""

import os
import sys
import time


def respawn() -> None:
    """Per order: kill the child, reap it, fork another, which says when its first line ran."""
    import signal

    child = 0
    while os.read(0, 16):
        asked = time.monotonic_ns()
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        child = os.fork()
        if child == 0:
            began = time.monotonic_ns()
            os.write(1, b"%d %d\n" % (asked, began))
            signal.pause()
    os.kill(child, signal.SIGKILL)


def echo() -> None:
    """Per order, a number: that many round trips to a process which sends back what it gets."""
    import socket

    ours, theirs = socket.socketpair()
    server = os.fork()
    if server == 0:
        ours.close()
        while data := theirs.recv(4096):
            theirs.send(data)
        os._exit(0)
    theirs.close()
    os.write(1, b"%d\n" % server)
    while order := os.read(0, 16):
        count = int(order)
        started = time.monotonic_ns()
        for _ in range(count):
            ours.send(b"ping\n")
            ours.recv(4096)
        os.write(1, b"%d\n" % (time.monotonic_ns() - started))


def idle() -> None:
    """Nothing at all but a service's imports, until standard input ends."""
    for module in os.environ.get("BENCH_SERVICE_IMPORTS", "").split():
        __import__(module)
    os.write(1, b"%d\n" % os.getpid())
    os.read(0, 1)


if __name__ == "__main__":
    {"respawn": respawn, "echo": echo, "idle": idle}[sys.argv[1]]()
