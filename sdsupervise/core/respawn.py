"""When a dead worker may start again, and when to stop trying.

A worker that ended by itself (exit status 0) is started again after `delay_before_respawn`, as in the original. One
that crashed waits longer each time in a row, up to `respawn_backoff_limit`; one that lived `respawn_forgiven_after` has
paid for the crashes before it. All this is each slot's own; the verdict is one over the whole pool: `crash_limit`
crashes within `crash_window`, and it is to give up.
"""

from collections import deque
from typing import NamedTuple

_FIRST_STEP_SECONDS = 0.1  # what doubling starts from where delay_before_respawn is 0


class Policy(NamedTuple):
    """The settings that bear on respawning; times in seconds, a limit of 0 means none."""

    delay_before_respawn: float = 5.0
    respawn_backoff_limit: float = 30.0
    respawn_forgiven_after: float = 60.0
    crash_limit: int = 0
    crash_window: float = 60.0
    counts_from_start: bool = False  # a delay bounds how often workers start: who lived longer is replaced at once


class CrashCount:
    """Remembers the crashes of a pool's slots, for the verdict over all of them."""

    def __init__(self, policy: Policy) -> None:
        self._limit, self._window = policy.crash_limit, policy.crash_window
        self._latest: deque[tuple[float, object]] = deque(maxlen=max(policy.crash_limit, 1))  # when, and whose
        self.crashes = 0

    def crashed(self, whose: object, *, now: float, forgiven: bool) -> bool:
        """A slot's worker crashed, and with forgiven the slot has paid for what it did before; True = give up."""
        if forgiven:
            self._latest = deque((crash for crash in self._latest if crash[1] is not whose), self._latest.maxlen)
        self.crashes += 1
        self._latest.append((now, whose))
        return bool(self._limit) and len(self._latest) == self._limit and now - self._latest[0][0] <= self._window


class Respawn:
    """Remembers the deaths of one worker slot. The count is the pool's; without one the slot is the pool."""

    def __init__(self, policy: Policy, count: CrashCount | None = None) -> None:
        self._policy = policy
        self._count = count if count is not None else CrashCount(policy)
        self.crashes_in_a_row = 0
        self.crashes = 0

    def worker_exited(self, *, lived: float = 0.0) -> float:
        """A worker that lived so many seconds ended by itself; seconds to wait before the next."""
        self.crashes_in_a_row = 0
        return self._left_of(self._policy.delay_before_respawn, lived)

    def worker_crashed(self, *, now: float, lived: float) -> float | None:
        """A worker that lived so many seconds crashed; seconds to wait before the next, None = give up."""
        policy = self._policy
        forgiven = lived >= policy.respawn_forgiven_after
        if forgiven:
            self.crashes_in_a_row = 0
        self.crashes += 1
        self.crashes_in_a_row += 1
        if self._count.crashed(self, now=now, forgiven=forgiven):
            return None
        delay = policy.delay_before_respawn
        ceiling = max(delay, policy.respawn_backoff_limit)
        if self.crashes_in_a_row > 1 and ceiling:
            doublings = min(self.crashes_in_a_row - 1, 32)  # 2 ** 1000 is no float
            delay = min(max(delay, _FIRST_STEP_SECONDS) * 2**doublings, ceiling)
        return self._left_of(delay, lived)

    def _left_of(self, delay: float, lived: float) -> float:
        return max(0.0, delay - lived) if self._policy.counts_from_start else delay
