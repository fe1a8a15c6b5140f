"""Why a supervisor refuses a request now: the sentences that a reload and a change of the number of workers share."""

from ..core.phases import PHASES
from ..core.takeover import State


def why_refused(state: State, *, is_main: bool, in_reload: str) -> str:
    """Return why a supervisor in this state refuses a request; "" if it does not. `in_reload` is the sentence for the
    time of a reload."""
    if state is State.OPENING:
        return "The service is not ready yet."
    if not is_main and PHASES[state].is_succeeded:
        return "The next generation serves already; ask again."
    if PHASES[state].is_stopping:
        return "The service is stopping."
    return "" if state is State.SERVING else in_reload


def too_few_descriptors(purpose: str) -> str:
    """Return the sentence of a supervisor whose free descriptors do not suffice for this purpose."""
    return f"Too few file descriptors are left {purpose}; raise the limit (LimitNOFILE=)."
