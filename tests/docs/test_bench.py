"""The bench itself, run short: that it measures everything and computes right.

How fast we are is no test's business.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.effort import QUICK, Effort
from tests.bench.measure import Figures, Row, in_turns

ROOT = Path(__file__).parents[2]
MEASURED = (
    "Requests failed",
    "Longest pause",
    "p99.9 latency",
    "Reload asked, to the new code's first answer",
    "exec, to the first answer: a class",
    "exec, to the first answer: gunicorn as a command",
    "class workers: exec, to all of them ready",
    "class workers: memory of each",
    "pings once a second: the supervisor's share",
    "SIGKILL of a worker",
    "ping_supervisor(), one core",
    "ping_supervisor(), two cores",
    "Resident memory",
    "Wake-ups",
    "CPU time",
    "SIGUSR2",
    "Reload call",
    "systemctl reload, to its new worker released",
    "systemctl reload, to the end of the command",
)


@pytest.fixture(scope="module")
def table() -> list[list[str]]:
    """The cells of a quick run, without its head."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_bench_measures_all_that_is_promised(table: list[list[str]]) -> None:
    """Each promised number has a row."""
    for promised in MEASURED:
        assert any(promised in cells[0] for cells in table), f"No row for {promised!r} in {table}."


def test_each_ratio_is_that_of_its_two_medians(table: list[list[str]]) -> None:
    """Where there is a ratio both medians are positive, of one unit, and it is theirs as far as digits tell; the
    verdict follows from it."""
    with_ratio = [cells for cells in table if cells[4] != "–"]
    assert len(with_ratio) >= len(MEASURED) - 2
    for what, ours, baseline, count, ratio, limit, verdict in with_ratio:
        (our_median, our_unit), (base_median, base_unit) = _median(ours), _median(baseline)
        assert our_median > 0 and base_median > 0 and int(count) > 0, what
        assert our_unit == base_unit, what
        assert float(ratio) == pytest.approx(our_median / base_median, rel=0.03), what
        if limit.endswith("×"):
            at_most = float(limit.split()[0])
            if float(ratio) != at_most:  # there two digits do not tell
                assert verdict == ("met" if float(ratio) < at_most else "**missed**"), what


def _median(cell: str) -> tuple[float, str]:
    found = re.match(r"([\d.]+) (\S+?)(?::| |$)", cell)
    assert found, cell
    return float(found[1]), found[2]


def test_measures_take_turns() -> None:
    """A B A B, so that noise meets both."""
    turns: list[str] = []

    def measure(name: str, value: float) -> float:
        turns.append(name)
        return value

    ours, theirs = in_turns(3, lambda: measure("A", len(turns)), lambda: measure("B", 1.0))
    assert "".join(turns) == "ABABAB"
    assert (ours.least, ours.median, ours.most, theirs.median) == (0, 2, 4, 1)


@pytest.mark.parametrize(
    ("ours", "baseline", "limit", "at_most", "met"),
    [
        ((2.0,), (1.0,), 2.0, None, True),
        ((2.1,), (1.0,), 2.0, None, False),
        ((0.0,), (0.0,), None, 0.0, True),
        ((0.0, 0.0, 1.0), (0.0,), None, 0.0, False),
        ((1.0, 2.0, 9.0), (0.0,), None, 2.0, True),
        ((1.0, 2.1, 9.0), (0.0,), None, 2.0, False),
    ],
)
def test_the_verdict_follows_from_the_medians(
    ours: tuple[float, ...], baseline: tuple[float, ...], limit: float | None, at_most: float | None, met: bool
) -> None:
    """A goal is met up to its limit and not beyond it; one of nothing at all by nothing at all, ever."""
    assert Row("what", "ms", Figures(ours), "baseline", Figures(baseline), limit, at_most).met is met


@pytest.mark.parametrize(("ours", "met"), [((1.0, 3.0, 9.0), True), ((1.0, 3.1, 9.0), False)])
def test_noise_is_what_the_baseline_shows(ours: tuple[float, ...], met: bool) -> None:
    """Within noise is what is not above the baseline's worst sample."""
    row = Row("what", "ms", Figures(ours), "baseline", Figures((1.0, 2.0, 3.0)), None, within_noise=True)
    assert row.met is met


def test_the_table_goes_between_its_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    """The page keeps all but the table, which replaces the one before."""
    page = tmp_path / "benchmarks.md"
    page.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    assert report.write_page("new", page)
    assert report.write_page("newer", page)
    assert page.read_text() == f"above\n{report.BEGIN}\nnewer\n{report.END}\nbelow\n"


def test_a_page_without_marks_stays_as_it_is(tmp_path: Path) -> None:
    """Without marks nothing is written."""
    page = tmp_path / "benchmarks.md"
    page.write_text("no marks\n")
    assert not report.write_page("new", page)
    assert page.read_text() == "no marks\n"


def test_the_page_has_a_table_of_this_bench() -> None:
    """packaging/doc/benchmarks.md has a row for each promised number, and the notes that the bench writes today."""
    table = report.PAGE.read_text().partition(report.BEGIN)[2].partition(report.END)[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert [promised for promised in MEASURED if not any(promised in row for row in rows)] == []
    assert table.endswith(f"\n\n{report.NOTES}\n"), "run `make bench`, or put the notes of tests/bench/report.py there"


def test_a_quick_run_measures_the_same_quantities() -> None:
    """Quick is less of everything, never none of something."""
    full = Effort()
    assert all(0 < quick < all_of_it for quick, all_of_it in zip(QUICK, full, strict=True))


def test_a_part_of_a_run_is_not_written() -> None:
    """The page keeps a whole run: `--write` does not go with `--quick` or `--only`."""
    for part in (["--quick"], ["--only", "idle"]):
        command = [sys.executable, "-m", "tests.bench", "--write", *part]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (run.returncode, "leave out --quick and --only" in run.stderr) == (2, True)
