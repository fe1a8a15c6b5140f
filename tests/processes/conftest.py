"""A ground for each test that asks for one."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.support.harness import Ground


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A directory for services, and the end of every process that was started there."""
    with Ground() as ground:
        yield ground


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its services wrote."""
    report = yield
    ground = getattr(item, "funcargs", {}).get("ground")
    if call.when == "call" and report.failed and isinstance(ground, Ground):
        report.sections.append(("What was written and reported", ground.transcript()))
    return report
