"""The command-line options of a daemon: the original's built-in ones and the service's own (SEED.md, `options`)."""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from .errors import UsageError

BUILT_IN: Sequence[Mapping[str, object]] = (
    {"name": "help", "documentation": "Show this help information", "option_type": "switch"},
    {"name": "no-fork", "documentation": "Do not detach and run in the background", "option_type": "switch"},
    {"name": "pid-file", "documentation": "Use PATH as the pid file", "display": "PATH", "option_type": "string"},
    {"name": "no-pid-file", "documentation": "Do not use a pid file", "option_type": "switch"},
    {"name": "user", "documentation": "User to run as", "display": "USER", "option_type": "string"},
    {"name": "group", "documentation": "Group to run as", "display": "GROUP", "option_type": "string"},
    {"name": "no-warn", "documentation": "Do not produce warnings, silent mode", "option_type": "switch"},
)

_TYPES: Mapping[str, type] = {"string": str, "integer": int, "float": float}


class Parsed:
    """What a command line said."""

    def __init__(self, values: Mapping[str, object], rest: list[str]) -> None:
        self._values = values
        self.rest = rest

    def get(self, name: str) -> object:
        """An option's value or default.

        Raises KeyError for a name that was never defined.
        """
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(f"Unknown option {name!r}; known are {', '.join(sorted(self._values))}.") from None


class HelpFormatter(argparse.HelpFormatter):
    """As wide as the terminal.

    argparse's own makes one for each option, asked for help or not, and imports shutil for the width, hence bz2 and
    lzma: 0.5 MB in every service.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_terminal_columns() - 2)


class _RawHelpFormatter(HelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the documentation's lines as the author broke them."""


def _terminal_columns() -> int:
    """$COLUMNS, else the terminal's width, else 80."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message[:1].upper() + message[1:] + ".")


def parser_for(
    script_name: str, documentation: str, options: Sequence[Mapping[str, object]]
) -> argparse.ArgumentParser:
    """A parser that also writes the usage statement, its options sorted by name.

    Raises ValueError for a definition that is none.
    """
    parser = _Parser(
        prog=script_name,
        description=documentation,
        add_help=False,
        formatter_class=_RawHelpFormatter,
    )
    for option in sorted((*BUILT_IN, *options), key=lambda option: str(option["name"])):
        name, kind = str(option["name"]), str(option.get("option_type", "switch"))
        settings: dict[str, Any] = {"dest": name, "help": str(option.get("documentation", "")).replace("%", "%%")}
        if kind == "switch":
            settings |= {"action": "store_true", "default": bool(option.get("default", False))}
        elif kind in _TYPES:
            display = str(option.get("display", kind))
            settings |= {"type": _TYPES[kind], "default": option.get("default"), "metavar": display}
        else:
            raise ValueError(f"Option {name!r} is of type {kind!r}; it must be switch, string, integer or float.")
        parser.add_argument(f"--{name}", **settings)
    parser.add_argument("args", nargs="*", help=argparse.SUPPRESS)
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Parsed:
    """Options and the rest, in any order; "--" ends the options.

    Raises UsageError.
    """
    # Cut here: argparse takes "--" away itself, and then reads as an option what comes after it.
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    values = vars(parser.parse_intermixed_args(list(arguments[:cut])))
    rest = [*values.pop("args"), *arguments[cut + 1 :]]
    return Parsed(values, rest)
