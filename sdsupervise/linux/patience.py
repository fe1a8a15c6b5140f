"""How long another process may take, corrected for the time in which this process itself did not run.

A control group may be frozen and thawed, a unit may get SIGSTOP and SIGCONT, a machine may be suspended. The clock goes
on, but no process could use that time. So, while another process is timed, this process looks at the clock often, and
notices a sleep that is longer than it wanted. If that is a large part of the other's time, the other gets all of it
again.
"""

import math
import time
from collections.abc import Callable
from typing import Protocol

from .unpatched import select

# Parts of the other's time: the longest sleep, and the excess that counts as lost time. What stays unnoticed is less
# than two thirds, which a process that reports three times in its time can lose.
GLANCE, NAP = 1 / 3, 1 / 4
_LONGEST_POLL_SECONDS = 86400.0  # poll() takes 24 days at most


class HasFileno(Protocol):
    """An object that can be polled."""

    def fileno(self) -> int:
        """Its descriptor."""


def without_checks() -> float:
    """Return infinity: wait without looking at anything else."""
    return math.inf


def readable_within(
    readable: int | HasFileno,
    seconds: float,
    *,
    while_waiting: Callable[[], float] = without_checks,
    wake_fds: set[int] | None = None,
) -> bool:
    """Wait until there is data or the end to read; return False if the others had `seconds` for it.

    `while_waiting` is called again and again: after as many seconds as it returns, or when one of `wake_fds` is
    readable, which is then removed from the set.
    """
    number = readable if isinstance(readable, int) else readable.fileno()
    poller = select.poll()
    for fd in (number, *(wake_fds or ())):
        poller.register(fd, select.POLLIN)
    before = time.monotonic()
    end = before + seconds
    while True:
        wanted = max(0.0, min(while_waiting(), end - before, seconds * GLANCE, _LONGEST_POLL_SECONDS))
        ready = {fd for fd, _ in poller.poll(math.ceil(wanted * 1000))}
        if number in ready:
            return True
        for fd in ready:
            poller.unregister(fd)
        if wake_fds is not None:
            wake_fds -= ready
        now = time.monotonic()
        if now - before - wanted > seconds * NAP:
            end = now + seconds
        elif now >= end:
            return False
        before = now
