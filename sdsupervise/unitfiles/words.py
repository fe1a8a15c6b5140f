"""Splits, unquotes and joins the words of a unit's command line as systemd does: systemd.service(5).

$VARIABLE, ${VARIABLE}, $$ and specifiers such as %i stay as they are. systemd replaces them after it has split a line,
quoted or not. So they mean the same in the original line and in a line that we write.

Rejected: shlex, which has other special characters, and no escapes such as \\x20.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

PREFIXES = "-@:+!|"  # "|" since systemd 257


class Exec(NamedTuple):
    """One command of an Exec*= line."""

    prefixes: str
    words: tuple[str, ...]

    @property
    def privileged(self) -> str:
        """The prefixes that give it other privileges than the unit's other processes."""
        return "".join(letter for letter in self.prefixes if letter in "+!")


_ESCAPES = {
    **{"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "},
    **{letter: letter for letter in "\\\"'"},
}
_BY_NUMBER = re.compile(
    r"x([0-9A-Fa-f]{2})|([0-3][0-7]{2})|u((?![dD][89a-fA-F])[0-9A-Fa-f]{4})|U(000[0-9A-Fa-f]{5}|0010[0-9A-Fa-f]{4})"
)
_WORD = re.compile(r"(?:[^\s\"'\\]|\\.|\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|\\$)+", re.DOTALL)
_PART = re.compile(r"\"((?:[^\"\\]|\\.)*)\"?|'((?:[^'\\]|\\.)*)'?|((?:[^\"'\\]|\\.|\\$)+)", re.DOTALL)
_PLAIN = re.compile(r"[^\s\"'\\;#\x00-\x1f\udc80-\udcff]+")
_BYTES = ("utf-8", "surrogateescape")


def split(text: str) -> list[str]:
    """The words of a list, unquoted."""
    return [_unquoted(raw) for raw in _WORD.findall(text)]


def commands(value: str) -> list[Exec]:
    """The commands of an Exec*= line, separated by a single ";"."""
    return [
        _command([";" if raw == r"\;" else _unquoted(raw) for raw in group]) for group in _groups(_WORD.findall(value))
    ]


def _groups(raws: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for raw in [*raws, ";"]:
        if raw != ";":
            group.append(raw)
        elif group:
            yield group
            group = []


def _command(found: Sequence[str]) -> Exec:
    program = found[0].lstrip(PREFIXES)
    return Exec(found[0][: len(found[0]) - len(program)], (program, *found[1:]))


def quoted(word: str) -> str:
    """The word in a form that systemd reads back as this one word."""
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", escaped) + '"'


def joined(given: Sequence[str]) -> str:
    """The words as one line."""
    return " ".join(map(quoted, given))


def literal(text: str) -> str:
    """A text for a command line in a unit, escaped so that systemd replaces nothing in it."""
    return without_variables(text.replace("%", "%%"))


def without_variables(text: str) -> str:
    """A text escaped only against variables, for a place where systemd still replaces specifiers."""
    return text.replace("$", "$$")


def _unquoted(raw: str) -> str:
    word = "".join(_unescaped(first or second or third) for first, second, third in _PART.findall(raw))
    return word.encode(*_BYTES).decode(*_BYTES)


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    result, place = "", 0
    while place < len(text):
        if text[place] != "\\" or place + 1 == len(text):
            result += text[place]
            place += 1
        elif found := _BY_NUMBER.match(text, place + 1):
            byte, octal, short, long = found.groups()
            number = int(octal, 8) if octal else int(byte or short or long, 16)
            # A single byte; several may form one character in UTF-8.
            result += bytes([number]).decode(*_BYTES) if byte or octal else chr(number)
            place = found.end()
        else:
            result += _ESCAPES.get(text[place + 1], text[place : place + 2])
            place += 2
    return result
