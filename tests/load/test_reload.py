"""A reload is not to be seen by the clients, whatever program it is."""

from __future__ import annotations

import pytest

from tests.load.ground import MODES, PROGRAMS, Program, reload_under_load
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(programs=True)

RELOADS = 5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_no_request_fails(machine: Machine, program: Program, mode: str) -> None:
    """Reloaded again and again under 500 requests a second, each reload done and its release seen to answer, not one
    request fails. (Slow programs get 100; `python -m tests.load` gives 500 to all, for longer.)"""
    result = reload_under_load(machine, program, mode, RELOADS, rate=program.rate_in_tests)
    assert result.failed == 0, result.failures
    assert result.answered == result.requests
    assert list(result.bodies) == [f"release {release}" for release in range(1, RELOADS + 2)]
