"""Inputs by chance: JSON values that programs trip over, objects of which a part is spoilt, bytes that are."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from typing import Any, TypeVar

Some = TypeVar("Some")


class Token(str):
    """A piece of JSON text that stands for itself."""


NUMBERS: Sequence[object] = (
    *(0, 1, -1, 2, 7, 255, 1000, 10_001, 2**22, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 2**64 - 1, -(2**63), 10**30),
    *(0.0, -0.0, 0.5, 1e-300, 1e15, 1e308, -1e308, 3.5),
    *map(Token, ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1E400", "00", "1_000", "0x10", "1.", ".5", "+1")),
    *(Token("9" * 300), Token("9" * 4299), Token("9" * 5000), Token("1." + "3" * 5000), Token("-" + "1" * 4300)),
)
TEXTS: Sequence[object] = (
    *("", "x", "yes", "workers", "../x", "/", "/proc/self/mem", "a b", "-", "--all", "%s%n", "{0}", "$(reboot)"),
    *(
        "\0",
        "a\0b",
        "\n",
        "\r\n",
        "\x1b[2J",
        "\x9b31m",
        "\u202e",
        "\u200b",
        "\u2028",
        "\ufeff",
        "ünï",
        "²",
        "١٢",
        "\U0010ffff",
    ),
    *("x" * 5000, "é" * 3000, "\udc80", "\udcff/x"),
    *map(Token, (r'"\ud800"', r'"\udfff\ud800"', r'"\u0000"', '"\x01"', '"\\x"', '"')),
)
OTHERS: Sequence[object] = (None, True, False, [], {}, [[]], [{}], {"": {}}, Token(""), Token(","), Token("nul"))


class Chance(random.Random):
    """Chance with a seed, and what it is asked for here."""

    def one_in(self, number: int) -> bool:
        """Seldom, for a large number."""
        return self.randrange(number) == 0

    def weird(self) -> object:
        """A JSON value, or a token that is none."""
        match self.randrange(8):
            case 0 | 1 | 2:
                return self.choice(NUMBERS)
            case 3 | 4:
                return self.choice(TEXTS)
            case 5 | 6:
                return copy.deepcopy(self.choice(OTHERS))
            case _:
                return self._nested()

    def _nested(self) -> object:
        depth = self.choice((1, 3, 30, 900, 1100, 3000))
        inner = self.choice(("1", "null", "", '"x"'))
        opening, closing = self.choice((("[", "]"), ('{"a":', "}"), ('[{"x":', "}]")))
        return Token(opening * depth + inner + (closing * depth if not self.one_in(10) else ""))

    def spoilt(self, value: Any) -> Any:  # noqa: ANN401
        """A copy of a JSON value in which one thing, or a few, are otherwise."""
        value = copy.deepcopy(value)
        for _ in range(self.choice((1, 1, 1, 2, 5))):
            value = self._spoil_one(value)
        return value

    def _spoil_one(self, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict) and value and not self.one_in(6):
            key = self.choice(list(value))
            match self.randrange(8):
                case 0:
                    del value[key]
                case 1:
                    value[str(self.choice(("x", "", "a\0", "say", "pid", "..", "é", "ſ")))] = self.weird()
                case 2:
                    value[key] = value[self.choice(list(value))]
                case _:
                    value[key] = self._spoil_one(value[key])
            return value
        if isinstance(value, list) and value and not self.one_in(6):
            place = self.randrange(len(value))
            match self.randrange(8):
                case 0:
                    del value[place]
                case 1:
                    value.insert(place, copy.deepcopy(value[place]))
                case 2:
                    value *= self.choice((0, 2, 300)) if len(value) < 20 else 0
                case _:
                    value[place] = self._spoil_one(value[place])
            return value
        if isinstance(value, int) and not isinstance(value, bool) and self.one_in(3):
            return value + self.choice((-1, 1, 1000, 2**40))
        if isinstance(value, str) and self.one_in(3):
            return self.text(value)
        return self.weird()

    def text(self, text: str) -> str:
        """A text with something in it that does not belong there."""
        place = self.randrange(len(text) + 1)
        piece = self.choice([each for each in TEXTS if not isinstance(each, Token)])
        return f"{text[:place]}{piece}{text[place + self.choice((0, 0, 1, 5)) :]}"

    def bytes(self, data: bytes, pieces: Sequence[bytes]) -> bytes:
        """Bytes of which some are otherwise; pieces are what may come into them."""
        for _ in range(self.choice((1, 1, 2, 4))):
            place = self.randrange(len(data) + 1)
            match self.randrange(6):
                case 0:
                    data = data[:place]
                case 1:
                    data = data[:place] + self.randbytes(self.choice((1, 2, 20))) + data[place + 1 :]
                case 2:
                    data = data[:place] + data[place + self.choice((1, 3, 50)) :]
                case 3:
                    data = data[:place] + data[place : place + 40] * self.choice((2, 10, 100)) + data[place + 40 :]
                case _:
                    data = data[:place] + self.choice(pieces) + data[place:]
        return data


def as_json(value: Any) -> bytes:  # noqa: ANN401
    """As JSON text, with all tokens as they are."""
    return _text(value).encode(errors="surrogatepass")


def _text(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value)
