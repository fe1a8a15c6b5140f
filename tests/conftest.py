"""What every test may ask for: the installed product, and machines with a real systemd."""

from __future__ import annotations

import contextlib
import filecmp
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.guarded import MachineError, MachineUnavailable
from tests.support.journal import as_line
from tests.support.machine import SUITE, Machine

# Their assertions are the tests' own.
pytest.register_assert_rewrite("tests.support.trial", "tests.support.fifos")

TREE = Path(__file__).parents[1] / "sdsupervise"
INSTALLED = Path(sysconfig.get_path("purelib")) / "sdsupervise"
JOURNAL_TAIL_ENTRIES = 60


def pytest_configure() -> None:
    """What is tested is the wheel: refuse one that is not of this tree, and never import the tree itself."""
    here, there = ({p.relative_to(base) for p in base.rglob("*.py")} for base in (TREE, INSTALLED))
    if here != there or any(not filecmp.cmp(TREE / path, INSTALLED / path, shallow=False) for path in here):
        raise pytest.UsageError("The installed sdsupervise is not this tree's: run `packaging/provision wheel` first.")
    # The tree comes first on sys.path, since the tests are imported from there. A package that is already
    # imported stays where it is, and so do its submodules.
    spec = importlib.machinery.PathFinder.find_spec("sdsupervise", [str(INSTALLED.parent)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["sdsupervise"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def booted(shown: Mapping[str, Path] | None = None, suite: str = SUITE, *, bare: bool = False) -> Iterator[Machine]:
    """A machine that sees these directories of ours; a failure, not a skipped test, where none can be had, unless the
    user said SYSTEMD=no."""
    if os.environ.get("SYSTEMD") == "no":
        pytest.skip("SYSTEMD=no")
    with contextlib.ExitStack() as stack:
        try:
            machine = stack.enter_context(Machine(suite, shown=shown, bare=bare))
        except MachineUnavailable as error:
            pytest.fail(str(error), pytrace=False)
        yield machine


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine that the tests of one module share; each leaves it as it found it."""
    yield from booted()


@pytest.fixture
def fresh_machine() -> Iterator[Machine]:
    """A machine for one test alone."""
    yield from booted()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells what its machine had to say."""
    report = yield
    values = [getattr(value, "machine", value) for value in getattr(item, "funcargs", {}).values()]
    machines = [value for value in values if isinstance(value, Machine)]
    if call.when == "call" and report.failed:
        for machine in machines:
            report.sections.append((f"Journal of {machine.name}", journal_tail(machine)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have to show beside that they passed, wherever they ran."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "summary" and report.when == "call":
                terminalreporter.section(report.nodeid)
                terminalreporter.write_line(str(value))


def journal_tail(machine: Machine) -> str:
    try:
        # A PID 1 that logs at level debug drowns everything else in what it says of D-Bus.
        entries = [entry for entry in machine.journal() if entry.get("PRIORITY") != "7" or "UNIT" in entry]
        return "\n".join(map(as_line, entries[-JOURNAL_TAIL_ENTRIES:]))
    except (MachineError, OSError) as error:
        return f"cannot be had: {error}"
