"""The table at the end of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import timings

CLONE = Path(__file__).parents[2]


def report(nodeid: str, when: str, duration: float, cpu_seconds: float) -> pytest.TestReport:
    made = pytest.TestReport(nodeid, ("", 0, ""), {}, "passed", None, when, duration=duration)  # type: ignore[arg-type]
    made.cpu_seconds = cpu_seconds  # type: ignore[attr-defined]
    return made


def test_each_folder_and_phase_has_a_row() -> None:
    """Seconds and CPU seconds of all parts of its tests; the slowest first."""
    reports = [
        report("tests/unit/test_a.py::test_a", "setup", 1.0, 0.5),
        report("tests/unit/test_a.py::test_a", "call", 2.0, 0.5),
        report("tests/machines/units/test_b.py::test_b[x::y]", "call", 7.0, 1.5),
    ]
    rows = [line.split() for line in timings.table(reports, 8.0, [("lint", 1.5)])]
    assert rows[:3] == [["lint", "1.5"], ["tests", "8.0"], ["all", "9.5", "seconds"]]
    assert rows[4:6] == [["tests/machines", "7.0", "1.5", "1"], ["tests/unit", "3.0", "1.0", "1"]]
    assert rows[7:] == [
        ["tests/machines/units/test_b.py", "7.0", "1.5", "1"],
        ["tests/unit/test_a.py", "3.0", "1.0", "1"],
    ]


def test_phases_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase's seconds get into the table, and its exit status is its command's."""
    file = tmp_path / "phases"
    monkeypatch.setenv("PHASES", str(file))
    for phase, command, status in (("lint", "true", 0), ("types", "false", 1)):
        assert subprocess.run([CLONE / "packaging" / "timed", phase, command], check=False).returncode == status
    (lint, seconds), (types, _) = timings.phases()
    assert (lint, types) == ("lint", "types") and seconds >= 0


def test_unit_tests_are_of_the_tree() -> None:
    """A run of these alone imports the tree, also where no wheel is installed; and it shows the table at its end."""
    files = ["tests/unit/test_cpus.py", "tests/unit/test_text.py"]
    code = "import pytest, sys; done = pytest.main(sys.argv[1:]); import sdsupervise; print(sdsupervise.__file__, done)"
    run = subprocess.run(
        [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", *files],
        cwd=CLONE,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PHASES"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.endswith(f"{CLONE}/sdsupervise/__init__.py 0\n"), run.stdout
    assert "where the time went" in run.stdout and "tests/unit " in run.stdout
