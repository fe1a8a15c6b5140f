"""How programs on the test ground talk to the test and to their supervisor. It runs in them; see harness.py."""

import fcntl
import json
import os
import signal
import socket
from collections.abc import Sequence

GROUND = os.environ.get("GROUND") or os.path.dirname(os.path.dirname(__file__))  # root gives others no variables
locks_of_the_only_one: list[int] = []


def report(word: str, **details: object) -> None:
    """Tell the test; a datagram with our pid on it."""
    message = json.dumps([word, {name: str(value) for name, value in details.items()}]).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, f"{GROUND}/reports")


def be_the_only_one() -> None:
    """From here to the end of this process no other may get past this line; it is told to the test if one does."""
    fd = os.open(f"{GROUND}/one-at-a-time", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        report("VIOLATION")
    locks_of_the_only_one.append(fd)


def notify(*lines: str, fds: Sequence[int] = ()) -> None:
    """sd_notify(3), to whoever NOTIFY_SOCKET names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(os.environ["NOTIFY_SOCKET"])
        socket.send_fds(sender, ["\n".join(lines).encode(errors="surrogateescape")], fds)


def barrier() -> None:
    """Wait until all that we sent has been processed."""
    ours, theirs = os.pipe()
    notify("BARRIER=1", fds=[theirs])
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)


def leave_on(number: signal.Signals, status: int = 0) -> None:
    """Say which signal came, and exit."""

    def leave(number: int, _frame: object) -> None:
        report("signal", name=signal.Signals(number).name)
        os._exit(status)

    signal.signal(number, leave)


def wait_at_gate(word: str) -> None:
    """Report that we wait, and do so until the test lets us go on; see Ground.gate."""
    gate = os.open(f"{GROUND}/gate", os.O_RDWR)
    report(word)
    os.read(gate, 1)
    os.close(gate)


def wait() -> None:
    """For signals, for ever."""
    while True:
        signal.pause()


def wait_to_leave() -> None:
    """For SIGTERM, in a program that has threads: one of them may get the signal, and then no call of ours returns."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    leave_on(signal.SIGTERM)
    while True:
        os.read(reader, 1)
