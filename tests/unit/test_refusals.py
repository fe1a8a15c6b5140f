"""Why a request is refused follows from the supervisor's state, whether it asks for a reload or for other workers."""

from __future__ import annotations

import pytest

from sdsupervise.core.phases import PHASES
from sdsupervise.core.takeover import State
from sdsupervise.supervisor.refusals import why_refused

IN_RELOAD = "A reload is in progress."


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("is_main", [True, False])
def test_only_a_serving_supervisor_accepts(state: State, is_main: bool) -> None:
    """Each other state has a sentence; that of a stop is for a stop alone."""
    why = why_refused(state, is_main=is_main, in_reload=IN_RELOAD)
    assert bool(why) == (state is not State.SERVING)
    if why == "The service is stopping.":
        assert PHASES[state].main_state == "stopping"


def test_a_successor_that_starts_does_not_serve_already() -> None:
    """A signal to a successor is refused because of the reload, not because yet another generation serves."""
    assert why_refused(State.WARMING, is_main=False, in_reload=IN_RELOAD) == IN_RELOAD
    assert why_refused(State.DRAINING, is_main=False, in_reload=IN_RELOAD).startswith("The next generation serves")
