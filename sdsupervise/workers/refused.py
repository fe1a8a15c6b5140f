"""Workers that the supervisor may not signal: they have become another user, and it lacks CAP_KILL."""

from collections.abc import Iterable

from .worker import Worker


def why_not_stoppable(workers: Iterable[Worker]) -> str:
    """Return why we may not signal one of these workers, as a sentence; "" if we may signal all."""
    return next(filter(None, (worker.why_not_stoppable() for worker in workers)), "")


def leave(workers: dict[int, Worker]) -> bool:
    """Take the workers that refused a signal out of a pool's workers: they stay. Return whether there are any."""
    refused = [pid for pid, worker in workers.items() if worker.refused]
    for pid in refused:
        del workers[pid]
    return bool(refused)
