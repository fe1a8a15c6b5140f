"""The table, on a terminal and in packaging/doc/benchmarks.md."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from .measure import Figures, Row

PAGE = Path(__file__).parents[2] / "packaging" / "doc" / "benchmarks.md"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def machine(load: float, note: str) -> str:
    """The machine of this run, its load before the run, and a note."""
    return (
        f"{len(os.sched_getaffinity(0))} cores ({_processor()}), Linux {platform.release()}, "
        f"Python {platform.python_version()},\nload average {load:.1f} before{note and f', {note}'}; "
        "medians (least–most), measured in turns."
    )


NOTES = """\
Under load, half of the runs close each connection and half keep it. *A class* is the http.server of the standard
library with two workers. gunicorn has two workers with threads, and `--preload`. SIGUSR2 reloads both. gunicorn alone
needs a second step, which its manual describes: when the workers of the new master run, the old master gets SIGTERM
(SIGWINCH is for a daemonized gunicorn). In the rows of *exec* the socket is open before the start, and a request waits
in it. *The same server bare* is that server without sdsupervise. *Its most* means: not above the worst run of the
baseline."""


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, which is also how a terminal shows them."""
    head = ("what", "sdsupervise", "baseline", "n", "ratio", "at most", "")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    padded = ([text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in cells)
    lines = [f"| {' | '.join(line)} |" for line in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    ratio = _number(row.ratio) if row.ratio is not None else "–"
    limit = f"{row.limit:.3g} ×" if row.limit is not None else ""
    if row.at_most is not None:
        limit = f"{row.at_most:g} {row.unit}"
    elif row.within_noise:
        limit = "its most"
    verdict = {True: "met", False: "**missed**", None: ""}[row.met]
    baseline = f"{_figures(row.baseline, row.unit)}: {row.baseline_name}"
    return row.what, _figures(row.ours, row.unit), baseline, str(len(row.ours.samples)), ratio, limit, verdict


def _figures(figures: Figures, unit: str) -> str:
    if len(figures.samples) == 1:
        return f"{_number(figures.median)} {unit}"
    return f"{_number(figures.median)} {unit} ({_number(figures.least)}–{_number(figures.most)})"


def _number(value: float) -> str:
    """Three digits that count."""
    if value == int(value) or value >= 100:
        return f"{value:.0f}"
    if value < 1:
        return f"{value:.3g}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def write_page(text: str, path: Path = PAGE) -> bool:
    """Put the table between the marks; False where there are none."""
    page = path.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return False
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
    return True
