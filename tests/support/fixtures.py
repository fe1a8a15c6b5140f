"""What a test asks for by name: a ground for processes, a machine with a booted systemd, a unit on a machine.

A module that needs a machine with more than a plain Debian says so in `MACHINE = Equipment(...)`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.load.environment import PLACE, ProgramsUnavailable, environment
from tests.support.debian_root import OF_RECIPES
from tests.support.guarded import MachineUnavailable
from tests.support.harness import Ground
from tests.support.machine import SUITE, Machine
from tests.support.trial import Trial
from tests.support.units import install_units

_numbers = itertools.count(1)


class Equipment(NamedTuple):
    """What the machine of a module has."""

    units: bool = False
    """The units that the package ships."""
    programs: bool = False
    """The programs of other projects, see tests/load/environment.py."""
    recipes: bool = False
    """The programs of Debian on the page of recipes."""
    debug: bool = False
    """Its PID 1 logs at level debug, which the story of a `trial` is read from."""


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A directory for services, and the end of every process that was started there."""
    with Ground() as ground:
        yield ground


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine that the tests of one module share; each test leaves it as it found it."""
    equipment: Equipment = getattr(request.module, "MACHINE", Equipment(debug=True))
    yield from equipped(equipment)


@pytest.fixture
def fresh_machine() -> Iterator[Machine]:
    """A machine for one test alone."""
    yield from booted()


@pytest.fixture
def trial(machine: Machine) -> Iterator[Trial]:
    """A unit, installed with release 1 deployed, not started."""
    trial = Trial(machine, f"trial{next(_numbers)}")
    trial.deploy(1)
    trial.install()
    yield trial
    trial.close()


def equipped(equipment: Equipment) -> Iterator[Machine]:
    """A machine with this equipment."""
    shown = {PLACE: _programs()} if equipment.programs else None
    for machine in booted(shown, more=OF_RECIPES if equipment.recipes else ()):
        if equipment.debug:
            machine.run("systemctl", "log-level", "debug")
        if equipment.units:
            install_units(machine)
        yield machine


def booted(
    shown: Mapping[str, Path] | None = None, suite: str = SUITE, *, bare: bool = False, more: Sequence[str] = ()
) -> Iterator[Machine]:
    """A machine that sees these directories of ours. A test fails where no machine boots; SYSTEMD=no skips it."""
    _skip_without_systemd()
    with ExitStack() as stack:
        try:
            machine = stack.enter_context(Machine(suite, shown=shown, bare=bare, more=more))
        except MachineUnavailable as error:
            pytest.fail(str(error), pytrace=False)
        yield machine


def _programs() -> Path:
    _skip_without_systemd()
    try:
        return environment()
    except ProgramsUnavailable as error:
        pytest.fail(str(error), pytrace=False)


def _skip_without_systemd() -> None:
    if os.environ.get("SYSTEMD") == "no":
        pytest.skip("SYSTEMD=no")
