"""How long somebody else may take, by the clock of whoever waits: who slept himself cannot say that the other was slow.

A control group that is frozen and thawed, SIGSTOP and SIGCONT to all of a unit, a suspended machine: the clock has gone
on, and nobody had any of that time. While others are timed the clock is looked at so often that a longer sleep than was
wanted is noticed. Where that is a good part of their time, they get all of it again.
"""

import math
import time
from collections.abc import Callable
from typing import Protocol

from .unpatched import select

# Parts of the time that others have: how long to sleep at most, and how much longer than that is too long. What stays
# unseen is less than the two thirds that somebody can bear who shows signs of life three times in that time.
GLANCE, NAP = 1 / 3, 1 / 4
_LONGEST_POLL_SECONDS = 86400.0  # poll() takes 24 days at most


class HasFileno(Protocol):
    """What can be polled."""

    def fileno(self) -> int:
        """Its descriptor."""


def as_long_as_you_like() -> float:
    """Wait without looking at anything else."""
    return math.inf


def readable_within(
    readable: int | HasFileno,
    seconds: float,
    *,
    while_waiting: Callable[[], float] = as_long_as_you_like,
    wake_fds: set[int] | None = None,
) -> bool:
    """Wait until there is something to read, or an end; False where others had so many seconds for it. `while_waiting`
    is called again and again, after as many seconds as it says, or when one of `wake_fds` is readable, which is taken
    out of them then."""
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
