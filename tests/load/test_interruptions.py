"""What clients see of a supervisor that is killed, and of a restart: that nobody listens for a while, never."""

from __future__ import annotations

import signal

import pytest

from tests.load.ground import MODES, PROGRAMS, Program, result_of, serving, under_load
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(programs=True)

TIMES = 2

every_mode = pytest.mark.parametrize("mode", MODES)


def programs(*names: str) -> pytest.MarkDecorator:
    """Run the test with each of these."""
    chosen = [program for program in PROGRAMS if program.name in names]
    return pytest.mark.parametrize("program", chosen, ids=lambda program: program.name)


@every_mode
@programs("web", "gunicorn", "uvicorn")
def test_killed_supervisors(machine: Machine, program: Program, mode: str) -> None:
    """kill -9 of systemd's main pid, whose workers do not survive it: systemd keeps the listener, so that who comes
    meanwhile waits, and is answered by the code that is current then. A request that a worker had accepted may be cut
    off. Nobody is refused, and nobody waits in vain."""
    with serving(machine, program) as service, under_load(machine, program, mode, rate=program.rate_in_tests) as load:
        for release in range(2, TIMES + 2):
            service.deploy(release)
            machine.kill(service.main_pid, signal.SIGKILL)
            load.wait_for(f"release {release}")
        result = result_of(load)
    assert (result.refused, result.timed_out, result.wrong) == (0, 0, 0), result.failures
    assert result.answered + result.reset + result.short == result.requests


@every_mode
@programs("web", "gunicorn", "haproxy")
def test_restarts(machine: Machine, program: Program, mode: str) -> None:
    """`systemctl restart`: workers finish what they have begun, systemd keeps the listener, the current code starts.
    Not one request fails."""
    with serving(machine, program) as service, under_load(machine, program, mode, rate=program.rate_in_tests) as load:
        for release in range(2, TIMES + 2):
            service.deploy(release)
            service.systemctl("restart")
            load.wait_for(f"release {release}")
        result = result_of(load)
    assert result.failed == 0, result.failures
    assert result.answered == result.requests
