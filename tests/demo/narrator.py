"""How the demo speaks: a line for what is done, a line for what was seen; and it never says what it did not check."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

MARGIN = " " * 3
LABEL_WIDTH = 9
MAX_WIDTH = 100
BOLD, DIM, GREEN, RED, PLAIN = "1", "2", "32", "31", "0"


class ClaimFailed(Exception):
    """Something the demo was to show is not so; the message is the claim."""


class Narrator:
    """Speaks to standard output: in colour on a terminal, unless $NO_COLOR is set; as wide as that, within reason."""

    def __init__(self) -> None:
        self.claims = 0
        self._steps = 0
        self._colourful = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._width = min(shutil.get_terminal_size().columns, MAX_WIDTH)

    def say(self, text: str, *, colour: str = PLAIN) -> None:
        """A paragraph."""
        self._print(textwrap.fill(text, self._width), colour)

    def step(self, sentence: str) -> None:
        """What is about to be done."""
        self._steps += 1
        print(f"\n{self._coloured(f'{self._steps:<{len(MARGIN)}}{sentence}', BOLD)}", flush=True)

    def command(self, command: str) -> None:
        """A command that is about to be run."""
        self._print(self._hanging("$ ", command), DIM)

    def seen(self, who: str, what: str) -> None:
        """What somebody says, or saw."""
        label = f"{who:{LABEL_WIDTH}}"
        text = self._hanging(label, what)
        print(text.replace(label, self._coloured(label, GREEN), 1), flush=True)

    def claim(self, claim: str, held: bool) -> None:
        """Something the demo is to show, which is so; ClaimFailed if not."""
        if not held:
            raise ClaimFailed(claim)
        self.claims += 1

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The first column to the left, numbers to the right."""
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        print()
        for number, row in enumerate((heads, *rows)):
            first, *others = zip(row, widths, strict=True)
            line = "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])
            self._print(MARGIN + line.rstrip(), BOLD if number == 0 else PLAIN)

    def _hanging(self, label: str, text: str) -> str:
        return textwrap.fill(
            text,
            self._width,
            initial_indent=MARGIN + label,
            subsequent_indent=MARGIN + " " * len(label),
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _print(self, text: str, colour: str) -> None:
        print(self._coloured(text, colour), flush=True)

    def _coloured(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colourful and colour != PLAIN else text
