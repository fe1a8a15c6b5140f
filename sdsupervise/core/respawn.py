"""When a dead worker starts again, and when the supervisor gives up.

A worker that ended by itself (exit status 0) starts again after `delay_before_respawn`, as in the original. A worker
that crashed waits longer with each crash in a row, up to `respawn_backoff_limit`. After `respawn_forgiven_after`
seconds alive, a worker's earlier crashes are forgotten. Each slot counts its own crashes in a row. The verdict to give
up is for the whole pool: `crash_limit` crashes within `crash_window`.

With `restart` and `restart_prevent`, some ends of a worker are the end of the service.
"""

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

CLEAN_SIGNALS = frozenset({1, 2, 13, 15})  # SIGHUP, SIGINT, SIGPIPE, SIGTERM: systemd.service(5), SuccessExitStatus=
_FIRST_STEP_SECONDS = 0.1  # the first wait that is doubled, if delay_before_respawn is 0


class Policy(NamedTuple):
    """The settings for respawning. Times are in seconds; a limit of 0 means no limit. See sdsupervise.toml(5)."""

    delay_before_respawn: float = 5.0
    respawn_backoff_limit: float = 30.0
    respawn_forgiven_after: float = 60.0
    crash_limit: int = 0
    crash_window: float = 60.0
    # the delay counts from the start of the dead worker, so a worker that lived longer than the delay is replaced at
    # once
    counts_from_start: bool = False


def starts_again(end: int, restart: str, restart_prevent: Collection[int]) -> bool:
    """Whether a worker that ended by itself starts again, by these settings.

    `end` is its exit status, or the negative number of the signal that killed it, as in os.waitstatus_to_exitcode().
    """
    if end in restart_prevent:
        return False
    if restart == "always":
        return True
    if end < 0:
        return -end not in CLEAN_SIGNALS
    return end != 0 and restart == "on-failure"


class CrashCount:
    """Remembers the latest crashes of all slots of a pool, for the verdict to give up."""

    def __init__(self, policy: Policy) -> None:
        self._limit, self._window = policy.crash_limit, policy.crash_window
        # the time of each crash, and its slot
        self._latest: deque[tuple[float, object]] = deque(maxlen=max(policy.crash_limit, 1))
        self.crashes = 0

    def crashed(self, whose: object, *, now: float, forgiven: bool) -> bool:
        """Count a crash of the slot `whose` at `now`, in monotonic seconds; return True if the supervisor must give up.

        With `forgiven`, the earlier crashes of this slot no longer count.
        """
        if forgiven:
            self._latest = deque((crash for crash in self._latest if crash[1] is not whose), self._latest.maxlen)
        self.crashes += 1
        self._latest.append((now, whose))
        return bool(self._limit) and len(self._latest) == self._limit and now - self._latest[0][0] <= self._window


class Respawn:
    """Remembers the deaths of one worker slot. `count` is shared by the pool; without it the slot counts alone."""

    def __init__(self, policy: Policy, count: CrashCount | None = None) -> None:
        self._policy = policy
        self._count = count if count is not None else CrashCount(policy)
        self.crashes_in_a_row = 0
        self.crashes = 0

    def worker_exited(self, *, lived: float = 0.0) -> float:
        """Record that a worker ended by itself after `lived` seconds; return the seconds to wait before the next
        start."""
        self.crashes_in_a_row = 0
        return self._left_of(self._policy.delay_before_respawn, lived)

    def worker_crashed(self, *, now: float, lived: float) -> float | None:
        """Record that a worker crashed at `now` (monotonic seconds) after `lived` seconds.

        Returns the seconds to wait before the next start, or None if the supervisor must give up.
        """
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
            doublings = min(self.crashes_in_a_row - 1, 32)  # 2 ** 1000 is too large for a float
            delay = min(max(delay, _FIRST_STEP_SECONDS) * 2**doublings, ceiling)
        return self._left_of(delay, lived)

    def _left_of(self, delay: float, lived: float) -> float:
        return max(0.0, delay - lived) if self._policy.counts_from_start else delay
