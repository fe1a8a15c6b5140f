"""Readers, which check values that come from other processes.

A Reader takes a value and returns it with the right type and within its range, or raises Unfit. Readers combine to the
shape of a whole message. The text of Unfit says what is wanted. It never quotes the value: that may be megabytes long,
or contain escape sequences for a terminal.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from .printable import one_line, printable

# Called with the value and its place ("workers[3].pid"); raises Unfit, whose text names that place.
Reader = Callable[[object, str], Any]

# for any duration from another process: ten times the longest that a setting may have
MOST_SECONDS = 10 * 366 * 86400.0
MOST_ID = 2**32 - 2  # of a user or group; 2**32 - 1 is -1, which means none
MOST_PID = 2**22  # PID_MAX_LIMIT on 64 bits, proc_sys_kernel(5)
MOST_GENERATION = 2**31 - 1
MOST_COUNT = 2**53  # every reader of JSON gets a whole number up to this exactly
MOST_CHARACTERS = 4096  # PATH_MAX; also for a sentence
MOST_FDS = 253  # SCM_MAX_FD, unix(7): the most descriptors in one message

_OF_ANY_BYTES = ("utf-8", "surrogateescape")


class Unfit(ValueError):
    """A value from another process is not allowed: "workers[3].pid must be ...". `where` is its place, "" for the
    whole."""

    def __init__(self, where: str, wanted: str) -> None:
        super().__init__(f"{where or 'it'} {wanted}")
        self.where = where


def parse(data: bytes) -> object:
    """Return the value of a JSON text, as json.loads() does.

    Raises Unfit for bytes that are no JSON; NaN and Infinity are none by the standard.
    """
    try:
        return _DECODER.decode(data.decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise Unfit("", "is not JSON (nested too deeply)") from None
    except ValueError as error:  # also for a number of thousands of digits, and for bytes that are not UTF-8
        raise Unfit("", f"is not JSON ({type(error).__name__})") from None


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("no number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decimal(text: str, most: int) -> int | None:
    """Return the number that these ASCII digits mean, or None for any other text and for a number above `most`."""
    if not (text.isascii() and text.isdigit()) or len(text.lstrip("0")) > len(str(most)):
        return None
    number = int(text)
    return number if number <= most else None


# ------------------------------------------------------------------------------------------------- single values


def whole(low: int, high: int) -> Reader:
    """A reader of a whole number from `low` to `high`."""

    def read(value: object, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Unfit(where, f"must be a whole number from {low} to {high}")
        return value

    return read


def number(low: float, high: float) -> Reader:
    """A reader of a finite number from `low` to `high`, whole or not."""

    def read(value: object, where: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise Unfit(where, f"must be a number from {low:g} to {high:g}")
        return value

    return read


def text(most: int = MOST_CHARACTERS) -> Reader:
    """A reader of a text of at most `most` characters, which the system can take as a path or a word.

    The text has no NUL, and no half of a surrogate pair except those that stand for bytes (surrogateescape).
    """

    def read(value: object, where: str) -> str:
        if not isinstance(value, str) or len(value) > most or "\0" in value or not _is_encodable(value):
            raise Unfit(where, f"must be a text of at most {most} characters")
        return value

    return read


def line(most: int = MOST_CHARACTERS) -> Reader:
    """A reader of a text to show on one line: made printable, and cut off at its end after `most` characters."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str):
            raise Unfit(where, "must be a text")
        return one_line(value, most)

    return read


def lines(most: int) -> Reader:
    """A reader of a text of several lines to show: made printable, and cut off at its beginning above `most`
    characters."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str):
            raise Unfit(where, "must be a text")
        return printable(value[-most:])

    return read


def one_of(*words: str) -> Reader:
    """A reader of one of these words."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise Unfit(where, f"must be one of {', '.join(words)}")
        return value

    return read


def flag(value: object, where: str) -> bool:
    """Read true or false. Raises Unfit."""
    if not isinstance(value, bool):
        raise Unfit(where, "must be true or false")
    return value


def any_object(value: object, where: str) -> dict[str, Any]:
    """Read an object with any content. Raises Unfit."""
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
    """Read how many seconds the sender asks others to wait, and bring it into the range from 0 to MOST_SECONDS.

    Raises Unfit for what is no number.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        raise Unfit(where, "must be a number")
    return min(max(value, 0.0), MOST_SECONDS)


# ------------------------------------------------------------------------------------------------ what is made of them


def maybe(read: Reader) -> Reader:
    """A reader of what `read` takes, or of null."""
    return lambda value, where: None if value is None else read(value, where)


def either(*readers: Reader) -> Reader:
    """A reader that returns the value of the first of these readers that takes it."""

    def read(value: object, where: str) -> object:
        why: Unfit | None = None
        for reader in readers:
            try:
                return reader(value, where)
            except Unfit as error:
                why = why or error
        raise why or Unfit(where, "must not be there")

    return read


def list_of(read: Reader, most: int) -> Reader:
    """A reader of a list of at most `most` items."""

    def read_list(value: object, where: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise Unfit(where, f"must be a list of at most {most}")
        return [read(each, f"{where}[{place}]") for place, each in enumerate(value)]

    return read_list


def tuple_of(*readers: Reader) -> Reader:
    """A reader of a list with one item for each of these readers; it returns a tuple."""

    def read(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(readers):
            raise Unfit(where, f"must be a list of {len(readers)}")
        pairs = enumerate(zip(readers, value, strict=True))
        return tuple(reader(each, f"{where}[{place}]") for place, (reader, each) in pairs)

    return read


def map_of(read: Reader, most: int, *, name: Reader) -> Reader:
    """A reader of an object with at most `most` names, which are not known in advance. `name` reads each of them."""

    def read_map(value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > most:
            raise Unfit(where, f"must be an object of at most {most}")
        return {name(key, f"a name in {where}"): read(each, f"{where}[]") for key, each in value.items()}

    return read_map


class Record:
    """A reader of an object with known names: the needed names must be present, the others may be."""

    def __init__(self, needed: Mapping[str, Reader], more: Mapping[str, Reader]) -> None:
        self._needed, self._readers = needed, {**needed, **more}

    @property
    def names(self) -> Collection[str]:
        """All names that this reads."""
        return self._readers.keys()

    def __call__(self, value: object, where: str) -> dict[str, Any]:
        """Read the object; names that are not known are left out. Raises Unfit."""
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
    """A reader of an object that has the `needed` names, and may have `more`.

    Other names are left out: the sender may have a later release, and no reader checks them.
    """
    return Record(needed, more or {})
