"""Machines whose PID 1 logs all it hears and does, and units on them."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator

import pytest

from tests.conftest import booted
from tests.support.guarded import MachineError
from tests.support.journal import as_line
from tests.support.machine import Machine
from tests.support.trial import Trial

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine that the tests of one module share, each with a unit of its own."""
    for machine in booted():
        machine.run("systemctl", "log-level", "debug")
        yield machine


@pytest.fixture
def trial(machine: Machine) -> Iterator[Trial]:
    """A unit, installed with release 1 deployed, not started."""
    trial = Trial(machine, f"trial{next(_numbers)}")
    trial.deploy(1)
    trial.install()
    yield trial
    trial.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells the story of its unit."""
    report = yield
    trial = getattr(item, "funcargs", {}).get("trial")
    if report.failed and isinstance(trial, Trial):
        report.sections.append((f"Story of {trial.unit}", _story_of(trial)))
    return report


def _story_of(trial: Trial) -> str:
    try:
        return "\n".join(as_line(entry) for entry in trial.story().entries if not _is_noise(entry["MESSAGE"]))
    except (MachineError, OSError) as error:  # with the last test of a module its machine has gone
        return f"cannot be had: {error}"


def _is_noise(message: str) -> bool:
    return any(
        text in message
        for text in ("Collecting.", " job ", "Forked ", "About to execute", "PR_SET_MM", "rlimit", "keyring")
    )
