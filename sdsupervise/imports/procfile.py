"""What a Procfile says, as instances: one for each process type."""

import itertools
import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import BadFile, CannotImport
from ..input.checked import decimal
from ..input.printable import one_line
from ..linux.writers import who_else_may_write
from ..settings.addresses import parse
from ..unitfiles.fit import LOWEST_FREE_PORT
from . import known_programs, shell_words
from .imported import MOST_INSTANCES, MOST_VARIABLES, FoundPrograms, Imported, instance_name
from .ini import owned_text_of

_TYPE = re.compile(r"([A-Za-z0-9_-]+):\s*(.+)")
_PAIR = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_MOST_PROBLEMS = 20
_FIRST_PORT, _PORT_STEP, _LAST_PORT = 5000, 100, 65535
_READY_AFTER = 3  # seconds, as `unit wrap` has it
_MOST_CD = 20  # before one command; with more of them, a shell runs it
_CD = re.compile(r"cd\s+([\w./@+-]+)\s*&&\s*(.+)", re.DOTALL)
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_NAMES_PORT = re.compile(r"\$\{?PORT\b")
_RELEASE = "release"


class _Line(NamedTuple):
    """A process type."""

    type: str
    command: str
    where: str
    port: int


def found(file: str, *, prefix: str = "", user: str = "") -> FoundPrograms:
    """All instances of a Procfile. They run as `user`, else as the owner of the file.

    Raises BadFile for a file with mistakes, CannotImport.
    """
    file = os.path.abspath(file)
    notes: list[str] = []
    try:
        directory = os.open(os.path.dirname(file), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BadFile([f"Cannot read {file}: {error.strerror}."]) from error
    try:
        text, uid = owned_text_of(file, directory=directory)
        variables = _environment(os.path.join(os.path.dirname(file), ".env"), directory, uid, notes)
    finally:
        os.close(directory)
    given = bool(user)
    user = user or _owner(file, uid, notes)
    refused: list[str] = []
    instances = []
    for line in _lines(file, text, variables):
        if line.type == _RELEASE:
            notes.append(
                f"{line.where}: release is not imported: run {one_line(line.command, 200)!r} in your deployment, "
                "before the reload."
            )
            continue
        try:
            instance = _instance(line, file, variables, prefix, user)
            if not given:
                _refuse_low_ports(instance)
            instances.append(instance)
        except CannotImport as error:
            refused.append(f"{one_line(line.type, 80)}: {error}")
    return FoundPrograms(tuple(instances), (), tuple(notes), tuple(refused))


def _lines(file: str, text: str, variables: Mapping[str, str]) -> Iterator[_Line]:
    """The process types, with ports as foreman counts them. Raises BadFile."""
    problems: list[str] = []
    found: dict[str, _Line] = {}
    base = decimal(variables.get("PORT", str(_FIRST_PORT)), _LAST_PORT)
    if not base:
        raise BadFile([f"{os.path.dirname(file)}/.env: PORT must be a number from 1 to {_LAST_PORT}."])
    for number, line in enumerate(text.split("\n"), 1):
        line, where = line.strip(), f"{file}:{number}"
        if not line or line.startswith("#"):
            continue
        matched = _TYPE.fullmatch(line)
        if matched is None or "\0" in line:
            problems.append(f"{where}: {one_line(line, 60)!r} is not TYPE: COMMAND.")
        elif matched[1] in found:
            problems.append(f"{where}: {one_line(matched[1], 60)} is there already, in {found[matched[1]].where}.")
        else:
            port = base + _PORT_STEP * len(found)
            found[matched[1]] = _Line(matched[1], matched[2], where, port)
        if len(problems) == _MOST_PROBLEMS or len(found) > MOST_INSTANCES:
            break
    if len(found) > MOST_INSTANCES:
        problems.append(f"{file}: these are more than {MOST_INSTANCES} process types.")
    if not found and not problems:
        problems.append(f"{file}:1: there is no TYPE: COMMAND.")
    if problems:
        raise BadFile(problems)
    yield from found.values()


def _environment(file: str, directory: int, owner: int, notes: list[str]) -> dict[str, str]:
    """The variables of the file .env, as foreman reads it; {} if there is none.

    The owner of the Procfile gets what the file says, and root may read more than they. So the file must be theirs or
    root's, and no symlink. Raises BadFile.
    """
    try:
        os.stat(os.path.basename(file), dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return {}
    text, uid = owned_text_of(file, directory=directory, follow=False)
    if uid not in (0, owner):
        raise BadFile([f"{file}: uid {uid} owns it, but uid {owner} owns the Procfile; give both to one user."])
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        pair = _PAIR.fullmatch(line)
        if pair is None or "\0" in line:
            raise BadFile([f"{file}:{number}: this line is not KEY=VALUE."])
        found[pair[1]] = _unquoted(pair[2].strip())
        if len(found) > MOST_VARIABLES:
            raise BadFile([f"{file}:{number}: these are more than {MOST_VARIABLES} variables."])
    notes.append(f"{file}: its variables are copied; change them in NAME.env from now on.")
    return found


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1]
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1].replace(r"\n", "\n"))
    return value


