"""Reads supervisord's configuration: the files that the user names, and those that they include."""

import glob
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence

from ..errors import BadFile, CannotImport
from ..input.printable import one_line
from .expansion import expand, of_environment, of_host, with_path
from .ini import Ini, IniValue

MOST_FILES = 500


def read(files: Sequence[str], variables: Mapping[str, str]) -> tuple[Ini, list[str]]:
    """All sections of the files, and notes. `variables` are those of supervisord's environment that are known.

    Raises BadFile, CannotImport.
    """
    ini, notes, count = Ini(), list[str](), 0
    for file in map(os.path.abspath, files):
        ini.add_file(file)
        count += 1
        value = _included(file)
        for included in [] if value is None else _matches(value, variables, notes):
            count += 1
            if count > MOST_FILES:
                raise CannotImport(
                    f"{value and value.where}: these are more than {MOST_FILES} files; name some of them."
                )
            if included == file:
                continue
            ini.add_file(included)
            if (ignored := _included(included)) is not None:
                notes.append(f"{ignored.where}: supervisord ignores [include] in a file that is itself included.")
    notes += [
        f"{where}: [{one_line(name, 80)}] is there twice; its options are joined, and the later value counts."
        for name, where in ini.twice
        if name != "include"
    ]
    return ini, notes


def _included(file: str) -> IniValue | None:
    """The patterns of the files that a file includes. Raises BadFile."""
    alone = Ini()
    alone.add_file(file)
    include = alone.sections.get("include")
    if include is None:
        return None
    value = alone.get(include, "files")
    if value is None:
        raise BadFile([f"{include.where}: [include] names no files; write files = PATTERN."])
    return value


def _matches(value: IniValue, variables: Mapping[str, str], notes: list[str]) -> Iterator[str]:
    """The files of each pattern, which is relative to the file that has it. Raises CannotImport."""
    for pattern in expand(value, {**of_environment(with_path(variables)), **of_host()}).split():
        path = os.path.join(os.path.dirname(value.file), pattern)
        found = sorted(itertools.islice(glob.iglob(path), MOST_FILES + 1))
        if not found:
            notes.append(f"{value.where}: there is no file {one_line(path, 200)}.")
        yield from found
