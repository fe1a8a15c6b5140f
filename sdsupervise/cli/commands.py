"""All commands but those that must be quick: picks one and turns its errors into one sentence and an exit status."""

import argparse
import gc
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from .. import __version__
from ..errors import ExitStatus, NotRunning, SdsuperviseError, UsageError
from ..input.nearest import did_you_mean
from ..input.printable import printable
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
    "metrics",
    "ready",
    "ping",
    "version",
)
_MODULES = {"ping": "ready"}  # of commands that are not called as theirs


class _HelpFormatter(HelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves a table as it is."""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - whatever add_parser() is given
        super().__init__(**{"formatter_class": HelpFormatter, **settings})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}.{self._what_was_meant(message)} Try '{self.prog} --help'.")

    def _what_was_meant(self, message: str) -> str:
        """By the unknown word of which argparse complains; it says which only in its message."""
        option = re.search(r"^unrecognized arguments:.*? (--[^ =]+)", message)
        choice = re.search(r"invalid choice: '([^']*)'", message)
        if option:
            return did_you_mean(option[1], self._option_string_actions)
        if choice:
            return did_you_mean(choice[1], [word for action in self._actions for word in action.choices or ()])
        return ""


class _CommandParser(_Parser):
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401 - as argparse has it
        """Says itself what it does not know, and so where there is help."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit status (errors.ExitStatus)."""
    parsed = argparse.Namespace()
    try:
        try:
            _check_first(arguments)
            parsed = _parse(parser([name for name in _COMMANDS if arguments[:1] == [name]] or _COMMANDS), arguments)
            return int(parsed.command(parsed))
        finally:  # after --help, too, which leaves by SystemExit
            if sys.stdout is not None:
                sys.stdout.flush()
    except SdsuperviseError as error:
        if arguments[:1] == ["run"]:
            from ..handover.failure_reason import tell_reason

            tell_reason(error)  # of a successor
        _complain(f"{error}{_hint(parsed) if isinstance(error, NotRunning) else ''}")
        return error.exit_status


def parser(names: Sequence[str] = _COMMANDS) -> argparse.ArgumentParser:
    """For these commands; only their modules are imported."""
    # argparse rather than click: every service pays for what `run` imports, and click costs it 4 MB.
    statuses = "\n".join(f"  {status.value:<4} {status.meaning}" for status in ExitStatus)
    parser = _Parser(
        prog="sdsupervise",
        description="Supervise a service, and reload it without a gap.",
        epilog=f"exit statuses:\n{statuses}\n\n'sdsupervise COMMAND --help' says more of each.",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sdsupervise {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_CommandParser)
    _define(commands, names)
    return parser


def _define(commands: "argparse._SubParsersAction[_CommandParser]", names: Sequence[str]) -> None:
    """Only what was asked for: a service need not start with what `status` imports, nor a reload with a supervisor."""
    gc.disable()  # modules are no garbage, and looking for some among them takes a tenth of the start
    modules = dict.fromkeys(import_module(f"{__package__}.{_MODULES.get(name, name)}") for name in names)
    gc.freeze()  # nor will they ever be
    gc.enable()
    for module in modules:
        module.add_parser(commands)


def _check_first(arguments: Sequence[str]) -> None:
    """There is a word, and it is a command or an option."""
    if not arguments:
        raise UsageError(f"Say a command: {', '.join(_COMMANDS)}. Try 'sdsupervise --help'.")
    if not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        known = did_you_mean(arguments[0], _COMMANDS)
        raise UsageError(f"sdsupervise: there is no command '{arguments[0]}'.{known} Try 'sdsupervise --help'.")


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    if arguments[:1] == ["run"]:
        from . import run

        return run.parse(parser, arguments)
    return parser.parse_args(arguments)


def _hint(parsed: argparse.Namespace) -> str:
    from .target import hint

    return hint(parsed)


def _complain(sentence: str) -> None:
    sentence = printable(sentence)  # it may quote a file, a path or an error of somebody else's
    if sys.stderr.isatty():
        from .terminal import Screen

        screen = Screen(sys.stderr)
        sentence = screen.paint(screen.wrap(sentence), "bad")
    print(sentence, file=sys.stderr)
