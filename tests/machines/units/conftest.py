"""A machine that has the shipped units, as a package installs them, and the programs to wrap."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import booted
from tests.load.environment import ProgramsUnavailable
from tests.load.ground import shown
from tests.support.machine import Machine

UNITS = Path(__file__).parents[3] / "units"
SHIPPED = ("sdsupervise@.service", "sdsupervise@.socket", "sdsupervise.target")


@pytest.fixture(scope="package")
def machine() -> Iterator[Machine]:
    """One for all tests here; each leaves it as it found it."""
    if os.environ.get("SYSTEMD") == "no":
        pytest.skip("SYSTEMD=no")
    try:
        directories = shown()
    except ProgramsUnavailable as error:
        pytest.fail(str(error), pytrace=False)
    for machine in booted(directories):
        for name in SHIPPED:
            machine.write(f"/usr/lib/systemd/system/{name}", (UNITS / name).read_text())
        machine.run("systemctl", "daemon-reload")
        yield machine
