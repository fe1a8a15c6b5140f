"""Words of a unit's command line: split, unquoted and put together again as systemd does it, systemd.service(5).

$VARIABLE, ${VARIABLE}, $$ and specifiers such as %i stay as they are. systemd replaces them after it has split a line,
whether they were quoted or not, so that they mean in a line of ours what they meant in the one they come from.

Alternatives considered: shlex, to which other characters are special, and which has no escapes such as \\x20.
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
        """Those of the prefixes that make it run with other privileges than the unit's other processes."""
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
    """The words of a value that is a list, unquoted."""
    return [_unquoted(raw) for raw in _WORD.findall(text)]


def commands(value: str) -> list[Exec]:
    """The commands of an Exec*= line, which a ";" that stands alone separates."""
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
    """The word as it must be written to be read as one."""
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", escaped) + '"'


def joined(given: Sequence[str]) -> str:
    """The words as one line."""
    return " ".join(map(quoted, given))


def literal(text: str) -> str:
    """A text that no unit has said, as a command line of a unit must have it: systemd replaces nothing in it."""
    return without_variables(text.replace("%", "%%"))


def without_variables(text: str) -> str:
    """The same of one in which a unit has specifiers replaced, but no variables, as in Environment=."""
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
            # A byte, which may be one of several that are one character in UTF-8.
            result += bytes([number]).decode(*_BYTES) if byte or octal else chr(number)
            place = found.end()
        else:
            result += _ESCAPES.get(text[place + 1], text[place : place + 2])
            place += 2
    return result
