"""Readers of what others say. Each takes a value and gives it back as the right type and within its range, or raises
Unfit; what may be said as a whole is a shape, which readers are put together to.

A reader says what it wants, and never quotes what it got: that may be megabytes, or meant for somebody's terminal.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from .printable import one_line, printable

# Raises Unfit for what it does not take; the text says where that stands.
Reader = Callable[[object, str], Any]

MOST_SECONDS = 10 * 366 * 86400.0  # of any time that others name; ten times the longest that a setting may have
MOST_ID = 2**32 - 2  # of a user or group; -1 is none
MOST_PID = 2**22  # PID_MAX_LIMIT of 64 bits
MOST_GENERATION = 2**31 - 1
MOST_COUNT = 2**53  # a whole number that every reader of JSON gets as it was
MOST_CHARACTERS = 4096  # PATH_MAX; also of a sentence
MOST_FDS = 253  # SCM_MAX_FD

_OF_ANY_BYTES = ("utf-8", "surrogateescape")


class Unfit(ValueError):
    """What somebody said is not what may be said there: "workers[3].pid must be ..."."""

    def __init__(self, where: str, wanted: str) -> None:
        super().__init__(f"{where or 'it'} {wanted}")
        self.where = where


def parse(data: bytes) -> object:
    """The value that a JSON text means.

    Raises Unfit for what is none, and for what is none in the standard either: NaN and Infinity.
    """
    try:
        return _DECODER.decode(data.decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise Unfit("", "is no JSON (nested too deeply)") from None
    except ValueError as error:  # also of a number of thousands of digits, and of bytes that are no text
        raise Unfit("", f"is no JSON ({type(error).__name__})") from None


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("no number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decimal(text: str, most: int) -> int | None:
    """The number that these ASCII digits mean; None for any other text, and beyond the most."""
    if not (text.isascii() and text.isdigit()) or len(text.lstrip("0")) > len(str(most)):
        return None
    number = int(text)
    return number if number <= most else None


# ------------------------------------------------------------------------------------------------- single values


def whole(low: int, high: int) -> Reader:
    """A whole number in this range."""

    def read(value: object, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Unfit(where, f"must be a whole number from {low} to {high}")
        return value

    return read


def number(low: float, high: float) -> Reader:
    """A number in this range, whole or not; so it is finite."""

    def read(value: object, where: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise Unfit(where, f"must be a number from {low:g} to {high:g}")
        return value

    return read


def text(most: int = MOST_CHARACTERS) -> Reader:
    """A text of so many characters at most, which the system can take for a path or a word: no NUL in it, and no half
    of a surrogate pair but those that stand for bytes."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str) or len(value) > most or "\0" in value or not _is_encodable(value):
            raise Unfit(where, f"must be a text of at most {most} characters")
        return value

    return read


def line(most: int = MOST_CHARACTERS) -> Reader:
    """A text that is to be shown: made printable, on one line, and its end cut off."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str):
            raise Unfit(where, "must be a text")
        return one_line(value, most)

    return read


def lines(most: int) -> Reader:
    """The same of a text of several lines, of which the beginning is cut off."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str):
            raise Unfit(where, "must be a text")
        return printable(value[-most:])

    return read


def one_of(*words: str) -> Reader:
    """One of these."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise Unfit(where, f"must be one of {', '.join(words)}")
        return value

    return read


def flag(value: object, where: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise Unfit(where, "must be true or false")
    return value


def any_object(value: object, where: str) -> dict[str, Any]:
    """An object, of which nothing is known yet."""
    if not isinstance(value, dict):
        raise Unfit(where, "must be an object")
    return value


def _is_encodable(value: str) -> bool:
    try:
        value.encode(*_OF_ANY_BYTES)
    except UnicodeEncodeError:
        return False
    return True


pid = whole(1, MOST_PID)
generation = whole(1, MOST_GENERATION)
count = whole(0, MOST_COUNT)
seconds = number(0.0, MOST_SECONDS)


def patience(value: object, where: str) -> float:
    """How many seconds somebody asks others to wait: of those who ask for too many, the most."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        raise Unfit(where, "must be a number")
    return min(max(value, 0.0), MOST_SECONDS)


# ------------------------------------------------------------------------------------------------ what is made of them


def maybe(read: Reader) -> Reader:
    """That, or null."""
    return lambda value, where: None if value is None else read(value, where)


def either(*readers: Reader) -> Reader:
    """What the first of them takes that takes it."""

    def read(value: object, where: str) -> object:
        why: Unfit | None = None
        for reader in readers:
            try:
                return reader(value, where)
            except Unfit as error:
                why = why or error
        raise why or Unfit(where, "must not be")

    return read


def list_of(read: Reader, most: int) -> Reader:
    """A list of so many at most."""

    def read_list(value: object, where: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise Unfit(where, f"must be a list of at most {most}")
        return [read(each, f"{where}[{place}]") for place, each in enumerate(value)]

    return read_list


def tuple_of(*readers: Reader) -> Reader:
    """A list of as many as there are readers, each as its reader wants it."""

    def read(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(readers):
            raise Unfit(where, f"must be a list of {len(readers)}")
        pairs = enumerate(zip(readers, value, strict=True))
        return tuple(reader(each, f"{where}[{place}]") for place, (reader, each) in pairs)

    return read


def map_of(read: Reader, most: int, *, name: Reader) -> Reader:
    """An object whose names are not known before, so many at most."""

    def read_map(value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > most:
            raise Unfit(where, f"must be an object of at most {most}")
        return {name(key, f"a name in {where}"): read(each, f"{where}[]") for key, each in value.items()}

    return read_map


class Record:
    """An object of which it is known what may stand in it."""

    def __init__(self, needed: Mapping[str, Reader], more: Mapping[str, Reader]) -> None:
        self._needed, self._readers = needed, {**needed, **more}

    @property
    def names(self) -> Collection[str]:
        """Of all that is read."""
        return self._readers.keys()

    def __call__(self, value: object, where: str) -> dict[str, Any]:
        """As a Reader."""
        value = any_object(value, where)
        missing = next((name for name in self._needed if name not in value), None)
        if missing is not None:
            raise Unfit(f"{where}.{missing}" if where else missing, "is missing")
        return {
            name: read(value[name], f"{where}.{name}" if where else name)
            for name, read in self._readers.items()
            if name in self._needed or value.get(name) is not None
        }


def record(needed: Mapping[str, Reader], more: Mapping[str, Reader] | None = None) -> Record:
    """An object that has the needed names, and may have more. What is not named here is left out: whoever speaks may be
    of a later release, and nobody has checked it."""
    return Record(needed, more or {})
