"""All commands but those that must be quick: picks one and turns its errors into one sentence and an exit status."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import __version__
from ..errors import ExitStatus, SdsuperviseError, UsageError
from ..options import HelpFormatter
from . import ready, reload, run, scale, status


class _Parser(argparse.ArgumentParser):
    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - whatever add_parser() is given
        super().__init__(**{"formatter_class": HelpFormatter, **settings})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}. Try '{self.prog} --help'.")


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit status (sysexits, errors.ExitStatus)."""
    # argparse rather than click: every service pays for what `run` imports, and click costs it 4 MB.
    parser = _Parser(prog="sdsupervise", description="Supervise a service, and reload it without a gap.")
    parser.add_argument("--version", action="version", version=f"sdsupervise {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    for command in (run, reload, scale, status, ready):
        command.add_parser(commands)
    try:
        parsed = run.parse(parser, arguments)
        return int(parsed.command(parsed))
    except SdsuperviseError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        return ExitStatus.OK  # whoever read our output has seen enough
