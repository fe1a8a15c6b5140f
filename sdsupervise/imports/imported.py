"""A program of another supervisor, in our own terms."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import CannotImport
from ..input.printable import one_line
from ..instances import locations

MOST_INSTANCES = 500  # of one import
MOST_VARIABLES = 1000  # of one file or option, since each instance has a copy of them
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


class Imported(NamedTuple):
    """An instance to be written."""

    name: str
    where: str  # FILE:LINE
    source: str  # the file
    values: Mapping[str, object]  # the keys of the instance's file
    environment: Mapping[str, str] = {}  # of its unit
    unit: tuple[str, ...] = ()  # lines of [Unit]
    service: tuple[str, ...] = ()  # lines of [Service]
    notes: tuple[str, ...] = ()
    autostart: bool = True
    named: tuple[str, ...] = ()  # its names where it comes from


class ImportedTarget(NamedTuple):
    """A group of instances, to be written as a target."""

    name: str  # of the group
    where: str
    source: str
    members: tuple[str, ...]  # names of instances
    autostarted: tuple[str, ...]  # the members that it starts

    @property
    def unit(self) -> str:
        """The name of the target; the prefix keeps it apart from the targets of systemd."""
        return target_of(self.name)


class FoundPrograms(NamedTuple):
    """All that an import found."""

    instances: tuple[Imported, ...]
    targets: tuple[ImportedTarget, ...] = ()
    notes: tuple[str, ...] = ()  # about no instance alone
    refused: tuple[str, ...] = ()  # programs that are not imported, each with FILE:LINE and why
    stop: str = ""  # the command that stops what its words name


def target_of(group: str) -> str:
    """The target of a group."""
    return f"sdsupervise-{_NOT_IN_NAMES.sub('-', group)}.target"


def instance_name(text: str, where: str) -> str:
    """The name of an instance that is nearest to a program's name.

    Raises CannotImport if there is none.
    """
    name = _NOT_IN_NAMES.sub("-", text).lstrip(".-")
    if not locations.is_name(name):
        raise CannotImport(
            f"{where}: an instance cannot be called {one_line(name, 80)!r}; {locations.NAMES}. Rename the program."
        )
    return name
