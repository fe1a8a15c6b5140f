"""What services on the test ground are made of. It runs in the services, not in the tests; see harness.py."""

import fcntl
import os
import signal
import struct

import told  # type: ignore[import-not-found]
from told import GROUND, report

from sdsupervise import Daemon, SupervisedDaemon

__all__ = [
    "Daemon",
    "Member",
    "Probe",
    "SupervisedDaemon",
    "be_one_of_a_pool",
    "be_the_only_one",
    "report",
    "wait_for_signal",
]


def wait_for_signal() -> None:
    """As signal.pause(), which in Python misses one that comes just before it: the handler runs when it returns."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        os.read(reader, 1)
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def be_the_only_one() -> None:
    """As of a program; but a child of the service is not the service."""
    told.be_the_only_one()
    locks = told.locks_of_the_only_one
    os.register_at_fork(after_in_child=lambda: os.close(locks.pop()) if locks else None)


def be_one_of_a_pool(index: str, generation: str) -> None:
    """From here to the end of this process no other of its number, and none of another generation, may get past this
    line; it is told to the test if one does."""
    locks = f"{GROUND}/locks"
    os.makedirs(locks, exist_ok=True)
    own = os.open(f"{locks}/{generation}", os.O_RDWR | os.O_CREAT)
    fcntl.fcntl(own, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK))
    number = os.open(f"{locks}/{generation}.{index}", os.O_RDWR | os.O_CREAT)
    others = [name for name in os.listdir(locks) if "." not in name and name != generation]
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in others:
            # Asking takes no lock, which somebody else who asks could meet.
            with open(f"{locks}/{name}", "r+") as other:
                found = fcntl.fcntl(other, fcntl.F_OFD_GETLK, _lock(fcntl.F_WRLCK))
            if struct.unpack("hhqqi", found)[0] != fcntl.F_UNLCK:
                raise BlockingIOError
    except BlockingIOError:
        report("VIOLATION", index=index, generation=generation)


def _lock(kind: int) -> bytes:
    """A struct flock for a whole file."""
    return struct.pack("hhqqi", kind, os.SEEK_SET, 0, 0, 0)


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
            wait_for_signal()

    def supervised_shutdown(self) -> None:
        report("shutdown", release=self.release)


class Member(Probe):
    """One of several, which reports its number."""

    workers = 3

    def supervised_process(self) -> None:
        self.index, self.generation = os.environ["SDSUPERVISE_WORKER_INDEX"], os.environ["SDSUPERVISE_GENERATION"]
        self.warm_up()
        report("warm", release=self.release, index=self.index)
        self.ready_to_take_over()
        if self.handover == "exclusive":
            be_one_of_a_pool(self.index, self.generation)
        report("serves", release=self.release, index=self.index, generation=self.generation)
        self.serve()
