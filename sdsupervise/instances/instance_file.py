"""Reads the file of an instance. Every command reads it here, so what passes a check can run."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadFile, ConfigError, NotReadable, UsageError
from ..input.nearest import nearest
from ..input.printable import one_line
from ..input.toml_text import KeyPosition, locate, position
from ..linux.files import read_regular
from ..linux.unpatched import os
from . import instance_check, locations
from .instance import Instance, is_file, name_of
from .keys import FILE_KEYS

# the position in tomllib's messages, before Python 3.14
_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_START = KeyPosition.at(1, 1)
_MOST_BYTES = 64 * 1024  # the example, with every key and its explanation, has 5,000 bytes
_DEEPEST = 10  # levels of tables in tables


def file_of(name: str) -> str:
    """Return the file of an instance, given its name, its unit, or the path of its file.

    Raises ConfigError if the instance has no file, UsageError if the name is not valid.
    """
    if is_file(name):
        return name
    name = locations.instance_name(name)
    if not locations.is_name(name):
        raise UsageError(f"An instance cannot be called {name!r}; {locations.NAMES}.")
    file = locations.config_file(name)
    if file is None:
        meant = nearest(name, locations.configured())
        hint = f"; did you mean {meant}?" if meant else "."
        raise ConfigError(f"There is no instance {name}: no {locations.where_configured(name)}{hint}")
    return file


def lines(file: str) -> dict[str, int]:
    """Return the line, from 1, at which each top-level key first stands. Raises as `read`."""
    text = _text_of(file)
    _parse(file, text)
    return {str(path[0]): place.key.line for path, place in locate(text).items() if len(path) == 1}


def read(
    file: str, *, directory: str | None = None, started_in: str | None = None, search: Sequence[str] | None = None
) -> Instance:
    """Read the instance that a file describes.

    A `directory` replaces the key in the file; otherwise that directory must exist. Without either, the instance starts
    in `started_in`, else in the current directory. Programs are looked up in the directories of `search`, else in those
    of $PATH. Raises UsageError if the file's name is not a valid name of an instance, ConfigError if the file cannot be
    read, BadFile with every mistake in it.
    """
    name = name_of(file)
    text = _text_of(file)
    found = _parse(file, text)
    base = os.path.dirname(os.path.abspath(file))
    started_in, search = started_in or os.getcwd(), search or os.get_exec_path()
    values, mistakes = instance_check.check(found, base=base, directory=directory, started_in=started_in, search=search)
    if mistakes:
        located = locate(text)
        placed = [(_place(located, mistake), one_line(mistake.sentence)) for mistake in mistakes]
        raise BadFile([f"{file}:{line}:{column}: {sentence}" for (line, column), sentence in sorted(placed)])
    return Instance(name, file, {key: values[key] for key in FILE_KEYS if key in values})


def _place(located: Mapping[tuple[str | int, ...], KeyPosition], mistake: instance_check.Mistake) -> tuple[int, int]:
    place = located.get(mistake.path, _START)
    return place.key if mistake.in_key else place.value


def _text_of(file: str) -> str:
    """Return the text of the file, with "\\n" at each line's end."""
    try:
        data = read_regular(file, _MOST_BYTES)
    except NotReadable as error:
        raise ConfigError(f"Cannot read {file}: {error}.") from error
    try:
        # Editors of other systems write a byte order mark and \r\n.
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadFile([f"{file}:{line}:1: This line is not in UTF-8."]) from None


def _is_deeper(value: object, levels: int) -> bool:
    below = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(each, levels - 1) for each in below)


def _parse(file: str, text: str) -> Mapping[str, Any]:
    try:
        found = tomllib.loads(text)
        if _is_deeper(found, _DEEPEST):
            raise RecursionError
        return found
    except RecursionError:
        raise BadFile([f"{file}:1:1: Its values are nested too deeply."]) from None
    except ValueError as error:  # an error without a position is Python's own: an integer with thousands of digits
        where = _WHERE.search(str(error))
        if where is None:
            raise BadFile([f"{file}:1:1: A number in it has too many digits."]) from None
        line, column = (int(where[1]), int(where[2])) if where[1] else position(text, len(text))
        said = str(error)[: where.start()]
        hint = "; put a text in quotation marks" if said == "Invalid value" and where[1] else ""
        raise BadFile(
            [f"{file}:{line}:{column}: This is not TOML: {one_line(said[:1].lower() + said[1:])}{hint}."]
        ) from None
