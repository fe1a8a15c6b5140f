"""Parses unit files as systemd does: systemd.syntax(7), systemd.time(7).

Rejected: configparser. It does not know comments between continued lines, keys that appear more than once, or an empty
value that clears the earlier ones. Rejected: D-Bus, which gives the result in systemd, not what it ignored or what the
author wrote.
"""

import math
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from . import words


class Assignment(NamedTuple):
    """One KEY=VALUE line."""

    section: str
    key: str
    value: str
    path: str  # its file; "" if unknown
    line: int  # its line in the file, from 1


class UnitText(NamedTuple):
    """A unit with its drop-ins, in the order in which systemd reads them."""

    name: str  # gunicorn.service
    assignments: tuple[Assignment, ...]

    def values(self, key: str, section: str = "Service") -> list[str]:
        """All values of a key that may appear more than once. An empty value clears the earlier ones."""
        found: list[str] = []
        for assignment in self.assignments:
            if (assignment.section, assignment.key) == (section, key):
                found = [*found, assignment.value] if assignment.value else []
        return found

    def value(self, key: str, default: str = "", section: str = "Service") -> str:
        """The value of a key whose last line counts."""
        return (self.values(key, section) or [default])[-1]

    def last(self, places: Collection[tuple[str, str]]) -> str:
        """The value of a setting that has several names, as (section, key): that of its last line."""
        found = [assignment.value for assignment in self.assignments if (assignment.section, assignment.key) in places]
        return (found or [""])[-1]

    def words(self, key: str, section: str = "Service") -> list[str]:
        """The words of all values of a key that holds a list."""
        return [word for value in self.values(key, section) for word in words.split(value)]

    def flag(self, key: str, default: bool = False, section: str = "Service") -> bool:
        """A boolean. Anything else gives the default, as in systemd."""
        return _BOOLEANS.get(self.value(key, section=section).lower(), default)

    def seconds(self, key: str, default: float) -> float:
        """A time span in seconds; math.inf for "infinity". Anything else gives the default, as in systemd."""
        try:
            return seconds(self.value(key))
        except ValueError:
            return default

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of Environment=, without those of EnvironmentFile=."""
        pairs = (word.partition("=") for word in self.words("Environment"))
        return {name: value for name, equals, value in pairs if equals}

    def without(self, path: str) -> "UnitText":
        """The unit without the lines of this file."""
        return UnitText(self.name, tuple(assignment for assignment in self.assignments if assignment.path != path))


_BOOLEANS = dict.fromkeys(("1", "yes", "y", "true", "t", "on"), True) | dict.fromkeys(
    ("0", "no", "n", "false", "f", "off"), False
)
_FILE = re.compile(r"# (/\S+\.(?:service|socket|target|conf))")  # above each file in what `systemctl cat` prints


def for_systemctl(name: str) -> str:
    """The name of a service in a command to paste into a shell: a name may have a backslash."""
    short = name.removesuffix(".service")
    return shlex.quote(f"{short}INSTANCE" if short.endswith("@") else short)


def parse(name: str, text: str, path: str = "") -> UnitText:
    """Parse a unit from the text of one file, or from the output of `systemctl cat`."""
    return UnitText(name, tuple(_assignments(text, path)))


def _assignments(text: str, path: str) -> Iterator[Assignment]:
    section, logical, began, number = "", "", 0, 0
    for raw in text.splitlines():
        number += 1
        line = raw.lstrip()
        if found := _FILE.fullmatch(raw):
            path, number = found[1], 0
        if line.startswith(("#", ";")):
            continue  # also between continued lines
        if not logical:
            began = number
        if _is_continued(raw):
            logical += raw[:-1] + " "
            continue
        logical, line = "", (logical + raw).strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            key, _, value = line.partition("=")
            yield Assignment(section, key.strip(), value.strip(), path, began)


def _is_continued(line: str) -> bool:
    backslashes = len(line) - len(line.rstrip("\\"))
    return backslashes % 2 == 1


_UNITS = {
    **dict.fromkeys(("us", "usec", "µs", "μs"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400.0),
    **dict.fromkeys(("M", "month", "months"), 30.44 * 86400),
    **dict.fromkeys(("y", "year", "years"), 365.25 * 86400),
}
_SPAN = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµμ]*)")


def seconds(text: str) -> float:
    """The seconds of a time span: "90", "1min 30s", "infinity".

    Raises ValueError for anything else.
    """
    if text.strip() == "infinity":
        return math.inf
    total, place, end = 0.0, 0, len(text.rstrip())
    while place < end or not place:
        found = _SPAN.match(text, place)
        if found is None or found[2] not in _UNITS:
            raise ValueError(f"{text!r} is no time span; write one such as 90 or 1min 30s")
        total += float(found[1]) * _UNITS[found[2]]
        place = found.end()
    return total
