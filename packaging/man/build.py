#!/usr/bin/env python3
"""Make the manual pages of this tree: `packaging/man/build.py DIRECTORY` writes sdsupervise.1 and the others there.

The sources beside this file say what no code knows; `.. made:: NAME` in them is replaced by what parts.py makes of the
code. It needs docutils, and what sdsupervise itself needs. $SOURCE_DATE_EPOCH dates the pages, as in package builds.

Alternatives considered: scdoc and ronn have no way to put in what is made from code; Sphinx does, and brings forty
packages to a build that docutils' own writer of manual pages does in one.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from docutils.core import publish_string
from docutils.nodes import Node
from docutils.parsers.rst import Directive, directives
from docutils.writers.manpage import Writer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))  # the pages of this tree, whatever is installed
os.environ |= {"COLUMNS": "10000", "NO_COLOR": "1"}  # for --help: the pages break its lines, and colour nothing

import parts  # noqa: E402 (it finds the tree by that path)

from sdsupervise import __version__  # noqa: E402


class Made(Directive):  # type: ignore[misc] # docutils has no types
    """`.. made:: NAME [ARGUMENT]`: what parts.PARTS[NAME] makes, as if it stood in the source."""

    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[Node]:
        """As Directive."""
        name, *argument = self.arguments
        text = parts.PARTS[name](*argument)
        if not text:
            raise self.error(f"There is nothing to put where it says 'made:: {name}'.")
        self.state_machine.insert_input(text.splitlines(), f"made {name}")
        return []


def sources() -> list[Path]:
    """Every page's source, such as sdsupervise.1.rst."""
    return sorted(HERE.glob("*.rst"))


def page(source: Path) -> str:
    """The page as roff. The first line of its source is as that of its section NAME.

    Raises docutils' SystemMessage for a source with a fault, however small.
    """
    directives.register_directive("made", Made)
    _, section = source.stem.rsplit(".", 1)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    fields = [
        f":Manual section: {section}",
        ":Manual group: sdsupervise",
        f":Version: sdsupervise {__version__}",
        *([time.strftime(":Date: %Y-%m-%d", time.gmtime(int(epoch)))] if epoch else []),
    ]
    first, text = source.read_text().split("\n", 1)
    name, about = first.split(" - ", 1)
    titles = ["=" * len(name), name, "=" * len(name), "-" * len(about), about, "-" * len(about)]
    settings = {"report_level": 1, "halt_level": 2, "input_encoding": "unicode", "output_encoding": "unicode"}
    roff: str = publish_string(
        "\n".join([*titles, "", *fields, "", text]),
        source_path=str(source),
        writer=Writer(),
        settings_overrides=settings,
    )
    return _unified(roff)


def _unified(roff: str) -> str:
    """The page as docutils 0.19 writes it, from later ones too; and without hyphens in what may be copied."""
    roff = re.sub(
        r'^\.TH "?([^" ]+)"?', lambda found: f'.nr HY 0\n.TH "{found[1].upper()}"', roff, count=1, flags=re.MULTILINE
    )
    return re.sub(r"^\.SH NAME$", ".nh\n.ad l\n.SH NAME", roff, count=1, flags=re.MULTILINE | re.IGNORECASE)


def main() -> int:
    """Write the pages; the exit status."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: packaging/man/build.py DIRECTORY", file=sys.stderr)
        return 64
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for source in sources():
        (directory / source.stem).write_text(page(source))
    return 0


if __name__ == "__main__":
    sys.exit(main())
