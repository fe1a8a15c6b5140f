"""`sdsupervise check`: will these instances start? Nothing is started, and nothing changed."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .. import instance_file, places, rehearsal
from ..command_workers import with_descriptors
from ..errors import BadFile, ExitStatus, SdsuperviseError, UsageError
from ..instance import Instance, name_of
from ..rehearsal import Surroundings


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "check",
        help="check instances' files",
        description="Check the files of these instances, or of all there are: everything that is wrong is said, with "
        "its file, line and column. Exit status 0: all is well; 78: something is wrong.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="the instance, its unit, or its file; else all there are"
    )
    parser.add_argument("--config", metavar="FILE", help="the instance that FILE describes")
    parser.add_argument(
        "--import",
        dest="imports",
        action="store_true",
        help="import the service, too: in a process of its own, as the user it runs as, within its reload_timeout",
    )
    parser.add_argument(
        "--json", action="store_true", help="the same as one JSON array, with an object for each instance"
    )
    parser.set_defaults(command=_check)


class _Verdict(NamedTuple):
    """On one instance."""

    name: str
    file: str
    mistakes: Sequence[str]
    notes: Sequence[str]  # what is to be known all the same


def _check(parsed: argparse.Namespace) -> int:
    if parsed.names and parsed.config is not None:
        raise UsageError("Name instances by NAME or by --config, not both.")
    given = parsed.names if parsed.config is None else [parsed.config]
    if not given and not places.configured() and not parsed.json:
        print(f"There is no instance in {' or '.join(places.config_directories())}: nothing to check.")
    verdicts = []
    for text in given or places.configured():
        verdicts.append(_look_at(text, is_file=parsed.config is not None, imports=parsed.imports))
        if not parsed.json:
            _tell(verdicts[-1])
    if parsed.json:
        print(json.dumps([verdict._asdict() for verdict in verdicts]))
    return ExitStatus.CONFIG if any(verdict.mistakes for verdict in verdicts) else ExitStatus.OK


def _tell(verdict: _Verdict) -> None:
    for line in (*verdict.mistakes, *verdict.notes):
        print(line, file=sys.stderr, flush=True)
    if not verdict.mistakes:
        print(f"{verdict.name}: ok", flush=True)


def _look_at(text: str, *, is_file: bool, imports: bool) -> _Verdict:
    """At one instance, as far as its first kind of mistake."""
    name, file = places.instance_name(text), ""
    mistakes: list[str] = []
    notes: list[str] = []
    try:
        file = text if is_file else instance_file.file_of(text)
        name = name_of(file)
        instance, around = rehearsal.load(file)
        try:
            notes += _look_beyond(instance, around, imports=imports)
        except SdsuperviseError as error:
            mistakes.append(f"{name}: {error}")
    except BadFile as error:
        mistakes += error.mistakes
    except SdsuperviseError as error:
        mistakes.append(str(error))
    return _Verdict(name, file, mistakes, notes)


def _look_beyond(instance: Instance, around: Surroundings, *, imports: bool) -> Iterator[str]:
    """At what the file does not say itself; notes.

    Raises SdsuperviseError.
    """
    command = instance.values.get("command")
    if command and not around.has_socket_unit:
        with_descriptors(command, list(instance.listen))
    if imports:
        identity = around.identity()
        if identity is None and around.is_somebody_else:
            whom = around.user or around.group
            yield f"{instance.name}: looked at as uid {os.geteuid()}; only root can look at it as {whom}."
        (rehearsal.rehearse_command if command else rehearsal.describe)(instance, around, identity)