def _refuse_low_ports(instance: Imported) -> None:
    """Raises CannotImport if a Procfile would give its owner a port that only root may open."""
    entries = instance.values.get("listen")
    for entry in entries.values() if isinstance(entries, dict) and "user" in instance.values else ():
        address = entry.get("address") if isinstance(entry, dict) else entry
        name = parse(str(address)).name
        if isinstance(name, tuple) and name[1] < LOWEST_FREE_PORT:
            raise CannotImport(
                f"{instance.where}: only root may open port {name[1]}; to allow that, name the user with --user."
            )


def _owner(file: str, uid: int, notes: list[str]) -> str:
    """The user who owns the Procfile. Raises CannotImport for root's file that others may write."""
    who = who_else_may_write(file) if uid == 0 else ""
    if who:
        raise CannotImport(f"{file}: root owns it, so root would run it, and {who}; name a user with --user.")
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = str(uid)
    notes.append(f"{file}: its processes run as {owner}, who owns it; --user names another user.")
    return owner


def _instance(line: _Line, file: str, variables: Mapping[str, str], prefix: str, user: str) -> Imported:
    """Raises CannotImport."""
    directory, command = os.path.dirname(file), line.command.strip()
    for _ in range(_MOST_CD):
        inside = _CD.fullmatch(command)
        if inside is None:
            break
        directory, command = os.path.normpath(os.path.join(directory, inside[1])), inside[2].strip()
    command = re.sub(r"^exec\s+", "", command)
    if line.port > _LAST_PORT:
        raise CannotImport(f"{line.where}: $PORT would be {line.port}; set a lower PORT in .env.")
    environment = {**variables, "PORT": str(line.port)}
    try:
        words = shell_words.split(command, environment)
    except ValueError as error:
        raise CannotImport(f"{line.where}: {error}.") from None
    assigned = list(itertools.takewhile(bool, map(_ASSIGNMENT.fullmatch, words or [])))
    environment |= {found[1]: found[2] for found in assigned if found}
    words = words and words[len(assigned) :]
    notes: list[str] = []
    values: dict[str, Any] = {"directory": directory, **({"user": user} if user not in ("root", "0") else {})}
    values |= _of_shell(command, notes) if not words else _of_words(words, directory, environment, user, notes)
    if "listen" not in values and (line.type == "web" or _NAMES_PORT.search(line.command)):
        notes.append(
            f"it opens port {line.port} itself, so nobody listens while a reload stops it and starts it again; a "
            "program that takes sockets from systemd gets them from `listen`"
        )
    elif "listen" in values and _NAMES_PORT.search(line.command):
        notes.append(
            f"$PORT is {line.port}: 100 more for each process type, as foreman counts; PORT in .env is the first"
        )
    name = instance_name(prefix + line.type, line.where)
    return Imported(name, line.where, file, values, environment, notes=tuple(notes), named=(line.type,))


def _of_shell(command: str, notes: list[str]) -> dict[str, Any]:
    """The keys for a command line that needs a shell."""
    notes.append(
        "a shell runs it, because it is more than a program and its arguments; a stop goes to all of its processes"
    )
    word = known_programs.escaped(command)
    return {"command": ["/bin/sh", "-c", word], "kill_mode": "group", "ready_after": _READY_AFTER}


def _of_words(
    words: Sequence[str], directory: str, environment: Mapping[str, str], user: str, notes: list[str]
) -> dict[str, Any]:
    """The keys for a program and its arguments."""
    return known_programs.adapted(
        words, notes, directory=directory, environment=environment, stop_seconds=40.0, user=user
    ) or {"command": [known_programs.escaped(word) for word in words], "ready_after": _READY_AFTER}
