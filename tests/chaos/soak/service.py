"""The service of a soak. A copy of this file is `service.py` of each release, beside `facts.json` and marks.py.

As a class it is `service.py:Soak`, as a command `python3 service.py`. Either answers each client with its release and
its pid, and finishes what it began before it stops. While it takes on work it has a mark (tests/chaos/kill/marks.py).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from marks import Mark  # type: ignore[import-not-found]  # beside us, where we run

FACTS = json.loads((Path(__file__).resolve().parent / "facts.json").read_text())
PLACE = Path(FACTS["place"])
PING_SECONDS = 0.3


def breaks(where: str) -> bool:
    """This release is broken there, until it is cured."""
    return FACTS["breaks"] == where and (PLACE / "broken").exists()


if breaks("import"):
    raise ImportError("this release cannot be imported")


def warm_up(ping: Callable[[], object]) -> None:
    """Take as long as the release does; alive."""
    ping()
    until = time.monotonic() + FACTS["seconds"]
    while breaks("never") or time.monotonic() < until:
        time.sleep(0.05)
        ping()
    if breaks("start"):
        raise RuntimeError("this release breaks when it starts")


def begin(owner: str, index: int) -> Mark:
    """From now on we take on work: is that our right?"""
    mark = Mark(PLACE / "active", owner, index, FACTS["handover"])
    too_many = mark.find_too_many()
    if too_many:
        who = f"{FACTS['handover']} release {FACTS['release']} pid {os.getpid()} of {owner}"
        line = f"{who} beside {','.join(map(str, too_many))}\n"
        violations = os.open(PLACE / "violations", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(violations, line.encode())
        os.close(violations)
    return mark


def serve(listener: socket.socket, stops: int, ping: Callable[[], object]) -> None:
    """Answer clients, until the descriptor `stops` is readable."""
    listener.setblocking(False)
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    poller.register(stops, select.POLLIN)
    if breaks("serve"):
        raise RuntimeError("this release breaks when it serves")
    next_ping = 0.0
    while stops not in (ready := [fd for fd, _ in poller.poll(PING_SECONDS * 1000)]):
        if listener.fileno() in ready:
            answer(listener)
        if time.monotonic() >= next_ping:
            ping()
            next_ping = time.monotonic() + PING_SECONDS


def answer(listener: socket.socket) -> None:
    try:
        client, _ = listener.accept()
    except BlockingIOError:
        return  # another worker was faster
    with client:
        client.settimeout(2)
        try:
            client.sendall(f"{FACTS['release']} {os.getpid()}\n".encode())
        except OSError:
            pass  # it has given up


if __name__ != "__main__":
    from sdsupervise import SupervisedDaemon

    class Soak(SupervisedDaemon):
        """Says which release it is."""

        can_do_hot_reload = True

        def supervised_process(self) -> None:
            warm_up(self.ping_supervisor)
            self.ready_to_take_over()
            mark = begin(str(os.getppid()), self.worker_index)
            serve(self.sockets["http"], self.draining.fileno(), self.ping_supervisor)
            if FACTS["handover"] == "overlap":
                mark.remove()  # an exclusive one has its mark until it is dead

        def supervised_shutdown(self) -> None:
            pass


def notify(*lines: str) -> None:
    """sd_notify(3)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto("\n".join(lines).encode(), os.environ["NOTIFY_SOCKET"])
        except OSError:
            pass  # the supervisor is gone, which we are told by a signal


def main() -> int:
    """Be the command."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    owner = Path(os.environ["NOTIFY_SOCKET"]).parent.name.replace(".", "-")  # it is called after the supervisor
    index = int(os.environ["SDSUPERVISE_WORKER_INDEX"])
    mark = None
    if FACTS["handover"] == "exclusive" and not FACTS["waits"]:
        mark = begin(owner, index)  # nothing of the generation before is left when this is executed
    warm_up(lambda: notify("WATCHDOG=1"))
    if FACTS["waits"]:
        if subprocess.call(["sdsupervise", "ready"]) != 0:
            return 0  # told to stop before its turn
        mark = begin(owner, index)
    else:
        notify("READY=1")
    serve(socket.socket(fileno=3), reader, lambda: notify("WATCHDOG=1"))
    return 0 if mark is None or mark else 1


if __name__ == "__main__":
    sys.exit(main())
