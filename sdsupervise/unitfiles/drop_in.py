"""A file in a unit's drop-in directory, and whether it still does what it was written for."""

import binascii
import os
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import CannotWrap
from ..input.printable import one_line
from .finding import WARNING, Finding
from .handling import CONCERNS
from .text import Assignment, UnitText, parse

FILE = "zz-sdsupervise.conf"  # systemd reads the files in the order of their names, and the last one counts
_MARK = "# Written by `sdsupervise unit wrap`; `sdsupervise unit unwrap {}` removes it."
_SECTION, _KEY = "X-sdsupervise", "MadeFrom"  # systemd ignores sections that begin with X-
_ENDS_LINE = re.compile(r"[\n\r\0]")  # to systemd
# A later line adds to these, unless it is empty.
_LISTS = (
    *("RuntimeDirectory", "SuccessExitStatus", "RestartPreventExitStatus", "CapabilityBoundingSet", "DeviceAllow"),
    *("AmbientCapabilities", "SystemCallFilter", "SystemCallArchitectures", "RestrictAddressFamilies", "ExecPaths"),
    *("BindPaths", "BindReadOnlyPaths", "ExecCondition", "ExecStartPre", "ExecStartPost", "ExecStopPost"),
)


class DropIn(NamedTuple):
    """A file in a unit's drop-in directory."""

    unit: str
    settings: tuple[str, ...]  # its lines in [Service]
    notes: tuple[str, ...]  # what it changes, and why
    others: tuple[str, ...] = ()  # its lines in [Unit]
    made_from: str = ""  # a checksum of each setting of the unit

    @property
    def is_empty(self) -> bool:
        """Whether it has no lines."""
        return not (self.settings or self.others)

    @property
    def path(self) -> str:
        """Its path."""
        return os.path.join("/etc/systemd/system", f"{self.unit}.d", FILE)

    @property
    def text(self) -> str:
        """The drop-in to print.

        Raises CannotWrap if a value contains an end of line.
        """
        unit = ["[Unit]", *self.others] if self.others else []
        lines = [f"# {self.unit}.d/{FILE}", *unit, "[Service]", *self.settings]
        if any(map(_ENDS_LINE.search, lines)):
            raise CannotWrap(f"What {self.unit} and its files say contains a line break; change it there.")
        return "\n".join([*lines, ""])

    @property
    def file(self) -> str:
        """The drop-in to write: the text, a mark, the notes as comments, and the checksums."""
        first, rest = self.text.split("\n", 1)
        made_from = [f"[{_SECTION}]", f"{_KEY}={self.made_from}", ""] if self.made_from else [""]
        notes = (f"# note: {one_line(note)}" for note in self.notes)
        return "\n".join([first, mark(self.unit), *notes, rest.removesuffix("\n"), *made_from])


def mark(unit: str) -> str:
    """The line that marks a file as ours."""
    return _MARK.format(unit)


def checksums(unit: UnitText) -> str:
    """A checksum of each setting on which wrap() depends, as text."""
    return " ".join(f"{key}:{value}" for key, value in _checksums(unit).items())


def _checksums(unit: UnitText) -> dict[str, str]:
    keys = {(a.section, a.key) for a in unit.assignments if (a.section, a.key) in CONCERNS}
    return {
        key: f"{binascii.crc32(chr(10).join(unit.values(key, section)).encode(errors='surrogateescape')):08x}"
        for section, key in sorted(keys)
        if unit.values(key, section)
    }


def undone(unit: UnitText, path: str) -> list[tuple[Assignment, str]]:
    """The lines after the file `path` that replace settings of it, each with the value that they replace."""
    found, ours = [], {}
    for assignment in unit.assignments:
        section, key, value = assignment.section, assignment.key, assignment.value
        if assignment.path == path:
            if value or key not in _LISTS:
                ours[section, key] = value
        elif ours.get((section, key), value) != value and (key not in _LISTS or not value):
            found.append((assignment, ours[section, key]))
    return found


def with_drop_in(unit: UnitText, drop_in: DropIn) -> UnitText:
    """The unit as systemd would read it with a drop-in that is not written yet."""

    def is_later(assignment: Assignment) -> bool:
        directory, name = os.path.split(assignment.path)
        return directory.endswith(".d") and name > FILE

    before = [assignment for assignment in unit.assignments if not is_later(assignment)]
    after = [assignment for assignment in unit.assignments if is_later(assignment)]
    ours = parse(drop_in.unit, drop_in.file, drop_in.path).assignments
    return UnitText(unit.name, (*before, *ours, *after))


def why_undone(unit: UnitText, drop_in: DropIn) -> str:
    """Why systemd does not see what a drop-in means, as a clause; "" if it does."""
    if not any(assignment.path == drop_in.path for assignment in unit.assignments):
        return "systemd does not read this file"
    for assignment, ours in undone(unit, drop_in.path):
        place = f"{assignment.path}:{assignment.line}"
        return f"{place} has {assignment.key}={assignment.value} and comes later than our {assignment.key}={ours}"
    return ""


def since_wrap(unit: UnitText) -> Iterator[Finding]:
    """Findings about what has changed after `unit wrap` has written its drop-in."""
    path = next((a.path for a in unit.assignments if os.path.basename(a.path) == FILE), "")
    if not path:
        return
    for assignment, ours in {assignment.key: (assignment, ours) for assignment, ours in undone(unit, path)}.values():
        yield Finding(
            assignment.key,
            f"{assignment.path}:{assignment.line} has {assignment.key}={one_line(assignment.value, 200)}, which undoes "
            f"{assignment.key}={one_line(ours, 200)} of {path}",
            "take that line out",
        )
    made_from = unit.value(_KEY, section=_SECTION)
    if not made_from:
        return
    before = dict(pair.partition(":")[::2] for pair in made_from.split())
    now = _checksums(unit.without(path))
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        what = "=, ".join(changed) + "="
        name = shlex.quote(unit.name.removesuffix(".service"))
        yield Finding(
            changed[0],
            f"{what} of the unit {'has' if len(changed) == 1 else 'have'} changed since {path} was written",
            f"run sdsupervise unit wrap --write {name} with the same options as before",
            WARNING,
        )
