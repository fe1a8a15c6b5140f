"""What services on the test ground are made of. It runs in the services, not in the tests; see harness.py."""

import fcntl
import json
import os
import signal
import socket

from sdsupervise import Daemon, SupervisedDaemon

__all__ = ["Daemon", "Probe", "SupervisedDaemon", "be_the_only_one", "report"]

GROUND = os.environ["GROUND"]
_one_at_a_time: list[int] = []


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
    _one_at_a_time.append(fd)
    # A child of the service is not the service.
    os.register_at_fork(after_in_child=lambda: os.close(_one_at_a_time.pop()) if _one_at_a_time else None)


class Probe(SupervisedDaemon):
    """A service that reports what becomes of it."""

    can_do_hot_reload = True
    delay_before_respawn = 0.05
    stop_timeout = 20.0
    release = "1"

    def supervised_process(self) -> None:
        self.warm_up()
        report("warm", release=self.release)
        self.ready_to_take_over()
        be_the_only_one()
        report("serves", release=self.release)
        self.serve()

    def warm_up(self) -> None:
        """What comes before this worker's turn."""

    def serve(self) -> None:
        """What comes in its turn."""
        while True:
            signal.pause()

    def supervised_shutdown(self) -> None:
        report("shutdown", release=self.release)
