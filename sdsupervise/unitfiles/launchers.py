"""Finds the word of a command line that names the program which is run, behind launchers such as env or uv run.

A launcher counts only if all of its own words are known here. Otherwise nobody can tell its options from the program,
and the program is unknown.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

_MOST_LAUNCHERS = 10  # in one command line


class Launched(NamedTuple):
    """A program, and what its launchers change for it."""

    place: int  # the index of its word
    variables: Mapping[str, str]  # as they are written
    directory: str = ""  # that a launcher changes to
    owner: str = ""  # USER or USER:GROUP that a launcher changes to
    parent: str = ""  # the launcher that stays its parent; it gets no sockets by LISTEN_PID then
    has_own_path: bool = False  # a launcher puts a virtual environment ahead of PATH


class _Launcher(NamedTuple):
    """How one launcher is called."""

    verbs: tuple[str, ...] = ()  # before the program's name, such as `run`
    values: tuple[str, ...] = ()  # its options with a value
    flags: tuple[str, ...] = ()  # its options without one
    operands: int = 0  # its own words between the options and the program
    stays: bool = False  # the program is its child
    has_own_path: bool = False  # it looks in a virtual environment first
    assigns: bool = False  # NAME=VALUE words come before the program
    directory: tuple[str, ...] = ()  # the options, among `values`, that change the directory
    owner: tuple[str, ...] = ()  # the options, among `values`, that change the user; "" is the operand


def _each(names: str) -> tuple[str, ...]:
    return tuple(names.split())


_PYTHON = _Launcher((), ("-W", "-X"), ("-B", "-E", "-I", "-O", "-OO", "-P", "-R", "-S", "-b", "-d", "-q", "-s", "-u"))
_ENV = _Launcher(
    (),
    ("-u", "--unset", "-C", "--chdir"),
    ("-", "-i", "-v", "--ignore-environment", "--debug"),
    assigns=True,
    directory=("-C", "--chdir"),
)
_UV = _Launcher(
    ("run",),
    _each(
        "--with --with-editable --with-requirements --extra --no-extra --group --no-group --only-group --env-file "
        "--python -p --package --no-binary-package --no-build-package --project --directory --index --default-index "
        "--index-url -i --extra-index-url --find-links -f --index-strategy --keyring-provider --upgrade-package -P "
        "--reinstall-package --refresh-package --resolution --prerelease --link-mode --config-setting -C "
        "--exclude-newer --cache-dir --config-file --color --python-platform --allow-insecure-host --with-editable "
        "-w"
    ),
    _each(
        "--frozen --locked --no-sync --offline --isolated --active --no-project --no-config --no-cache -n --no-dev "
        "--dev --only-dev --all-extras --all-groups --all-packages --no-default-groups --no-editable --exact --quiet "
        "-q --verbose -v --no-env-file --managed-python --no-managed-python --native-tls --no-progress --module -m "
        "--no-python-downloads --upgrade -U --reinstall --refresh --compile-bytecode --no-build --no-binary "
        "--no-index --script -s"
    ),
    stays=True,
    has_own_path=True,
    directory=("--directory",),
)
_CHPST = _Launcher(
    (),
    ("-u", "-U", "-b", "-e", "-n", "-m", "-d", "-o", "-p", "-f", "-c", "-r", "-t", "-s", "-C"),
    ("-P", "-v", "-V", "-0", "-1", "-2"),
    owner=("-u",),
    directory=("-C",),
)
_SETPRIV = _Launcher(
    (),
    _each(
        "--reuid --regid --ruid --rgid --euid --egid --groups --ambient-caps --inh-caps --bounding-set --securebits "
        "--pdeathsig --selinux-label --apparmor-profile"
    ),
    ("--clear-groups", "--keep-groups", "--init-groups", "--no-new-privs", "--nnp", "--reset-env"),
    owner=("--reuid",),
)
_LAUNCHERS: Mapping[str, _Launcher] = {
    "env": _ENV,
    "uv": _UV,
    "poetry": _Launcher(
        ("run",),
        ("-C", "--directory", "-P", "--project"),
        ("-n", "--no-interaction", "-q", "-v", "--no-ansi", "--no-plugins", "--no-cache"),
        directory=("-C", "--directory"),
        has_own_path=True,
    ),
    "pipenv": _Launcher(("run",), ("--python",), ("--quiet", "-q", "--verbose", "-v"), has_own_path=True),
    "pdm": _Launcher(("run",), ("-p", "--project", "--venv"), ("-s", "-q", "-v"), stays=True, has_own_path=True),
    "bundle": _Launcher(("exec",), ("--gemfile",), ("--keep-file-descriptors",)),
    "rbenv": _Launcher(("exec",)),
    "ddtrace-run": _Launcher((), (), ("-d", "--debug", "-p", "--profiling")),
    "newrelic-admin": _Launcher(("run-program",)),
    "nice": _Launcher((), ("-n", "--adjustment"), tuple(f"-{number}" for number in range(-20, 20))),
    "ionice": _Launcher((), ("-c", "--class", "-n", "--classdata"), ("-t", "--ignore", "-c1", "-c2", "-c3")),
    "chrt": _Launcher((), (), ("-b", "-f", "-i", "-o", "-r", "-R", "--batch", "--fifo", "--idle", "--other"), 1),
    "taskset": _Launcher((), (), ("-c", "--cpu-list", "-a"), 1),
    "numactl": _Launcher(
        (),
        ("-C", "-m", "-N", "-i", "-P", "--physcpubind", "--membind", "--cpunodebind", "--interleave", "--preferred"),
        ("-l", "--localalloc", "-a", "--all", "-b", "--balancing"),
    ),
    "stdbuf": _Launcher((), ("-i", "-o", "-e", "--input", "--output", "--error")),
    "systemd-cat": _Launcher((), ("-t", "--identifier", "-p", "--priority", "--stderr-priority", "--level-prefix")),
    "authbind": _Launcher((), ("--depth",), ("--deep",)),
    "setpriv": _SETPRIV,
    "chpst": _CHPST,
    "aa-exec": _Launcher((), ("-p", "--profile", "-n", "--namespace"), ("-i", "--immediate", "-v", "--verbose")),
    "runcon": _Launcher(operands=1),
    "setuidgid": _Launcher(operands=1, owner=("",)),
    "s6-setuidgid": _Launcher(operands=1, owner=("",)),
    "envuidgid": _Launcher(operands=1),
    "envdir": _Launcher(operands=1),
    "softlimit": _Launcher((), ("-a", "-c", "-d", "-f", "-l", "-m", "-o", "-p", "-r", "-s", "-t")),
    "dumb-init": _Launcher((), ("-r", "--rewrite"), ("-c", "--single-child", "-v", "--verbose"), stays=True),
    "tini": _Launcher((), ("-p", "-e"), ("-s", "-g", "-v", "-vv", "-w"), stays=True),
    "catatonit": _Launcher((), (), ("-g", "-P"), stays=True),
}
_PYTHONS = re.compile(r"python(3(\.\d+)?t?)?|pypy3?")
_WRAPPERS = ("opentelemetry-instrument",)
_SHELLS = ("sh", "bash", "dash", "zsh")
_BETWEEN_COMMANDS = re.compile(r"&&|\|\||[;&|\n]")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
# A shell does nothing with these letters but split words, and take quotes away.
_PLAIN_TEXT = re.compile(r"[\w@%+=:,./'\" -]+", re.ASCII)
_NO_COMMAND = (
    "if",
    "for",
    "while",
    "until",
    "case",
    "exec",
    "set",
    "export",
    "eval",
    "cd",
    "ulimit",
    "umask",
    "source",
    ".",
)


def is_shell(word: str) -> bool:
    """Whether the word names a shell."""
    return os.path.basename(word) in _SHELLS


def launched(words: Sequence[str], knows: Callable[[str], bool]) -> Launched | None:
    """The program that these words run, if `knows` knows it; None if it is unknown."""
    found = Launched(0, {})
    for _ in range(_MOST_LAUNCHERS):
        place = found.place
        if place >= len(words):
            return None
        name = os.path.basename(words[place])
        if knows(name):
            return found
        if _PYTHONS.fullmatch(name):
            ahead = _of_python(words, found)
        elif name in _WRAPPERS:
            ahead = _behind(words, found, _Launcher())
        elif name in _LAUNCHERS:
            ahead = _behind(words, found, _LAUNCHERS[name])
        else:
            return None
        if ahead is None:
            return None
        found = ahead
    return None


def name_of(words: Sequence[str]) -> str:
    """The name of the program, the module or the script that these words run, behind all launchers that are known."""
    return os.path.basename(word_that_is_run(words))


def word_that_is_run(words: Sequence[str]) -> str:
    """The word that names the program, the module or the script; see name_of."""
    found = launched(words, lambda name: not (name in _LAUNCHERS or name in _WRAPPERS or _PYTHONS.fullmatch(name)))
    place = found.place if found is not None else 0
    if is_shell(words[place]) and place + 1 < len(words) and not words[place + 1].startswith("-"):
        place += 1
    return words[place]


def commands(words: Sequence[str]) -> Iterator[list[str]]:
    """The command, or the commands in the text of `sh -c TEXT`, as far as they are visible without a shell."""
    if not is_shell(words[0]) or len(words) < 3 or not re.fullmatch(r"-\w*c", words[1]):
        yield list(words)
        return
    for part in _BETWEEN_COMMANDS.split(words[2]):
        try:
            command = shlex.split(part)
        except ValueError:
            command = part.split()
        while command and (command[0] == "exec" or _ASSIGNMENT.fullmatch(command[0])):
            del command[0]
        if command:
            yield command


def plain(words: Sequence[str]) -> tuple[list[str], str] | None:
    """The words that a shell would execute for `sh -c TEXT`, and the directory of a `cd` before them.

    None unless the text is a single command without anything that only a shell can do.
    """
    if len(words) != 3 or not is_shell(words[0]) or words[1] not in ("-c", "-ec"):
        return None
    text, directory = words[2].strip(), ""
    if found := re.fullmatch(r"cd ([\w@%+=:,./-]+) *&& *(.*)", text, re.ASCII):
        directory, text = found[1], found[2]
    if not _PLAIN_TEXT.fullmatch(text):
        return None
    try:
        command = shlex.split(text)
    except ValueError:
        return None
    if command[:1] == ["exec"]:
        del command[0]
    if not command or command[0] in _NO_COMMAND or command[0].startswith("-") or _ASSIGNMENT.fullmatch(command[0]):
        return None
    return command, directory


def _of_python(words: Sequence[str], found: Launched) -> Launched | None:
    """What Python runs: a module, or a script."""
    place = found.place + 1
    while place < len(words):
        if words[place] == "-m":
            return found._replace(place=place + 1)
        behind = _past_option(words, place, _PYTHON)
        if behind is None:
            return None
        if behind == place:
            return found._replace(place=place)
        place = behind
    return None


def _behind(words: Sequence[str], found: Launched, launcher: _Launcher) -> Launched | None:
    """The place behind a launcher's own words; None if one of them is unknown."""
    place, verbs, variables = found.place + 1, list(launcher.verbs), dict(found.variables)
    said: dict[str, str] = {}
    while place < len(words):
        word = words[place]
        assignment = _ASSIGNMENT.fullmatch(word) if launcher.assigns else None
        if verbs and word == verbs[0]:
            del verbs[0]
            behind: int | None = place + 1
        elif assignment:
            variables[assignment[1]] = assignment[2]
            behind = place + 1
        elif word == "--" and not verbs:
            place += 1
            break
        else:
            behind = _past_option(words, place, launcher, said)
            if behind == place:
                break
        if behind is None:
            return None
        place = behind
    if verbs or place + launcher.operands >= len(words):
        return None
    said[""] = words[place] if launcher.operands else ""
    place += launcher.operands
    directory = next((said[name] for name in launcher.directory if said.get(name)), "")
    owner = next((said[name] for name in launcher.owner if said.get(name)), "")
    return Launched(
        place,
        variables,
        os.path.join(found.directory, directory) if directory else found.directory,
        owner or found.owner,
        os.path.basename(words[found.place]) if launcher.stays else found.parent,
        launcher.has_own_path or found.has_own_path,
    )


def _past_option(
    words: Sequence[str], place: int, launcher: _Launcher, said: dict[str, str] | None = None
) -> int | None:
    """The place behind an option; the same place for a word that is none, and None for an unknown option."""
    word = words[place]
    if not word.startswith("-"):
        return place
    if word in launcher.flags:
        return place + 1
    name, equals, value = word.partition("=")
    for known in launcher.values:
        if word == known:
            if said is not None and place + 1 < len(words):
                said[known] = words[place + 1]
            return place + 2
        is_joined = len(known) == 2 and word.startswith(known)
        if (name == known and equals and known.startswith("--")) or is_joined:
            if said is not None:
                said[known] = word[2:] if is_joined else value
            return place + 1
    return None
