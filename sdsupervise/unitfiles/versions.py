"""Finds the version of a Python program from the names of the files beside it. Nothing is executed or imported."""

import itertools
import os
import re
from collections.abc import Iterator

from ..errors import NotReadable
from ..linux.files import read_regular

_MOST_NAMES = 20_000  # of one directory
_MOST_LIBRARIES = 20  # of one prefix
_MOST_BYTES = 65536  # of a script; only its first line counts
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # systemd's
_LIBRARIES = re.compile(r"(?:python|pypy)3(?:\.\d{1,3})?t?")
_PACKAGES = ("site-packages", "dist-packages")


def installed_version(executable: str, distribution: str, *, path: str, directory: str) -> tuple[int, ...] | None:
    """The version of a distribution that the program's interpreter imports, such as (25, 1); None if unknown.

    `executable` is the program or its interpreter, as the command line names it; `path` is its PATH.
    """
    pattern = re.compile(rf"{re.escape(distribution)}-(\d{{1,6}}(?:\.\d{{1,6}}){{0,3}})[^/]*\.(?:dist|egg)-info", re.I)
    for prefix in dict.fromkeys(_prefixes(_found(executable, path or PATH, directory))):
        for packages in _places_of_packages(prefix):
            for name in _names(packages):
                if found := pattern.fullmatch(name):
                    return tuple(int(part) for part in found[1].split("."))
    return None


def _found(executable: str, path: str, directory: str) -> str:
    if "/" in executable:
        return os.path.join(directory or "/", executable)
    places = (os.path.join(place, executable) for place in path.split(":") if place.startswith("/"))
    return next(filter(os.path.isfile, itertools.islice(places, 100)), "")


def _prefixes(executable: str) -> Iterator[str]:
    """The directories above bin/ to which the program, what it links to, and its interpreter belong."""
    if not executable:
        return
    yield os.path.dirname(os.path.dirname(executable))
    try:
        first = read_regular(executable, _MOST_BYTES).partition(b"\n")[0]
    except NotReadable:
        first = b""
    words = os.fsdecode(first[2:]).split() if first.startswith(b"#!") else []
    if words and words[0].startswith("/") and os.path.basename(words[0]) != "env":
        yield os.path.dirname(os.path.dirname(words[0]))
    yield os.path.dirname(os.path.dirname(os.path.realpath(executable)))


def _places_of_packages(prefix: str) -> Iterator[str]:
    for base in (*(["/usr/local"] if prefix == "/usr" else []), prefix):
        libraries = filter(_LIBRARIES.fullmatch, _names(os.path.join(base, "lib")))
        for name in itertools.islice(libraries, _MOST_LIBRARIES):
            yield from (os.path.join(base, "lib", name, packages) for packages in _PACKAGES)


def _names(directory: str) -> list[str]:
    """The names in a directory, as far as they are readable, in order."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in itertools.islice(entries, _MOST_NAMES))
    except (OSError, ValueError):
        return []
