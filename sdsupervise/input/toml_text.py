"""Where the keys and values of a TOML text stand, and how TOML writes a value.

tomllib and tomlkit give no positions. This goes through a text that tomllib has accepted, so it need not check the
text.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import NamedTuple, Self

Path = tuple[str | int, ...]  # ("listen", "http", "address"); an item of an array has its index from 0

_LONGEST = 60  # the characters of a value in a message
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' + "|'''.*?'{3,5}" + r'|"(?:[^"\\]|\\.)*"' + "|'[^']*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")  # a number, a date (which may have a space in it), true or false


class Position(NamedTuple):
    """A line and a column, both counted from 1; columns in characters."""

    line: int
    column: int


class KeyPosition(NamedTuple):
    """Where a key and its value begin. For a [table], which has no value, both are the key's position."""

    key: Position
    value: Position

    @classmethod
    def at(cls, line: int, column: int) -> Self:
        """Return this position for the key and for the value."""
        return cls(Position(line, column), Position(line, column))


def locate(text: str) -> dict[Path, KeyPosition]:
    """Return the position of every key in a text that tomllib accepts, and of every item of an array.

    The lines of the text end with "\\n".
    """
    return _Walk(text).places


class _Walk:
    """One pass over a text, which fills `places`."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.places: dict[Path, KeyPosition] = {}
        self._last: dict[Path, int] = {}  # the index of the last table of each array of tables
        table: Path = ()
        while self._skip(_BLANK):
            if self._text.startswith("[[", self._at):
                table = self._header(2)
                self._last[table] = self._last.get(table, -1) + 1
                table = (*table, self._last[table])
                self.places[table] = self.places[table[:-1]]
            elif self._text[self._at] == "[":
                table = self._header(1)
            else:
                self._pair(table)

    def _header(self, brackets: int) -> Path:
        """Read the path of a table's header. An array of tables before it counts with its last table."""
        self._at += brackets
        path = self._key(())
        self._at += brackets
        return path

    def _pair(self, table: Path) -> None:
        path = self._key(table)
        self._at += 1  # "="
        self._skip(_SPACE)
        self.places[path] = self.places[path]._replace(value=self._here())
        self._value(path)

    def _key(self, path: Path) -> Path:
        """Read a key, perhaps a dotted one, and the white space around it."""
        while True:
            self._skip(_SPACE)
            here = self._here()
            if path in self._last:
                path = (*path, self._last[path])  # a key below an array of tables means its last table
            path = (*path, self._name())
            self.places.setdefault(path, KeyPosition(here, here))
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return path
            self._at += 1

    def _name(self) -> str:
        bare = _BARE_KEY.match(self._text, self._at)
        if bare:
            self._at = bare.end()
            return bare[0]
        return str(tomllib.loads(f"key = {self._string()}")["key"])

    def _value(self, path: Path) -> None:
        match self._text[self._at]:
            case '"' | "'":
                self._string()
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case _:
                self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        number = 0
        while self._skip(_BLANK) and self._text[self._at] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            here = self._here()
            self.places[(*path, number)] = KeyPosition(here, here)
            self._value((*path, number))
            number += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._skip(_BLANK) and self._text[self._at] != "}":
            if self._text[self._at] == ",":
                self._at += 1
            else:
                self._pair(path)
        self._at += 1

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return found[0]

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Skip what matches the pattern; return False at the end of the text."""
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at < len(self._text)

    def _here(self) -> Position:
        return position(self._text, self._at)


def position(text: str, at: int) -> Position:
    """Return the position of the character with the index `at`."""
    return Position(text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


def written(value: object) -> str:
    """Return a value as TOML writes it, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{written_key(str(key))} = {written(each)}" for key, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)  # a number, a date or a time


def written_key(key: str) -> str:
    """Return a key as TOML writes it, quoted if need be."""
    return key if _BARE_KEY.fullmatch(key) else written(key)


def shown(value: object) -> str:
    """Return a value as TOML writes it, cut off for a message."""
    try:
        text = written(value)
    except ValueError:  # Python refuses to write an integer of thousands of digits
        text = hex(value) if isinstance(value, int) else "..."
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
