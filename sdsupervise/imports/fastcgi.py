"""A [fcgi-program:x] of supervisord: its socket, which the program has as descriptor 0."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence

from ..errors import CannotImport
from ..input.checked import decimal
from ..input.printable import one_line
from .options import SectionOptions

NAME = "fcgi"  # of the listener
OPTIONS = ("socket", "socket_backlog", "socket_owner", "socket_mode")
_TCP = re.compile(r"tcp://([^\s:]+):([0-9]{1,5})")
_UNIX = "unix://"
_NUMERIC = re.compile(r"[0-9.]+")
_USUAL_MODE = 0o700
_NUMBER = re.compile(r"(?<!%)%\(process_num\)[ds]")
_MARK = "\ue000"  # private; stands for the number of a process until the command is written


def listener(options: SectionOptions) -> Mapping[str, object]:
    """The entry of `listen` for its socket. Raises CannotImport."""
    text, where = options.text("socket"), options.where("socket")
    if not text:
        raise CannotImport(f"{options.section.where}: [{one_line(options.section.name, 80)}] has no socket.")
    entry: dict[str, object] = {}
    if text.startswith(_UNIX + "/"):
        entry["address"] = os.path.normpath(text.removeprefix(_UNIX))
        mode = options.octal("socket_mode")
        entry["mode"] = f"{_USUAL_MODE if mode is None else mode:04o}"
        entry |= _owner(options)
    elif found := _TCP.fullmatch(text):
        host = "127.0.0.1" if found[1] == "localhost" else found[1]
        if not _NUMERIC.fullmatch(host):
            raise CannotImport(f"{where}: socket is {one_line(text, 200)!r}; a listener's address is a number.")
        entry["address"] = f"{host}:{found[2]}"
    else:
        raise CannotImport(f"{where}: socket is {one_line(text, 200)!r}; it must be tcp://HOST:PORT or unix:///PATH.")
    backlog = options.text("socket_backlog")
    if backlog is not None:
        number = decimal(backlog, 65535)
        if not number:
            raise CannotImport(f"{options.where('socket_backlog')}: socket_backlog must be a number from 1 to 65535.")
        entry["backlog"] = number
    return entry


def _owner(options: SectionOptions) -> dict[str, object]:
    """The owner of a socket's file: the one that it names, else the user of the program."""
    owner = options.text("socket_owner") or options.text("user") or ""
    user, _, group = owner.partition(":")
    return {**({"user": user} if user else {}), **({"group": group} if group else {})}


def numbered(command: str) -> str:
    """The command with a mark for each number of a process: these processes share a socket, so they are workers of one
    instance, whose number is in their environment."""
    return _NUMBER.sub(_MARK, command)


def is_numbered(words: Sequence[str]) -> bool:
    """Whether a word has such a mark."""
    return any(_MARK in word for word in words)


def on_descriptor_0(words: Sequence[str], first_number: int) -> list[str]:
    """The command with the listener as its standard input, where a FastCGI program looks for it."""
    redirections = f"<&{{{NAME}}} {{{NAME}}}<&-"
    if not is_numbered(words):
        return ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh", *words]
    number = f'"$((SDSUPERVISE_WORKER_INDEX + {first_number}))"' if first_number else '"$SDSUPERVISE_WORKER_INDEX"'
    quoted = (number.join(shlex.quote(part) if part else "" for part in word.split(_MARK)) or "''" for word in words)
    return ["/bin/sh", "-c", f"exec {' '.join(quoted)} {redirections}"]
