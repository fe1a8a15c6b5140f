"""Checks whether a command can be executed, and can report that it is ready, from its files only. Nothing is run."""

import os
import re
from collections.abc import Iterator, Sequence

from ..errors import ConfigError
from ..input.printable import one_line
from ..settings.settings import Settings
from ..unitfiles import gunicorn_file, programs
from ..unitfiles.finding import ERROR
from ..unitfiles.launchers import is_shell
from ..workers.command_source import find
from .socket_check import Said

_LOOKED_AT_BYTES = 16 * 2**20  # of one file
_BINFMT = "/proc/sys/fs/binfmt_misc"
_VARIABLE = re.compile(r"(?:[^\s$]*[:=/])?(\$\{?[A-Za-z_][A-Za-z0-9_]*\}?)(?::\S*)?")
# Texts in a program or script that reports when it is ready, itself or by a library.
_SIGNS = re.compile(rb"READY=1|NOTIFY_SOCKET|sd_?notify|systemd[.-](daemon|notify)|sdsupervise ready")


def of_program(words: Sequence[str], settings: Settings) -> Iterator[Said]:
    """Findings about a command line, with the user and directory of this process."""
    yield from _of_variables(words)
    for finding in (*gunicorn_file.in_vain(words), *gunicorn_file.missing(words, os.getcwd())):
        yield Said(f"{finding.problem}; {finding.fix}.", finding.severity == ERROR)
    try:
        executable = os.path.abspath(find(words))
    except ConfigError as error:
        yield Said(str(error), True)
        return
    if why := _why_not(executable):
        yield Said(f"Cannot execute {executable}: {why}.", True)
    elif not settings.ready_after and not _says_when_ready(executable, words):
        limit = settings.start_timeout
        ends = f"is ended after start_timeout, {limit:g} s" if limit else "never serves"
        yield Said(
            f"The command is ready when {os.path.basename(words[0])} sends READY=1, but none of its files seems to "
            f"send it. A command that does not send it {ends}. If it cannot send READY=1, set ready_after.",
            False,
        )


def _of_variables(words: Sequence[str]) -> Iterator[Said]:
    """A remark about a word such as $PORT, which only a shell or systemd would replace."""
    for word in words[1:]:
        if is_shell(word) or is_shell(words[0]):
            return
        if found := _VARIABLE.fullmatch(word):
            yield Said(
                f"The command has {one_line(word, 100)}, and gets this very text: no shell replaces {found[1]} in it. "
                f'Write the value, or a shell: command = ["/bin/sh", "-c", "exec …"].',
                False,
            )
            return


def of_helper(name: str) -> Iterator[Said]:
    """Findings about a program that the supervisor runs itself."""
    try:
        executable = os.path.abspath(find([name]))
    except ConfigError as error:
        yield Said(str(error), True)
        return
    if why := _why_not(executable):
        yield Said(f"Cannot execute {executable}: {why}.", True)


def _why_not(executable: str) -> str:
    """Why the kernel refuses to execute the file, as far as that is visible; "" if it does not."""
    if os.statvfs(executable).f_flag & os.ST_NOEXEC:
        return "its file system is mounted noexec"
    try:
        with open(executable, "rb") as file:
            begin = file.read(4096)
    except PermissionError:
        return ""  # a program may be executable without being readable
    if begin.startswith(b"\x7fELF") and len(begin) > 16:
        return ""
    if not begin.startswith(b"#!"):
        others = set(os.listdir(_BINFMT)) - {"register", "status"} if os.path.isdir(_BINFMT) else set()
        return "" if others else "it is neither a program nor a script with a first line such as #!/bin/sh"
    line = os.fsdecode(begin.partition(b"\n")[0])
    interpreter, *arguments = line[2:].split() or [""]
    if line.endswith("\r"):
        return f"its first line, {line.rstrip()}, ends in CR LF, as on Windows"
    if not os.access(interpreter, os.X_OK):
        return f"its first line names {interpreter or 'nothing'}, which cannot be executed"
    if os.path.basename(interpreter) != "env":
        return ""
    named = next((word for word in arguments if not word.startswith("-") and "=" not in word), "")
    try:
        find([named])
    except ConfigError:
        return f"its first line names {named or 'nothing'}, which is not in PATH"
    return ""


def _says_when_ready(executable: str, words: Sequence[str]) -> bool:
    if programs.says_when_ready(words):
        return True
    return any(_has_signs(path) for path in (executable, *words[1:]))


def _has_signs(path: str) -> bool:
    if not os.path.isfile(path):
        return _SIGNS.search(os.fsencode(path)) is not None  # a word of the command line, such as the script of sh -c
    try:
        with open(path, "rb") as file:
            return _SIGNS.search(file.read(_LOOKED_AT_BYTES)) is not None
    except OSError:
        return True  # unknown
