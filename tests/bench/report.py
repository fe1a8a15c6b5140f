"""The table, on a terminal and in README.md."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from .measure import Figures, Row

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def machine(load: float, note: str) -> str:
    """Where this was measured, at which load, and what else is to be said of it."""
    return (
        f"{len(os.sched_getaffinity(0))} cores ({_processor()}), Linux {platform.release()}, "
        f"Python {platform.python_version()},\nload average {load:.1f} before{note and f', {note}'}; "
        "medians (least–most), measured in turns."
    )


NOTES = """\
Under load: half of the runs close each connection, half keep them. *A class* is the standard library's http.server in
two workers, gunicorn has two of threads and `--preload`. Both are asked by USR2. For gunicorn alone the rest is its
manual's: when the new master's workers run, TERM to the old one (WINCH is for a daemonized gunicorn). *Bare* and exec:
the socket is there before, with a request waiting in it. *Its most*: not above the baseline's worst run."""


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


def write_readme(text: str, path: Path = README) -> bool:
    """Put the table between the marks; False where there are none."""
    readme = path.read_text()
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return False
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
    return True
