"""Reads supervisord's configuration: the files that the user names, and those that they include."""

import fnmatch
import glob
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence

from ..errors import BadFile, CannotImport
from ..input.printable import one_line
from .expansion import expand, of_environment, of_host, with_path
from .ini import Ini, IniValue, text_of

MOST_FILES = 500
_MOST_PATTERNS = 100
_MOST_SEEN = 20_000  # names in directories, for all patterns
_MOST_OF_PATH = 4096  # letters: Linux takes no longer path


def read(files: Sequence[str], variables: Mapping[str, str]) -> tuple[Ini, list[str]]:
    """All sections of the files, and notes. `variables` are those of supervisord's environment that are known.

    Raises BadFile, CannotImport.
    """
    ini, notes, count = Ini(), list[str](), 0
    for file in map(os.path.abspath, files):
        value = _add(ini, file)
        count += 1
        for included in [] if value is None else _matches(value, variables, notes):
            count += 1
            if count > MOST_FILES:
                raise CannotImport(
                    f"{value and value.where}: these are more than {MOST_FILES} files; name some of them."
                )
            if included == file:
                continue
            if (ignored := _add(ini, included)) is not None:
                notes.append(f"{ignored.where}: supervisord ignores [include] in a file that is itself included.")
    notes += [
        f"{where}: [{one_line(name, 80)}] is there twice; its options are joined, and the later value counts."
        for name, where in ini.twice
        if name != "include"
    ]
    return ini, notes


def _add(ini: Ini, file: str) -> IniValue | None:
    """Read a file. Returns the patterns of the files that it includes. Raises BadFile."""
    text = text_of(file)
    ini.add(file, text)
    alone = Ini()
    alone.add(file, text)
    include = alone.sections.get("include")
    if include is None:
        return None
    value = alone.get(include, "files")
    if value is None:
        raise BadFile([f"{include.where}: [include] names no files; write files = PATTERN."])
    return value


def _matches(value: IniValue, variables: Mapping[str, str], notes: list[str]) -> Iterator[str]:
    """The files of each pattern, which is relative to the file that has it. Raises CannotImport."""
    patterns = expand(value, {**of_environment(with_path(variables)), **of_host()}).split()
    if len(patterns) > _MOST_PATTERNS:
        raise CannotImport(f"{value.where}: these are more than {_MOST_PATTERNS} patterns; write fewer.")
    search = _Search()
    for pattern in patterns:
        path = os.path.join(os.path.dirname(value.file), pattern)
        try:
            found = sorted(itertools.islice(search.files(path), MOST_FILES + 1))
        except _SeenTooMuch:
            shown = one_line(path, 200)
            raise CannotImport(
                f"{value.where}: {shown} needs a search among more than {_MOST_SEEN} files; write their directory."
            ) from None
        if not found:
            notes.append(f"{value.where}: there is no file {one_line(path, 200)}.")
        yield from found


class _SeenTooMuch(Exception):
    """The patterns need a search among too many files."""


class _Search:
    """Finds what glob.glob() finds. That one has no bound: `/*/*/*/*` lists the whole machine."""

    def __init__(self) -> None:
        self._seen = 0

    def files(self, pattern: str) -> Iterator[str]:
        """The paths that match an absolute pattern. Raises _SeenTooMuch."""
        places = ["/"] if len(pattern) <= _MOST_OF_PATH else []
        for is_pattern, group in itertools.groupby(pattern.split("/"), glob.has_magic):
            if is_pattern:
                for part in group:
                    places = [os.path.join(place, name) for place in places for name in self._names(place, part)]
            else:
                plain = [part for part in group if part]
                places = [os.path.join(place, *plain) for place in places]
        return filter(os.path.lexists, places)

    def _names(self, directory: str, pattern: str) -> list[str]:
        """The names in a directory that match."""
        try:
            with os.scandir(directory) as entries:
                names = [entry.name for entry in itertools.islice(entries, _MOST_SEEN - self._seen + 1)]
        except (OSError, ValueError):
            return []
        self._seen += len(names)
        if self._seen > _MOST_SEEN:
            raise _SeenTooMuch
        hidden = pattern.startswith(".")
        return fnmatch.filter((name for name in names if hidden or not name.startswith(".")), pattern)
