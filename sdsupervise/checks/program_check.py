"""Whether a command can be executed, and can say when it is ready, as far as its files show that. None of it runs."""

import os
import re
from collections.abc import Iterator, Sequence

from ..errors import ConfigError
from ..settings.settings import Settings
from ..unitfiles import programs
from ..workers.command_source import find
from .socket_check import Said

_LOOKED_AT_BYTES = 16 * 2**20
_BINFMT = "/proc/sys/fs/binfmt_misc"
# What stands in a program, or in a script, that says when it is ready, or has a library do that.
_SIGNS = re.compile(rb"READY=1|NOTIFY_SOCKET|sd_?notify|systemd[.-](daemon|notify)|sdsupervise ready")


def of_program(words: Sequence[str], settings: Settings) -> Iterator[Said]:
    """Of a command line, as whom and from where it will run."""
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


def of_helper(name: str) -> Iterator[Said]:
    """Of a program that the supervisor itself runs."""
    try:
        executable = os.path.abspath(find([name]))
    except ConfigError as error:
        yield Said(str(error), True)
        return
    if why := _why_not(executable):
        yield Said(f"Cannot execute {executable}: {why}.", True)


def _why_not(executable: str) -> str:
    """Why the kernel will not execute it, as far as can be seen; "" where it will."""
    if os.statvfs(executable).f_flag & os.ST_NOEXEC:
        return "its file system is mounted noexec"
    try:
        with open(executable, "rb") as file:
            begin = file.read(4096)
    except PermissionError:
        return ""  # who may execute a program need not be able to read it
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
        return _SIGNS.search(os.fsencode(path)) is not None  # a word, such as sh -c has
    try:
        with open(path, "rb") as file:
            return _SIGNS.search(file.read(_LOOKED_AT_BYTES)) is not None
    except OSError:
        return True  # we cannot know
