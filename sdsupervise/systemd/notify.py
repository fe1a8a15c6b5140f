"""Messages to systemd: sd_notify(3).

sdnotify sends plain states. systemd-python sends what carries a descriptor: the barrier, the fd store. systemd-python
could send both, but sdnotify's socket can have a time-out, so that a pid 1 that hangs never stops us. Without
NOTIFY_SOCKET every call does nothing.
"""

import logging
import os
import time

from ..errors import LibraryMissing
from ..input.checked import decimal
from ..linux.libraries import library
from ..linux.unpatched import select, socket

_log = logging.getLogger("sdsupervise")

_SEND_TIMEOUT_SECONDS = 1.0
_MAX_STATUS_CHARACTERS = 1000
_MOST_MICROSECONDS = 2**64 - 2  # 2**64 - 1 means infinity


class Notifier:
    """Our end of the notification socket. systemd reads only messages of the main pid (NotifyAccess=main).

    `watchdog_interval` is in seconds, None without a watchdog. Raises LibraryMissing.
    """

    def __init__(self) -> None:
        self.active = bool(os.environ.get("NOTIFY_SOCKET"))
        self.environment = {name: os.environ[name] for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC") if name in os.environ}
        self.watchdog_interval = _watchdog_interval() if self.active else None
        if self.active:
            try:
                sdnotify, self._systemd = library("sdnotify"), library("systemd.daemon")
            except ImportError as error:
                raise LibraryMissing(error) from None

            sdnotify.socket = socket  # the service's code may have patched the socket module by now
            self._sdnotify = sdnotify.SystemdNotifier(debug=True)
            self._sdnotify.socket.settimeout(_SEND_TIMEOUT_SECONDS)

    def send(self, *assignments: str) -> None:
        """Send assignments such as "READY=1" in one datagram. A failure is only logged, because the caller could do no
        more."""
        if not self.active:
            return
        try:
            self._sdnotify.notify("\n".join(assignments))
        except OSError as error:
            _log.warning("systemd did not accept %s (%s); ignoring that", assignments[0], error)

    def close_in_child(self) -> None:
        """In a forked worker, close its copy of the socket."""
        if self.active:
            self._sdnotify.socket.close()

    def barrier(self) -> int | None:
        """Ask systemd to report when it has processed all earlier messages: sd_notify(3), BARRIER=1.

        Returns a descriptor that becomes readable then, and that the caller closes; None if there is no systemd.
        """
        if not self.active:
            return None
        ours, theirs = os.pipe()
        try:
            self._systemd.notify("BARRIER=1", fds=[theirs])
        except OSError as error:
            _log.warning("systemd did not accept the barrier (%s); ignoring that", error)
        finally:
            os.close(theirs)
        return ours

    def wait_for_barrier(self, seconds: float) -> None:
        """Wait until systemd has processed all earlier messages, for at most `seconds`."""
        barrier = self.barrier()
        if barrier is not None:
            poller = select.poll()
            poller.register(barrier, select.POLLIN)
            poller.poll(seconds * 1000)
            os.close(barrier)

    def store(self, name: str, fd: int) -> None:
        """Give systemd a copy of the descriptor for its fd store: sd_notify(3), FDSTORE=1.

        systemd keeps it until the unit stops, and passes it to the next start. It keeps one copy of what is stored
        twice, and none if FileDescriptorStoreMax= allows none.
        """
        if not self.active:
            return
        try:
            # FDPOLL=0: systemd keeps the descriptor even if there is an error on it.
            self._systemd.notify(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", fds=[fd])
        except OSError as error:
            _log.warning("systemd did not accept %s into its fd store (%s); ignoring that", name, error)

    def forget_stored(self, name: str) -> None:
        """Tell systemd to close its copies with this name."""
        self.send("FDSTOREREMOVE=1", f"FDNAME={name}")


def status(sentence: str) -> str:
    """Return STATUS= for one line of ASCII: sdnotify encodes Latin-1, and systemd drops what is not UTF-8."""
    line = " ".join(sentence.split()).encode("ascii", "backslashreplace").decode("ascii")
    if len(line) > _MAX_STATUS_CHARACTERS:
        line = line[:_MAX_STATUS_CHARACTERS] + " ..."
    return f"STATUS={line}"


def reloading() -> tuple[str, str]:
    """Return RELOADING=1 with the time stamp that systemd 253 and newer need."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def extend_timeout(seconds: float) -> str:
    """Return the message that lets the running start, reload or stop take `seconds` from now."""
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"


def forget_systemd() -> None:
    """In a worker, remove systemd's variables: only the supervisor may notify, and a worker's STOPPING=1 could stop the
    unit."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE"):
        os.environ.pop(name, None)


def _watchdog_interval() -> float | None:
    """Return half of the watchdog's time, in seconds, if it is for this process: sd_watchdog_enabled(3)."""
    microseconds = decimal(os.environ.get("WATCHDOG_USEC", ""), _MOST_MICROSECONDS)
    pid = os.environ.get("WATCHDOG_PID")
    return None if not microseconds or (pid and pid != str(os.getpid())) else microseconds / 2e6
