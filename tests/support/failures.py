"""What a failed test shows beside its traceback: what its services wrote, its machine's journal, its unit's story."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial

import pytest

from tests.support.guarded import MachineError
from tests.support.harness import Ground
from tests.support.journal import as_line
from tests.support.machine import Machine
from tests.support.trial import Trial

_TAIL_ENTRIES = 60
_NOISE = ("Collecting.", " job ", "Forked ", "About to execute", "PR_SET_MM", "rlimit", "keyring")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the sections to the report of a failed test."""
    report = yield
    if report.failed:
        for value in list(getattr(item, "funcargs", {}).values()):
            if isinstance(value, Trial):
                report.sections.append((f"Story of {value.unit}", _shown(partial(_story, value))))
            elif call.when == "call" and isinstance(value, Ground):
                report.sections.append(("What was written and reported", value.transcript()))
            elif call.when == "call" and isinstance(machine := getattr(value, "machine", value), Machine):
                report.sections.append((f"Journal of {machine.name}", journal_tail(machine)))
    return report


def journal_tail(machine: Machine) -> str:
    """The end of a machine's journal."""
    return _shown(partial(_tail, machine))


def _shown(show: Callable[[], str]) -> str:
    try:
        return show()
    except (MachineError, OSError) as error:  # the machine may be gone when the last test of its module is torn down
        return f"not available: {error}"


def _tail(machine: Machine) -> str:
    # A PID 1 that logs at level debug drowns everything else in what it says of D-Bus.
    entries = [entry for entry in machine.journal() if entry.get("PRIORITY") != "7" or "UNIT" in entry]
    return "\n".join(map(as_line, entries[-_TAIL_ENTRIES:]))


def _story(trial: Trial) -> str:
    return "\n".join(
        as_line(entry) for entry in trial.story().entries if not any(text in entry["MESSAGE"] for text in _NOISE)
    )
