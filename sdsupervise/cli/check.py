"""`sdsupervise check`: checks whether instances would start, without starting or changing anything."""

import argparse
import functools
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..checks import dry_run, start_check
from ..checks.dry_run import RunContext
from ..control.client import default_pid_file
from ..errors import BadFile, ConfigError, ExitStatus, SdsuperviseError, UsageError
from ..input.printable import printable
from ..instances import code_of_root, instance_file, locations
from ..instances.instance import Instance, name_of
from ..settings.settings import Settings, check_settings
from ..unitfiles import host, root_code
from ..unitfiles.finding import ERROR, Finding
from ..unitfiles.lint import lint
from ..unitfiles.subject import Host
from ..workers.command_source import with_descriptors


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command."""
    parser = commands.add_parser(
        "check",
        help="check the files and units of instances",
        description="Check the files and units of these instances, or of all instances. Each mistake is reported "
        "with its file, line and column. Code that root would load and that other users may write is reported, too. "
        "Exit status 0: all is well; 78: something is wrong. --import loads the code of another user with the "
        "environment of that user, what the unit sets, and PATH, PYTHONPATH, TZ and the language of the caller.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="the instance, its unit, or its file; default: all instances"
    )
    parser.add_argument("--config", metavar="FILE", help="the instance that FILE describes")
    parser.add_argument(
        "--import",
        dest="imports",
        action="store_true",
        help="also import the service: in a separate process, as its own user, within its reload_timeout; no command "
        "is run",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each instance")
    parser.set_defaults(command=_check)


class CheckVerdict(NamedTuple):
    """The result for one instance."""

    name: str
    file: str
    mistakes: Sequence[str]
    notes: Sequence[str]  # remarks that are no mistakes


def _check(parsed: argparse.Namespace) -> int:
    if parsed.names and parsed.config is not None:
        raise UsageError("Name instances by NAME or by --config, not by both.")
    given = parsed.names if parsed.config is None else [parsed.config]
    all_there_are = [*locations.configured(), *locations.misnamed()]
    if not given and not all_there_are and not parsed.json:
        print(f"There is no instance in {' or '.join(locations.config_directories())}: nothing to check.")
    all_is_well = True
    for text in given or all_there_are:
        verdict = look_at(text, is_file=parsed.config is not None, imports=parsed.imports)
        all_is_well = all_is_well and not verdict.mistakes
        if parsed.json:
            print(json.dumps(verdict._asdict()), flush=True)
        else:
            tell(verdict)
    return ExitStatus.OK if all_is_well else ExitStatus.CONFIG


def tell(verdict: CheckVerdict) -> None:
    """Print the result for one instance."""
    for line in (*verdict.mistakes, *verdict.notes):
        print(printable(line), file=sys.stderr, flush=True)
    if not verdict.mistakes:
        print(f"{verdict.name}: ok", flush=True)


def look_at(text: str, *, is_file: bool, imports: bool) -> CheckVerdict:
    """Check one instance, up to its first kind of mistake."""
    name, file = locations.instance_name(text), ""
    mistakes: list[str] = []
    notes: list[str] = []
    try:
        file = text if is_file else instance_file.file_of(text)
        name = name_of(file)
        instance, around = dry_run.load(file)
        settings: Mapping[str, object] = {**instance.settings, "listen": instance.listen}
        try:
            notes += _whom(name, around)
            settings = _look_beyond(instance, around, imports=imports) or settings
            for said in start_check.of_instance(instance, around, settings):
                (mistakes if said.is_mistake else notes).append(f"{name}: {said.sentence}")
        except SdsuperviseError as error:
            mistakes.append(f"{name}: {error}")
        user = instance.values.get("user")
        notes += (f"{name}: {said}; {root_code.FIX}." for said in _written_by_others(instance, around))
        found: list[Finding] = []
        if around.unit:
            unit = host.read(around.unit)
            found = [*lint(unit, _checked(settings), _host(), user=user), *root_code.of_unit(unit, user)]
        for finding in found:
            (mistakes if finding.severity == ERROR else notes).append(f"{around.unit}: {finding}")
        if imports and "command" in instance.values and not mistakes:
            notes.append(f"{name}: --import imports nothing of a command; its files are checked, and it is not run.")
    except BadFile as error:
        mistakes += error.mistakes
    except SdsuperviseError as error:
        mistakes.append(str(error))
    return CheckVerdict(name, file, mistakes, notes)


def _look_beyond(instance: Instance, around: RunContext, *, imports: bool) -> Mapping[str, object] | None:
    """Check what the file itself does not show. Returns all settings of an imported class, else None.

    Raises SdsuperviseError.
    """
    command = instance.values.get("command")
    if command and not around.has_socket_unit:
        with_descriptors(command, list(instance.listen))
    if not imports or command:
        return None
    facts = dry_run.describe(instance, around, around.identity())
    expected = instance.values.get("pid_file", default_pid_file(instance.name, locations.run_directory(instance.name)))
    if "user" in instance.values and facts["pid_file"] not in (expected, None):
        raise ConfigError(
            f"Its code names the pid file {facts['pid_file']}, but that code is loaded as another user, after the "
            f"pid file is opened; set pid_file in this file."
        )
    return facts["settings"] if facts["supervised"] else None


def _written_by_others(instance: Instance, around: RunContext) -> Iterator[code_of_root.Writable]:
    """The writable code that root would load or execute: if the unit starts as root, or this process is root."""
    user = "nobody" if around.has_user_of_its_own else around.properties.get("User")
    if user in ("root", "0") or (not user and (around.unit or os.geteuid() == 0)):
        yield from code_of_root.written_by_others(code_of_root.of_instance(instance, around.directory))


def _whom(name: str, around: RunContext) -> Iterator[str]:
    """A remark if the check has another user than the service."""
    if os.geteuid() != 0 and around.is_somebody_else:
        whom = around.user or around.group
        yield f"{name}: checked as uid {os.geteuid()}; only root can check it as {whom}."
    elif around.has_user_of_its_own:
        yield f"{name}: checked as nobody; the user that systemd makes for it exists only while it runs."


def _checked(settings: Mapping[str, object]) -> Settings | None:
    """The checked settings; None if they are valid only with unknown settings of the class."""
    try:
        return check_settings("", settings)
    except ConfigError:
        return None


@functools.cache
def _host() -> Host:
    return host.facts()
