"""The number of workers: as configured, until a signal or `sdsupervise scale` changes it.

An exclusive service cannot have more workers than configured, unless max_workers allows it: one more worker could do
the same work a second time.
"""

import logging
import signal
from collections.abc import Mapping
from typing import NamedTuple

from ..core.takeover import State
from ..handover.welcome import Welcome
from ..linux import cpus
from ..settings.settings import MOST_WORKERS, Settings
from ..systemd.catalog import CatalogEntry, entry_fields
from .refusals import why_refused

_log = logging.getLogger("sdsupervise")

# One worker more and one less: the same signals as in uWSGI and gunicorn.
SIGNALS: Mapping[signal.Signals, int] = {signal.SIGTTIN: +1, signal.SIGTTOU: -1}


class PoolSize(NamedTuple):
    """The number of workers that the settings ask for, and its limits."""

    configured: int
    automatic: bool  # the setting is "auto": the number of CPUs
    most: int
    why_no_more: str


def size_of_pool(settings: Settings) -> PoolSize:
    """The size of the pool by the settings on this machine. For "auto" the log shows the calculation."""
    limit = settings.max_workers or MOST_WORKERS
    automatic = isinstance(settings.workers, str)
    if isinstance(settings.workers, str):
        found = cpus.available()
        configured = min(found.usable, limit)
        _log.info('workers = "auto" is %d here: %s', configured, found)
    else:
        configured = settings.workers
    if settings.max_workers or settings.overlaps:
        return PoolSize(configured, automatic, limit, f"max_workers is {limit}")
    why = f"the service is exclusive, with workers = {settings.workers}; if more may work at a time, set max_workers"
    return PoolSize(configured, automatic, configured, why)


def first_size(pool_size: PoolSize, welcome: Welcome | None) -> int:
    """The number of workers that a generation starts with.

    A scaled number outlives a reload, unless the configured number is another one than before, or the new limit is
    smaller.
    """
    before = welcome.pool if welcome is not None else None
    if before is None or before["configured"] != pool_size.configured:
        return pool_size.configured
    scaled: int = before["workers"]
    if scaled > pool_size.most:
        extra = entry_fields(CatalogEntry.SCALED, reason=pool_size.why_no_more)
        message = "Starting %d workers, not the %d of the old generation: %s"
        _log.warning(message, pool_size.most, scaled, pool_size.why_no_more, extra=extra)
    return min(scaled, pool_size.most)


def wanted_size(parameters: Mapping[str, object], size: int) -> int | None:
    """The number that a call asks for by {"workers": N} or {"by": +1}; None if that is not a number."""
    number = parameters.get("workers", parameters.get("by"))
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    return number if "workers" in parameters else size + number


def why_not(pool_size: PoolSize, state: State, size: int | None, *, is_main: bool) -> str:
    """Why a supervisor in this state cannot have this many workers; "" if it can."""
    if size is None:
        return f"The number of workers is missing; give one from 1 to {MOST_WORKERS}."
    if not 1 <= size <= MOST_WORKERS:
        return f"There cannot be {size} workers, only from 1 to {MOST_WORKERS}."
    in_reload = "A reload is in progress; scale when it is over."
    if refusal := why_refused(state, is_main=is_main, in_reload=in_reload):
        return refusal
    return f"There cannot be {size} workers: {pool_size.why_no_more}." if size > pool_size.most else ""
