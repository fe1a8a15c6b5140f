"""What systemd hears of us: sd_notify(3).

Plain states go through sdnotify, what carries a descriptor (barrier, fd store) through systemd-python. Without
NOTIFY_SOCKET every call does nothing. systemd-python could send both; sdnotify's socket can be given a time-out, so
that a stalled pid 1 never stalls us.
"""

import logging
import os
import time

from ..errors import LibraryMissing
from ..input.checked import decimal
from ..linux.unpatched import select, socket

_log = logging.getLogger("sdsupervise")

_SEND_TIMEOUT_SECONDS = 1.0
_MAX_STATUS_CHARACTERS = 1000
_MOST_MICROSECONDS = 2**64 - 2  # the next one is infinity


class Notifier:
    """Our end of the notification socket. Only the main pid is listened to (NotifyAccess=main).

    Raises LibraryMissing.
    """

    def __init__(self) -> None:
        self.active = bool(os.environ.get("NOTIFY_SOCKET"))
        self.environment = {name: os.environ[name] for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC") if name in os.environ}
        self.watchdog_interval = _watchdog_interval() if self.active else None
        if self.active:
            try:
                import sdnotify
                from systemd import daemon
            except ImportError as error:
                raise LibraryMissing(error) from None

            sdnotify.socket = socket  # which the service's code may have patched by now
            self._sdnotify = sdnotify.SystemdNotifier(debug=True)
            self._sdnotify.socket.settimeout(_SEND_TIMEOUT_SECONDS)
            self._systemd = daemon

    def send(self, *assignments: str) -> None:
        """Send assignments such as "READY=1" in one datagram. A failure is logged: nobody else can act on it."""
        if not self.active:
            return
        try:
            self._sdnotify.notify("\n".join(assignments))
        except OSError as error:
            _log.warning("systemd did not take %s (%s), ignoring", assignments[0], error)

    def close_in_child(self) -> None:
        """In a forked worker: its copy of the socket."""
        if self.active:
            self._sdnotify.socket.close()

    def barrier(self) -> int | None:
        """Ask systemd to say when it has processed all that was sent before.

        The descriptor becomes readable then; it is the caller's to close. None where there is nobody to ask.
        """
        if not self.active:
            return None
        ours, theirs = os.pipe()
        try:
            self._systemd.notify("BARRIER=1", fds=[theirs])
        except OSError as error:
            _log.warning("systemd did not take the barrier (%s), ignoring", error)
        finally:
            os.close(theirs)
        return ours

    def wait_for_barrier(self, seconds: float) -> None:
        """Wait until systemd has processed all that was sent before, so long at most."""
        barrier = self.barrier()
        if barrier is not None:
            poller = select.poll()
            poller.register(barrier, select.POLLIN)
            poller.poll(seconds * 1000)
            os.close(barrier)

    def store(self, name: str, fd: int) -> None:
        """Have systemd keep a copy until the unit is stopped, and give it to the next start; FileDescriptorStoreMax=.

        It keeps one copy only of what is stored twice, and none at all where the unit allows none.
        """
        if not self.active:
            return
        try:
            # FDPOLL: one on which there is an error stays all the same.
            self._systemd.notify(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", fds=[fd])
        except OSError as error:
            _log.warning("systemd did not take %s into its fd store (%s), ignoring", name, error)

    def forget_stored(self, name: str) -> None:
        """Have systemd close its copies of this name."""
        self.send("FDSTOREREMOVE=1", f"FDNAME={name}")


def status(sentence: str) -> str:
    """STATUS= for one line of ASCII: sdnotify encodes Latin-1, of which systemd drops whatever is not UTF-8."""
    line = " ".join(sentence.split()).encode("ascii", "backslashreplace").decode("ascii")
    if len(line) > _MAX_STATUS_CHARACTERS:
        line = line[:_MAX_STATUS_CHARACTERS] + " ..."
    return f"STATUS={line}"


def reloading() -> tuple[str, str]:
    """RELOADING=1 with the time stamp systemd 253 and newer want."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def extend_timeout(seconds: float) -> str:
    """Let the running start, reload or stop take so many seconds from now."""
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"


def forget_systemd() -> None:
    """In a worker: systemd is the supervisor's to talk to, and a worker's STOPPING=1 could stop the unit."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE"):
        os.environ.pop(name, None)


def _watchdog_interval() -> float | None:
    """Half the watchdog's time in seconds if it is meant for us; sd_watchdog_enabled(3)."""
    microseconds = decimal(os.environ.get("WATCHDOG_USEC", ""), _MOST_MICROSECONDS)
    pid = os.environ.get("WATCHDOG_PID")
    return None if not microseconds or (pid and pid != str(os.getpid())) else microseconds / 2e6
