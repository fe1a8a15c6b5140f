"""The order of the test files, and a table at the end of a run: where the time went.

`packaging/timed PHASE COMMAND` adds the phases before the tests to the table, in the file that PHASES names.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.machine import cpu_seconds_of_machines

ORDER = ("model", "docs", "chaos", "packages", "load", "machines", "processes", "unit")
"""The folders whose files take longest come first: a worker that gets one last keeps the others waiting."""

SLOWEST_FILES = 12
_BEGAN = time.monotonic()
_CPU = "cpu_seconds"


class Spent(NamedTuple):
    """What some tests took."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    tests: int = 0

    def plus(self, report: pytest.TestReport) -> Spent:
        """With one more phase of a test."""
        cpu_seconds: float = getattr(report, _CPU, 0.0)
        return Spent(
            self.seconds + report.duration, self.cpu_seconds + cpu_seconds, self.tests + (report.when == "call")
        )

    def line(self, name: str) -> str:
        """A line of the table."""
        return f"  {name:<50} {self.seconds:8.1f} {self.cpu_seconds:8.1f} {self.tests:6}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders into their order."""
    places = {folder: place for place, folder in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(_folder_of(item.nodeid), -1))


class _Clock:
    """The CPU seconds of this process, and of its children and machines that have ended, since it was asked last."""

    def __init__(self) -> None:
        self._before = self._now()

    def lap(self) -> float:
        before, self._before = self._before, self._now()
        return self._before - before

    @staticmethod
    def _now() -> float:
        return sum(os.times()[:4]) + sum(cpu_seconds_of_machines)


_clock = _Clock()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note the CPU seconds with the report, which travels from the worker to the table."""
    report = yield
    setattr(report, _CPU, _clock.lap())
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests record as their `summary`, and the table."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "summary" and report.when == "call":
                terminalreporter.section(report.nodeid)
                terminalreporter.write_line(str(value))
    reports = [
        report for each in terminalreporter.stats.values() for report in each if isinstance(report, pytest.TestReport)
    ]
    if len({_file_of(report.nodeid) for report in reports}) > 1:
        terminalreporter.section("where the time went")
        for line in table(reports, time.monotonic() - _BEGAN, phases()):
            terminalreporter.write_line(line)


def phases() -> list[tuple[str, float]]:
    """What came before the tests, and the seconds it took."""
    path = Path(os.environ.get("PHASES", os.devnull))
    lines = path.read_text().splitlines() if path.exists() else []
    return [(name, float(seconds)) for name, seconds in map(str.split, lines)]


def table(reports: Iterable[pytest.TestReport], seconds: float, before: list[tuple[str, float]]) -> Iterator[str]:
    """Its lines. The seconds of folders and files are those of all workers together."""
    folders: dict[str, Spent] = defaultdict(Spent)
    files: dict[str, Spent] = defaultdict(Spent)
    for report in reports:
        folder, file = f"tests/{_folder_of(report.nodeid)}", _file_of(report.nodeid)
        folders[folder] = folders[folder].plus(report)
        files[file] = files[file].plus(report)
    for name, took in [*before, ("tests", seconds)]:
        yield f"{name:<52} {took:8.1f}"
    yield f"{'all':<52} {seconds + sum(took for _, took in before):8.1f} seconds"
    for title, rows, most in (("folder", folders, len(folders)), ("slowest files", files, SLOWEST_FILES)):
        yield f"{title:<52} {'seconds':>8} {'of CPU':>8} {'tests':>6}"
        for name, spent in sorted(rows.items(), key=lambda row: -row[1].seconds)[:most]:
            yield spent.line(name)


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _folder_of(nodeid: str) -> str:
    """The folder in tests/ that a test is in."""
    return nodeid.removeprefix("tests/").partition("/")[0]
