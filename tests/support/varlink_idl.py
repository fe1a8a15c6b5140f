"""Just enough of Varlink's interface definition language (https://varlink.org/Interface-Definition) to hold what a
supervisor says against the description that it gives of itself. The varlink library is not in Debian 12."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

_TOKEN = re.compile(r"\s*(#[^\n]*|[A-Za-z][A-Za-z0-9_.]*|->|\[\]|\[string\]|[?(),:])")
_PLAIN: Mapping[str, type | tuple[type, ...]] = {
    "bool": bool,
    "int": int,
    "float": (int, float),
    "string": str,
    "object": object,
}


class Struct(NamedTuple):
    """Fields by name, and what the comment above a field says of it."""

    fields: Mapping[str, object]
    meanings: Mapping[str, str] = MappingProxyType({})


class Enum(NamedTuple):
    """One of these words."""

    words: tuple[str, ...]


class Wrapped(NamedTuple):
    """`?X`, `[]X`, `[string]X`."""

    how: str
    what: object


class Interface:
    """A parsed description. What is no such thing raises ValueError."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = _TOKEN.findall(text)
        rest = _TOKEN.sub("", text).strip()
        if rest:
            raise ValueError(f"{rest[:40]!r} is no Varlink")
        self._place = 0
        self.types: dict[str, object] = {}
        self.methods: dict[str, tuple[object, object]] = {}
        self.errors: dict[str, object] = {}
        self.comments: dict[str, str] = {}
        """What stands above each of them, a line of it a line."""
        self._comments()
        self._expect("interface")
        self.name = self._next()
        while self._place < len(self._tokens):
            comment = self._comments()
            kind, name = self._next(), self._next()
            self.comments[name] = comment
            if kind == "type":
                self.types[name] = self._type()
            elif kind == "error":
                self.errors[name] = self._type()
            elif kind == "method":
                given = self._type()
                self._expect("->")
                self.methods[name] = (given, self._type())
            else:
                raise ValueError(f"{kind} {name}")

    def complaints(self, wanted: object, value: object, where: str = "") -> Iterator[str]:
        """What is wrong with a value that should be of this type."""
        match wanted:
            case Wrapped("?", what):
                if value is not None:
                    yield from self.complaints(what, value, where)
            case Wrapped("[]", what) if isinstance(value, list):
                for number, each in enumerate(value):
                    yield from self.complaints(what, each, f"{where}[{number}]")
            case Wrapped("[string]", what) if isinstance(value, dict):
                for name, each in value.items():
                    yield from self.complaints(what, each, f"{where}[{name!r}]")
            case Struct(fields) if isinstance(value, dict):
                for name in value.keys() - fields.keys():
                    yield f"{where}.{name} is not described"
                for name, what in fields.items():
                    yield from self.complaints(what, value.get(name), f"{where}.{name}")
            case Enum(words):
                if value not in words:
                    yield f"{where} is {value!r}, none of {words}"
            case str() if wanted in _PLAIN:
                if not isinstance(value, _PLAIN[wanted]) or (wanted in ("int", "float") and isinstance(value, bool)):
                    yield f"{where} is {value!r}, no {wanted}"
            case str():
                yield from self.complaints(self.types[wanted], value, where)
            case _:
                yield f"{where} is {value!r}, no {wanted}"

    def _type(self) -> object:
        token = self._next()
        if token in ("?", "[]", "[string]"):
            return Wrapped(token, self._type())
        if token != "(":
            return token
        fields: dict[str, object] = {}
        meanings: dict[str, str] = {}
        words: list[str] = []
        while self._peek() != ")":
            meaning = self._comments()
            name = self._next()
            meanings[name] = meaning.replace("\n", " ")
            if self._peek() == ":":
                self._expect(":")
                fields[name] = self._type()
            else:
                words.append(name)
            if self._peek() != ")":
                self._expect(",")
        self._expect(")")
        if words and fields:
            raise ValueError(f"{words} have no type")
        return Enum(tuple(words)) if words else Struct(fields, meanings)

    def _comments(self) -> str:
        """Those that come next, without their signs."""
        lines = []
        while self._place < len(self._tokens) and self._peek().startswith("#"):
            lines.append(self._next().removeprefix("#").strip())
        return "\n".join(lines)

    def _peek(self) -> str:
        return self._tokens[self._place]

    def _next(self) -> str:
        self._place += 1
        return self._tokens[self._place - 1]

    def _expect(self, token: str) -> None:
        found = self._next()
        if found != token:
            raise ValueError(f"{found!r} instead of {token!r}")
