"""How many workers there are to be: as configured, until somebody says otherwise by a signal or `sdsupervise scale`.

An exclusive service has no more than it is configured to have, unless max_workers says that it may: one worker more
could be one that does the same work a second time.
"""

import logging
import os
import signal
from collections.abc import Mapping

from .config import MOST_WORKERS, Settings
from .core.phases import PHASES
from .core.takeover import State
from .events import News, told
from .peer import Welcome

_log = logging.getLogger("sdsupervise")

# One more and one less, as other supervisors of pools take them.
SIGNALS: Mapping[signal.Signals, int] = {signal.SIGTTIN: +1, signal.SIGTTOU: -1}


def first_size(settings: Settings, welcome: Welcome | None) -> int:
    """The number of workers a generation starts with. What somebody scaled the predecessor to outlives a reload, unless
    the new code or its configuration asks for another number than the old, or allows no such number."""
    size, most = configured_size(settings), most_workers(settings)
    pool = welcome.pool if welcome is not None else None
    if not isinstance(pool, Mapping) or pool.get("configured") != settings.workers:
        return size
    scaled = pool.get("workers")
    if not isinstance(scaled, int) or isinstance(scaled, bool) or scaled < 1:
        return size
    if scaled > most:
        why = _why_no_more(settings, most)
        extra = told(News.SCALED, reason=why)
        _log.warning("Starting %d workers, not the %d of the old generation: %s", most, scaled, why, extra=extra)
    return min(scaled, most)


def configured_size(settings: Settings) -> int:
    """The number of workers that the settings ask for."""
    if isinstance(settings.workers, str):
        return min(len(os.sched_getaffinity(0)), settings.max_workers or MOST_WORKERS)
    return settings.workers


def most_workers(settings: Settings) -> int:
    """The highest number of workers that the settings allow."""
    return settings.max_workers or (MOST_WORKERS if settings.overlaps else configured_size(settings))


def _why_no_more(settings: Settings, most: int) -> str:
    if settings.max_workers:
        return f"max_workers is {most}"
    return f"the service is exclusive, with workers = {settings.workers}; if more may work at a time, set max_workers"


def wanted_size(parameters: Mapping[str, object], size: int) -> int | None:
    """What a call asks for: {"workers": N}, or {"by": +1}; None if that is no number."""
    number = parameters.get("workers", parameters.get("by"))
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    return number if "workers" in parameters else size + number


def why_not(settings: Settings, state: State, size: int | None, *, is_main: bool) -> str:
    """Why a supervisor in this state cannot have so many workers; "" if it can."""
    if size is None or not 1 <= size <= MOST_WORKERS:
        number = size if size is not None else "such a number of"
        return f"There cannot be {number} workers, only from 1 to {MOST_WORKERS}."
    if state is State.OPENING:
        return "The service is not ready yet."
    if not is_main:
        return "The next generation serves already; ask again."
    if PHASES[state].main_state == "stopping":
        return "The service is stopping."
    if state is not State.SERVING:
        return "A reload is in progress; scale when it is over."
    most = most_workers(settings)
    return f"There cannot be {size} workers: {_why_no_more(settings, most)}." if size > most else ""
