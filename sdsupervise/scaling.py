"""How many workers there are to be: as configured, until somebody says otherwise by a signal or `sdsupervise scale`."""

import os
import signal
from collections.abc import Mapping

from .config import MOST_WORKERS, Settings
from .core.phases import PHASES
from .core.takeover import State
from .peer import Welcome

# One more and one less, as other supervisors of pools take them.
SIGNALS: Mapping[signal.Signals, int] = {signal.SIGTTIN: +1, signal.SIGTTOU: -1}


def first_size(settings: Settings, welcome: Welcome | None) -> int:
    """The number of workers a generation starts with. What somebody scaled the predecessor to outlives a reload, unless
    the new code or its configuration asks for another number than the old."""
    pool = welcome.pool if welcome is not None else None
    if isinstance(pool, Mapping) and pool.get("configured") == settings.workers:
        size = pool.get("workers")
        if isinstance(size, int):
            return size
    return len(os.sched_getaffinity(0)) if isinstance(settings.workers, str) else settings.workers


def wanted_size(parameters: Mapping[str, object], size: int) -> int | None:
    """What a call asks for: {"workers": N}, or {"by": +1}; None if that is no number."""
    number = parameters.get("workers", parameters.get("by"))
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    return number if "workers" in parameters else size + number


def why_not(state: State, size: int | None, *, is_main: bool) -> str:
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
    return ""
