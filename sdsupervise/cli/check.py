"""`sdsupervise check`: will these instances start? Nothing is started, and nothing changed."""

import argparse
import sys

from .. import instance_file, places, rehearsal
from ..command_workers import with_descriptors
from ..errors import BadFile, ExitStatus, SdsuperviseError, UsageError
from ..instance import Instance
from ..rehearsal import Surroundings


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "check",
        help="check instances' files",
        description="Check the files of these instances, or of all there are: everything that is wrong is said, with "
        "its file, line and column. Exit status 0: all is well; 78: something is wrong.",
    )
    add_arguments(parser, nargs="*")
    parser.add_argument(
        "--import",
        dest="imports",
        action="store_true",
        help="import the service, too: in a process of its own, as the user it runs as, within its reload_timeout",
    )
    parser.set_defaults(command=_check)


def add_arguments(parser: argparse.ArgumentParser, *, nargs: str) -> None:
    """NAME and --config."""
    parser.add_argument("names", nargs=nargs, metavar="NAME", help="the instance, or its unit")
    parser.add_argument("--config", metavar="FILE", help="the instance that FILE describes")


def _check(parsed: argparse.Namespace) -> int:
    if parsed.names and parsed.config is not None:
        raise UsageError("Name instances by NAME or by --config, not both.")
    names = parsed.names or ([] if parsed.config is not None else places.configured())
    if not names and parsed.config is None:
        print(f"There is no instance in {' or '.join(places.config_directories())}: nothing to check.")
    mistakes = [*_mistakes(None, parsed)] if parsed.config is not None else []
    mistakes += [mistake for name in names for mistake in _mistakes(name, parsed)]
    return ExitStatus.CONFIG if mistakes else ExitStatus.OK


def _mistakes(name: str | None, parsed: argparse.Namespace) -> list[str]:
    """What is wrong with one instance: said, as soon as it is known."""
    mistakes: list[str] = []
    instance = None
    try:
        instance, around = rehearsal.load(parsed.config if name is None else instance_file.file_of(name))
        _look_beyond(instance, around, imports=parsed.imports)
        print(f"{instance.name}: ok", flush=True)
    except BadFile as error:
        mistakes += error.mistakes
    except SdsuperviseError as error:
        mistakes.append(f"{instance.name}: {error}" if instance else str(error))
    for mistake in mistakes:
        print(mistake, file=sys.stderr, flush=True)
    return mistakes


def _look_beyond(instance: Instance, around: Surroundings, *, imports: bool) -> None:
    """At what the file does not say itself.

    Raises SdsuperviseError.
    """
    command = instance.values.get("command")
    if command and not around.has_socket_unit:
        with_descriptors(command, list(instance.listen))
    if imports:
        identity = around.identity()
        if identity is None and around.is_somebody_else:
            print(f"{instance.name}: looked at as who we are; only root can do it as {around.user or around.group}.")
        (rehearsal.rehearse_command if command else rehearsal.describe)(instance, around, identity)
