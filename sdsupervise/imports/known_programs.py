"""Adapts a command line whose program is known, as `unit wrap` does, and says the result in keys of an instance."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import CannotWrap
from ..instances.keys import FILE_KEYS
from ..settings import listen
from ..unitfiles import programs
from ..unitfiles.line import CommandLine
from ..unitfiles.words import literal

_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)\b(?!=)")
# In the words of a command {NAME} stands for a descriptor, unless it is doubled.
_PLACE_HOLDER = re.compile(r"(?<!\$)(\{[\w.-]+\})")


def adapted(
    words: Sequence[str],
    notes: list[str],
    *,
    directory: str,
    environment: Mapping[str, str],
    stop_seconds: float,
    user: str,
    addresses: Sequence[str] = (),
) -> dict[str, Any]:
    """The keys for a known program; {} for any other program, and for one that stays as it is, which a note says.

    `user` is whom the program runs as; "" is root. `addresses` are NAME=ADDRESS of sockets that it had as descriptor 0.
    """
    place = programs.find_program(words)
    if not programs.knows(words[place]):
        return {}
    line = CommandLine(
        [literal(word) for word in words],
        program=place,
        directory=directory,
        environment={name: literal(value) for name, value in environment.items()},
        listen=addresses,
        stop_seconds=stop_seconds,
        user=user,
    )
    try:
        if addresses:
            _without_descriptor(line)
        programs.adapt(line)
    except CannotWrap as error:
        notes.append(f"a reload stops it and starts it again: {_in_keys(str(error)).rstrip('.')}")
        return {}
    values: dict[str, Any] = {"command": [_as_word(word, words) for word in line.words]}
    if line.directory:
        values["directory"] = plain(line.directory)
    entries: dict[str, object] = {}
    for entry in line.listen:
        entries |= listen.read(plain(entry))
    if entries:
        values["listen"] = entries
    for name, text in line.options.items():
        key = name.replace("-", "_")
        kind = FILE_KEYS[key]
        values[key] = kind.check(kind.read(text) if text else True)
    notes += map(_in_keys, line.notes)
    return values


def _without_descriptor(line: CommandLine) -> None:
    """Remove the option that names descriptor 0, where the socket was."""
    if line.program != "uvicorn" or line.take("--fd") != ["0"]:
        raise CannotWrap(f"{line.program} takes its socket as descriptor 0.")


def escaped(word: str) -> str:
    """A word of a command, in which no {NAME} stands for a descriptor."""
    return _PLACE_HOLDER.sub(r"{\1}", word)


def plain(text: str) -> str:
    """The reverse of words.literal()."""
    return text.replace("$$", "$").replace("%%", "%")


def _as_word(word: str, originals: Sequence[str]) -> str:
    """A word as an instance's file has it: those that were there before are no place holders."""
    found = plain(word)
    return escaped(found) if found in originals else found


def _in_keys(note: str) -> str:
    """A note with the keys of an instance in place of options of `sdsupervise run`."""

    def key(found: re.Match[str]) -> str:
        name = found[1].replace("-", "_")
        return name if name in FILE_KEYS else found[0]

    return _OPTION.sub(key, note)
