"""All commands but those that must be quick: picks one and turns its errors into one sentence and an exit status."""

import argparse
import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from .. import __version__
from ..errors import ExitStatus, SdsuperviseError, UsageError
from ..options import HelpFormatter

_COMMANDS = ("run", "reload", "scale", "status", "check", "config", "ready", "unit")


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
    _define(commands, [name for name in _COMMANDS if arguments[:1] == [name]] or _COMMANDS)
    try:
        parsed = _parse(parser, arguments)
        return int(parsed.command(parsed))
    except SdsuperviseError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        return ExitStatus.OK  # whoever read our output has seen enough


def _define(commands: "argparse._SubParsersAction[_Parser]", names: Sequence[str]) -> None:
    """Only what was asked for: a service need not start with what `status` imports, nor a reload with a supervisor."""
    gc.disable()  # modules are no garbage, and looking for some among them takes a tenth of the start
    modules = [import_module(f"{__package__}.{name}") for name in names]
    gc.freeze()  # nor will they ever be
    gc.enable()
    for module in modules:
        module.add_parser(commands)


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    if arguments[:1] == ["run"]:
        from . import run

        return run.parse(parser, arguments)
    return parser.parse_args(arguments)
