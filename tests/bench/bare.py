"""The baselines: the least that Python needs to do the same, run as `python3 -I -S bare.py NAME`.

Each obeys orders, lines on standard input, and answers on standard output, as the measured service does.
"""

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket


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


def crowd() -> None:
    """As many children as told, each of which may ping once a second, until standard input ends."""
    import select
    import socket

    count, pings = int(os.environ["BENCH_CROWD"]), bool(os.environ["BENCH_PINGS"])
    links: dict[int, socket.socket] = {}
    epoll = select.epoll()
    for _ in range(count):
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            os.closerange(3, theirs.fileno())  # the others' ends: theirs is the highest number in use
            _be_one_of_crowd(theirs, pings)
        theirs.close()
        links[ours.fileno()] = ours
        epoll.register(ours, select.EPOLLIN)
    epoll.register(0, select.EPOLLIN)
    ready = 0
    while True:
        for fd, _ in epoll.poll():
            if fd == 0:
                return
            if links[fd].recv(4096) == b"ping\n":
                links[fd].send(b"pong\n")
            else:
                ready += 1
                if ready == count:
                    os.write(1, b"%d\n" % ready)


def _be_one_of_crowd(link: "socket.socket", pings: bool) -> None:
    link.send(b"ready\n")
    while pings:
        time.sleep(1)
        try:
            link.send(b"ping\n")
        except OSError:
            break
        if not link.recv(4096):
            break
    else:
        link.recv(1)
    os._exit(0)


if __name__ == "__main__":
    {"respawn": respawn, "echo": echo, "idle": idle, "crowd": crowd}[sys.argv[1]]()
