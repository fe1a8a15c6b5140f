"""The usage statement of a daemon, and its command line parsed by argparse.

This is a separate module because argparse costs 0.7 MB, and few command lines need it; see options.parse_plain.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ..errors import UsageError
from ..input.checked import decimal
from .options import BUILT_IN, TYPES, Parsed, type_of

_MOST_COLUMNS = 10_000  # believed of $COLUMNS


class HelpFormatter(argparse.HelpFormatter):
    """Formats to the width of the terminal.

    argparse's own formatter imports shutil for the width, and so bz2 and lzma: 0.5 MB.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_terminal_columns() - 2)


class _RawHelpFormatter(HelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the documentation."""


def _terminal_columns() -> int:
    """$COLUMNS, else the terminal's width, else 80."""
    columns = decimal(os.environ.get("COLUMNS", ""), _MOST_COLUMNS)
    if columns:
        return columns
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class _OptionParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message[:1].upper() + message[1:] + ".")


def parser_for(
    script_name: str, documentation: str, options: Sequence[Mapping[str, object]]
) -> argparse.ArgumentParser:
    """A parser that also formats the usage statement, with the options sorted by name.

    Raises ValueError for an invalid definition.
    """
    parser = _OptionParser(
        prog=script_name,
        description=documentation,
        add_help=False,
        formatter_class=_RawHelpFormatter,
    )
    for option in sorted((*BUILT_IN, *options), key=lambda option: str(option["name"])):
        name, kind = str(option["name"]), type_of(option)
        settings: dict[str, Any] = {"dest": name, "help": str(option.get("documentation", "")).replace("%", "%%")}
        if kind == "switch":
            settings |= {"action": "store_true", "default": bool(option.get("default", False))}
        else:
            display = str(option.get("display", kind))
            settings |= {"type": TYPES[kind], "default": option.get("default"), "metavar": display}
        parser.add_argument(f"--{name}", **settings)
    parser.add_argument("args", nargs="*", help=argparse.SUPPRESS)
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Parsed:
    """Parse options and other arguments in any order; "--" ends the options.

    Raises UsageError.
    """
    # Cut here: argparse removes "--", and would then read a later word as an option.
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    values = vars(parser.parse_intermixed_args(list(arguments[:cut])))
    rest = [*values.pop("args"), *arguments[cut + 1 :]]
    return Parsed(values, rest)
