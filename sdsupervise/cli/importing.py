"""`sdsupervise import`: makes instances of what another supervisor's file says."""

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import CannotImport, ExitStatus, UsageError
from ..input.printable import one_line, printable

if TYPE_CHECKING:
    from ..imports.imported import FoundPrograms
    from ..imports.store import StoredFile
    from ..imports.texts import WantedFile

_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the command. Its modules are imported when it runs."""
    parser = commands.add_parser(
        "import",
        help="make instances of what supervisord or a Procfile runs",
        description="Make instances of the programs in another supervisor's file. Print the files, and what becomes "
        "different; --write writes them, and checks the instances. Nothing is started or stopped. A second import "
        "writes only what has changed. If one of its files was edited since, it writes nothing, and names that file.",
    )
    kinds = parser.add_subparsers(title="from where", metavar="KIND", required=True)
    supervisord = kinds.add_parser(
        "supervisord",
        help="from the configuration of supervisord",
        description="Make an instance of each [program:NAME], and a target of each [group:NAME]. What has no "
        "counterpart is listed. Exit status 78: a file has mistakes, or a program was not imported.",
    )
    supervisord.add_argument("files", nargs="+", metavar="FILE", help="supervisord.conf, or a file that it includes")
    supervisord.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a variable of supervisord's own environment, for %%(ENV_NAME)s",
    )
    supervisord.set_defaults(command=_supervisord)
    procfile = kinds.add_parser(
        "procfile",
        help="from a Procfile",
        description="Make an instance of each process type, with the variables of the file .env beside the Procfile. "
        "Exit status 78: the file has mistakes, or a process type was not imported.",
    )
    procfile.add_argument("file", metavar="FILE", help="the Procfile")
    procfile.add_argument("--user", metavar="USER", default="", help="user to run as; default: the owner of the file")
    procfile.set_defaults(command=_procfile)
    for each in (supervisord, procfile):
        each.add_argument("--prefix", metavar="TEXT", default="", help="what each name of an instance begins with")
        each.add_argument("--root", metavar="DIR", default="/", help="write below DIR, such as an image of a system")
        each.add_argument("--write", action="store_true", help="write the files, let systemd read them, and check them")
        each.add_argument("--json", action="store_true", help="print one JSON object")


def _supervisord(parsed: argparse.Namespace) -> int:
    from ..imports import supervisord

    variables = {}
    for text in parsed.env:
        pair = _VARIABLE.fullmatch(text)
        if pair is None:
            raise UsageError(f"--env {one_line(text, 60)}: write NAME=VALUE.")
        variables[pair[1]] = pair[2]
    return _import(parsed, supervisord.found(parsed.files, variables, parsed.prefix))


def _procfile(parsed: argparse.Namespace) -> int:
    from ..imports import procfile

    return _import(parsed, procfile.found(parsed.file, prefix=parsed.prefix, user=parsed.user))


def _import(parsed: argparse.Namespace, found: "FoundPrograms") -> int:
    from ..imports import store

    parsed.root = os.path.abspath(parsed.root)
    wanted, notes, refused, names = _texts(found)
    stored = store.compared(wanted, parsed.root)
    changes = any(file.state != store.UNCHANGED for file in stored)
    if parsed.write:
        store.write(stored)
        _let_systemd_read(parsed.root, changes)
    verdicts = list(_verdicts(names, parsed.root)) if parsed.write else []
    remains = list(_remains(found, names, stored, parsed.root)) if parsed.write else []
    if parsed.json:
        facts: dict[str, Any] = {"files": [file._asdict() for file in stored], "notes": notes, "refused": refused}
        facts |= {"written": parsed.write and changes, "checked": verdicts, "remains": remains}
        print(json.dumps(facts))
    else:
        _tell(parsed, stored, notes, refused)
        _tell_verdicts(verdicts)
        for command in remains:
            print(f"what remains to do: {printable(command)}")
    wrong = refused or any(verdict["mistakes"] for verdict in verdicts)
    return ExitStatus.CONFIG if wrong else ExitStatus.OK


def _texts(found: "FoundPrograms") -> "tuple[list[WantedFile], list[str], list[str], list[str]]":
    """The files, the notes, what is refused, and the names of the instances that are not."""
    from ..imports import texts

    wanted: list[WantedFile] = []
    notes = list(found.notes)
    refused, names = list(found.refused), []
    good = []
    for instance in found.instances:
        try:
            wanted += texts.files_of(instance)
            names.append(instance.name)
            good.append(instance)
        except CannotImport as error:
            refused.append(f"{instance.name}: {error}")
    notes += texts.notes_of(good)
    for target in found.targets:
        members = tuple(name for name in target.members if name in names)
        started = tuple(name for name in target.autostarted if name in names)
        if members:
            wanted.append(texts.file_of(target._replace(members=members, autostarted=started)))
    return wanted, [one_line(note) for note in notes], [one_line(sentence) for sentence in refused], names


def _tell(
    parsed: argparse.Namespace, stored: "Sequence[StoredFile]", notes: Sequence[str], refused: Sequence[str]
) -> None:
    """Print the files, or what was written; notes go to standard error, as `unit wrap` has it."""
    verbs = {"new": "wrote", "changed": "wrote", "removed": "removed", "unchanged": "unchanged:"}
    for file in stored:
        if parsed.write or file.state in ("unchanged", "removed"):
            print(f"{verbs[file.state] if parsed.write else f'# {file.state}:'} {printable(file.path)}")
        else:
            print(f"# {file.path}\n{printable(file.text)}")
    sys.stdout.flush()
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for sentence in refused:
        print(f"not imported: {sentence}", file=sys.stderr)
    if not parsed.write and any(file.state != "unchanged" for file in stored):
        print("Nothing is written yet: --write writes these files.", file=sys.stderr)
    elif all(file.state == "unchanged" for file in stored):
        print("No file needs a change.", file=sys.stderr)


def _let_systemd_read(root: str, changes: bool) -> None:
    from ..systemd import manager
    from ..unitfiles import host

    if changes and root == "/" and manager.runs_this_machine():
        host.reread()


def _verdicts(names: Sequence[str], root: str) -> Iterator[dict[str, Any]]:
    """What `sdsupervise check` says of each instance."""
    from ..imports import texts
    from .check import look_at

    for name in names:
        path = texts.in_root(f"{texts.INSTANCES}/{name}.toml", root)
        yield look_at(path if root != "/" else name, is_file=root != "/", imports=False)._asdict()


def _tell_verdicts(verdicts: Sequence[Mapping[str, Any]]) -> None:
    from .check import CheckVerdict, tell

    for verdict in verdicts:
        tell(CheckVerdict(**verdict))


def _remains(found: "FoundPrograms", names: Sequence[str], stored: "Sequence[StoredFile]", root: str) -> Iterator[str]:
    """The commands that put the instances into service."""
    from ..imports import store
    from ..systemd import manager
    from ..unitfiles import host

    if root != "/" or not names:
        return
    runs = manager.runs_this_machine()
    active = {name for name in names if runs and host.is_active(f"sdsupervise@{name}.service")}
    waiting = [each for each in found.instances if each.name in names and each.name not in active]
    if waiting and found.stop:
        names = " ".join(shlex.quote(name) for each in waiting for name in each.named)
        yield f"{found.stop} {names}"
    started = [each.name for each in waiting if each.autostart]
    targets = [target.unit for target in found.targets if set(target.members) & set(started)]
    if started:
        yield f"systemctl enable --now {' '.join([*(f'sdsupervise@{name}' for name in started), *targets])}"
    changed = {file.instance for file in stored if file.state != store.UNCHANGED}
    if again := [f"sdsupervise@{name}" for name in names if name in active & changed]:
        yield f"systemctl restart {' '.join(again)}"
