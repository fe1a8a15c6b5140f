"""The installed package on Debian 12, which has systemd 252."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.packages.matrix.ground import Ground, packages
from tests.packages.matrix.rows import ROWS, Row
from tests.support.fixtures import booted


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """One machine for all rows."""
    for machine in booted(packages(), suite="bookworm", bare=True):
        yield Ground(machine)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(ground: Ground, row: Row) -> None:
    """What the row's own docstring promises."""
    row.run(ground)
