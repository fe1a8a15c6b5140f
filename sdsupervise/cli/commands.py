"""All commands except those that must start fast. Runs one; an error becomes one sentence and an exit status."""

import argparse
import gc
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

from .. import __version__
from ..errors import ExitStatus, NotRunning, SdsuperviseError, UsageError
from ..input.nearest import did_you_mean
from ..input.printable import as_sentence, printable
from ..service.usage import HelpFormatter

_COMMANDS = (
    "list",
    "status",
    "reload",
    "scale",
    "run",
    "check",
    "config",
    "unit",
    "import",
    "metrics",
    "ready",
    "ping",
    "version",
)
_MODULES = {"ping": "ready", "import": "importing"}  # modules of commands with another name


class _HelpFormatter(HelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of a table."""


class Parser(argparse.ArgumentParser):
    """A parser that knows its commands, and suggests one for an unknown word."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - whatever add_parser() is given
        self.commands: Mapping[str, Parser] = {}
        super().__init__(**{"formatter_class": HelpFormatter, **settings})

    def add_subparsers(self, **settings: Any) -> Any:  # noqa: ANN401 - as argparse has it
        """See argparse.ArgumentParser."""
        added = super().add_subparsers(**settings)
        self.commands = added.choices
        return added

    def each(self) -> "Iterator[Parser]":
        """This parser, and the parsers of all its commands."""
        yield self
        for parser in self.commands.values():
            yield from parser.each()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401 - as argparse has it
        """See argparse.ArgumentParser. Raises UsageError for unknown arguments."""
        for word in args[:1]:
            if self.commands and word not in self.commands and not word.startswith("-"):
                self._fail(f"there is no command '{word}'", did_you_mean(word, self.commands))
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            option = next((word.partition("=")[0] for word in unknown if word.startswith("--")), "")
            meant = did_you_mean(option, re.findall(r"--[a-z-]+", self.format_help())) if option else ""
            self._fail(f"unrecognized arguments: {' '.join(unknown)}", meant)
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        self._fail(message)

    def _fail(self, message: str, meant: str = "") -> NoReturn:
        raise UsageError(f"{self.prog}: {as_sentence(message)}{meant} Try '{self.prog} --help'.")


def main(arguments: Sequence[str]) -> int:
    """Run one command. Returns the exit status; see errors.ExitStatus."""
    parsed = argparse.Namespace()
    try:
        try:
            if not arguments:
                raise UsageError(f"Name a command: {', '.join(_COMMANDS)}. Try 'sdsupervise --help'.")
            named = [name for name in _COMMANDS if arguments[:1] == [name]]
            needed = () if arguments[0] == "--version" else named or _COMMANDS
            parsed = _parse(parser(needed), arguments)
            return int(parsed.command(parsed))
        finally:  # also after --help, which raises SystemExit
            if sys.stdout is not None:
                sys.stdout.flush()
    except SdsuperviseError as error:
        if arguments[:1] == ["run"]:
            from ..handover.failure_reason import tell_reason

            tell_reason(error)  # only in a successor
        _complain(_explain(error, parsed) if isinstance(error, NotRunning) else str(error))
        return error.exit_status


def parser(names: Sequence[str] = _COMMANDS) -> Parser:
    """The parser for these commands. Only their modules are imported."""
    # argparse instead of click: every service pays for the imports of `run`, and click costs it 4 MB.
    statuses = "\n".join(f"  {status.value:<4} {status.meaning}" for status in ExitStatus)
    parser = Parser(
        prog="sdsupervise",
        description="Supervise a service, and reload it without a gap.",
        epilog=f"exit statuses:\n{statuses}\n\n'sdsupervise COMMAND --help' explains each command.",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sdsupervise {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _define(commands, names)
    return parser


def _define(commands: "argparse._SubParsersAction[Parser]", names: Sequence[str]) -> None:
    """Add the parsers of these commands only, so that no command imports the modules of another one."""
    gc.disable()  # a collection during imports takes a tenth of the start, and finds nothing
    modules = dict.fromkeys(import_module(f"{__package__}.{_MODULES.get(name, name)}") for name in names)
    gc.freeze()  # modules stay until the exit
    gc.enable()
    for module in modules:
        module.add_parser(commands)


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    if arguments[:1] == ["run"]:
        from . import run

        return run.parse(parser, arguments)
    return parser.parse_args(arguments)


def _explain(error: NotRunning, parsed: argparse.Namespace) -> str:
    from . import target

    return target.explain(error, target.named_by(parsed))


def _complain(sentence: str) -> None:
    sentence = printable(sentence)  # it may quote a file, a path or an error of another user
    if sys.stderr.isatty():
        from .terminal import Screen

        screen = Screen(sys.stderr)
        sentence = screen.paint(screen.wrap(sentence), "bad")
    print(sentence, file=sys.stderr)
