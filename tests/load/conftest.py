"""A machine that has the programs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import booted
from tests.load.environment import ProgramsUnavailable
from tests.load.ground import shown
from tests.support.machine import Machine


@pytest.fixture(scope="package")
def machine() -> Iterator[Machine]:
    """One for all programs, of which each test starts and stops one."""
    if os.environ.get("SYSTEMD") == "no":
        pytest.skip("SYSTEMD=no")
    try:
        directories = shown()
    except ProgramsUnavailable as error:
        pytest.fail(str(error), pytrace=False)
    yield from booted(directories)
