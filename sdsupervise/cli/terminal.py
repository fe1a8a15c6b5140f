"""The form of a command's output: width and colours on a terminal, neither elsewhere."""

import os
import sys
import time
from collections.abc import Container, Sequence
from typing import TextIO

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_ATTENTION = {"good": "green", "busy": "yellow", "bad": "red"}


class Screen:
    """The destination of output."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stdout if stream is None else stream
        self.is_terminal = self.stream.isatty()
        self.colours = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
        self.can_redraw = self.is_terminal and os.environ.get("TERM", "dumb") != "dumb"

    @property
    def columns(self) -> int | None:
        """The present width; None for no limit."""
        if not self.is_terminal:
            return None
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except OSError:
            return 80

    def paint(self, text: str, style: str) -> str:
        """The text in a style: bold, dim, good, busy or bad; "" is plain."""
        code = _COLOURS.get(_ATTENTION.get(style, style))
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and code and text else text

    def wrap(self, text: str) -> str:
        """A sentence on as many lines as it needs, without a break in a word."""
        if self.columns is None or len(text) <= self.columns:
            return text
        import textwrap

        return textwrap.fill(text, max(20, self.columns), break_long_words=False, break_on_hyphens=False)


def columns(rows: Sequence[Sequence[str]], *, to_the_right: Container[int] = ()) -> list[list[str]]:
    """The rows with each column padded to its widest cell; `to_the_right` are the indexes of right-aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [
            cell.rjust(width) if number in to_the_right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]


def cut(text: str, width: int) -> str:
    """At most this many characters; "…" marks a cut."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def cut_left(text: str, width: int) -> str:
    """At most this many characters from the end, for a path; "…" marks a cut."""
    return text if len(text) <= width else "…" + text[len(text) - max(0, width - 1) :]


def duration(seconds: float) -> str:
    """Seconds in a suitable unit: "0.4 s", "12 s", "5 min", "3 h", "2 d"."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    for limit, size, unit in ((100, 1, "s"), (6000, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def size(number: int) -> str:
    """A number of bytes in megabytes."""
    return f"{number / 2**20:.1f} MB" if number < 100 * 2**20 else f"{number / 2**20:.0f} MB"


def clock(at: float) -> str:
    """A time of the epoch as local time; with the date if it is not today."""
    when, today = time.localtime(at), time.localtime()
    return time.strftime("%H:%M:%S" if when[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", when)


def count(number: int, thing: str) -> str:
    """ "1 worker", "2 workers", "3 processes"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}{'es' if thing.endswith(('sh', 'ss')) else 's'}"
