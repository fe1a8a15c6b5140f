"""The kinds of values that a setting may have: the allowed values, in code and in words, and how an option is read.

Each factory below makes one kind. A kind does not know the setting's name or default.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from . import listen

Form = Literal[
    "seconds",
    "whole number",
    "count",
    "size",
    "choice",
    "flag",
    "command",
    "words",
    "sockets",
    "text",
    "account",
    "statuses",
]
Side = Literal["", "class", "command"]

_YEAR = 366 * 86400.0
_HIGHEST_STATUS = 255
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Kind(NamedTuple):
    """The kind of a setting's values, and the meaning of the setting."""

    form: Form
    meaning: str  # what the setting does, in a few words
    wanted: str  # the allowed values, in words: "it must be ..."
    metavar: str  # the placeholder for a value in a usage message
    # Returns the value for Settings; raises ValueError for a wrong type or a value out of range.
    check: Callable[[Any], Any]
    # Returns the unchecked value of an option's text; raises ValueError.
    read: Callable[[str], Any] = str
    low: float = 0  # the range of a number, with both ends
    high: float = 0
    choices: tuple[str, ...] = ()
    only_for: Side = ""  # the only kind of service that the setting has a meaning for; "" for both
    example: object = None  # an example value, if the default is no good example

    @property
    def unit(self) -> str:
        """The unit of a value: "seconds", "bytes", or "" for none."""
        return {"seconds": "seconds", "size": "bytes"}.get(self.form, "")


def seconds(low: float, meaning: str, *, only_for: Side = "") -> Kind:
    """A number of seconds, whole or not, from `low` up to a year."""

    def check(value: Any) -> Any:  # noqa: ANN401 (whatever stands in a class or a file; so below)
        return _within(value, int | float, low, _YEAR)

    wanted = f"a number of seconds from {low:g} to {_YEAR:.8g}"
    return Kind("seconds", meaning, wanted, "SECONDS", check, float, low, _YEAR, only_for=only_for)


def whole(low: int, high: int, meaning: str) -> Kind:
    """A whole number from `low` to `high`."""

    def check(value: Any) -> Any:  # noqa: ANN401
        return _within(value, int, low, high)

    return Kind("whole number", meaning, f"a whole number from {low} to {high}", "N", check, int, low, high)


def count(high: int, meaning: str) -> Kind:
    """A whole number from 1 to `high`, or "auto"."""

    def check(value: Any) -> Any:  # noqa: ANN401
        return value if value == "auto" else _within(value, int, 1, high)

    def read(text: str) -> int | str:
        return text if text == "auto" else int(text)

    return Kind("count", meaning, f"'auto' or a whole number from 1 to {high}", "N|auto", check, read, 1, high)


def size(meaning: str) -> Kind:
    """A number of bytes, as an integer or in systemd's notation: "512M" is 512 * 2**20 bytes."""

    def check(value: Any) -> Any:  # noqa: ANN401
        return _within(_bytes(value) if isinstance(value, str) else value, int, 0, 2**63 - 1)

    return Kind("size", meaning, "a number of bytes, such as 536870912 or '512M'", "BYTES", check, _bytes)


def choice(words: tuple[str, ...], meaning: str, *, only_for: Side = "") -> Kind:
    """One of a few words."""

    def check(value: Any) -> Any:  # noqa: ANN401
        if value not in words:
            raise ValueError(value)
        return value

    wanted = " or ".join(map(repr, words))
    return Kind("choice", meaning, wanted, "|".join(words), check, choices=words, only_for=only_for)


def flag(meaning: str, *, only_for: Side = "") -> Kind:
    """True or false. On a command line the option is present or absent."""
    return Kind("flag", meaning, "true or false", "", _flag, _read_flag, only_for=only_for)


def command(meaning: str, *, example: object = None) -> Kind:
    """A command and its arguments, as a list. An empty list means no command."""

    def check(value: Any) -> Any:  # noqa: ANN401
        found = _words(value)
        if found and not found[0]:
            raise ValueError(value)
        return found

    wanted = "a list of words, a command and its arguments"
    return Kind("command", meaning, wanted, "COMMAND", check, _split, example=example)


def words(meaning: str, *, only_for: Side = "", example: object = None) -> Kind:
    """A list of words."""
    return Kind("words", meaning, "a list of words", "WORDS", _words, _split, only_for=only_for, example=example)


def statuses(meaning: str, *, only_for: Side = "", example: object = None) -> Kind:
    """A list of exit statuses; on a command line with commas or spaces between them."""

    def check(value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise ValueError(value)
        return tuple(_within(status, int, 0, _HIGHEST_STATUS) for status in value)

    def read(text: str) -> list[int]:
        return [_within(int(word), int, 0, _HIGHEST_STATUS) for word in text.replace(",", " ").split()]

    wanted = f"a list of exit statuses from 0 to {_HIGHEST_STATUS}"
    return Kind("statuses", meaning, wanted, "STATUS,...", check, read, only_for=only_for, example=example)


def sockets(meaning: str, *, example: object = None) -> Kind:
    """A mapping of names to addresses, see settings/listen.py. Its check raises ConfigError with a sentence of its
    own."""
    wanted = "a mapping of names to addresses"
    return Kind("sockets", meaning, wanted, "NAME=ADDRESS", listen.check, listen.read, example=example)


def text(metavar: str, meaning: str, *, only_for: Side = "", example: object = None) -> Kind:
    """A text that is not empty, such as a path or a name."""
    wanted = "a text that is not empty"
    return Kind("text", meaning, wanted, metavar, _text, only_for=only_for, example=example)


def account(metavar: str, meaning: str, *, example: object = None) -> Kind:
    """A user or a group, by name or by number. The checked value is always a text."""

    def check(value: Any) -> Any:  # noqa: ANN401
        is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32
        return _text(str(value) if is_number else value)

    return Kind("account", meaning, "a name, or a number from 0 on", metavar, check, example=example)


# ---------------------------------------------------------------------------------------------- checking and reading


def _within(value: Any, types: Any, low: float, high: float) -> Any:  # noqa: ANN401
    if not isinstance(value, types) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(value)
    return value


def _bytes(text: str) -> int:
    digits = text.rstrip("KMGT")
    unit = text[len(digits) :]
    if not (digits.isascii() and digits.isdigit()) or unit not in _UNITS:
        raise ValueError(text)
    return int(digits) * _UNITS[unit]


def _flag(value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _read_flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError(text)
    return _FLAGS[text.lower()]


def _text(value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(value)
    return value


def _words(value: Any) -> tuple[str, ...]:  # noqa: ANN401
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not is_list or not all(isinstance(word, str) and "\0" not in word for word in value):
        raise ValueError(value)
    return tuple(value)


def _split(text: str) -> list[str]:
    """Split a text into words as a shell does. Raises ValueError for an open quote."""
    import shlex

    return shlex.split(text)
