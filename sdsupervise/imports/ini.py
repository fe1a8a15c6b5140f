"""Reads an INI file as supervisord does, and remembers the line of each value.

supervisord has Python's RawConfigParser with `;` and `#` as inline comments, and joins what appears twice. Rejected:
configparser, which gives no lines. tests/unit/test_import_ini.py compares the two.
"""

import os
import re
from typing import NamedTuple

from ..errors import BadFile, NotReadable
from ..input.printable import one_line
from ..linux.files import read_owned

MOST_BYTES = 1024 * 1024  # of one file
_MOST_LETTERS = 16 * MOST_BYTES  # of all files
_MOST_OF_LINE = 64 * 1024
_MOST_SECTIONS, _MOST_OPTIONS = 5000, 20_000  # of all files, also of those that come again
_MOST_PROBLEMS = 20  # of one file
_INLINE = re.compile(r"(?:^|(?<=\s))[;#]")
_SECTION = re.compile(r"\[(.+)\]")
_SEPARATOR = re.compile(r"[=:]")
_DEFAULT = "DEFAULT"  # the section whose options all others have


class IniValue(NamedTuple):
    """The value of an option."""

    text: str
    file: str
    line: int  # where it begins, from 1
    cut: bool = False  # a comment was cut from it

    @property
    def where(self) -> str:
        """FILE:LINE."""
        return f"{self.file}:{self.line}"


class IniSection(NamedTuple):
    """A section, and where it first appears."""

    name: str
    file: str
    line: int
    values: dict[str, IniValue]

    @property
    def where(self) -> str:
        """FILE:LINE."""
        return f"{self.file}:{self.line}"


class Ini:
    """The sections of one file or of several, in their order."""

    def __init__(self) -> None:
        self.sections: dict[str, IniSection] = {}
        self.defaults: dict[str, IniValue] = {}
        self.twice: list[tuple[str, str]] = []  # the name of a section that appears again, and where
        self._letters = self._sections = self._options = 0  # of all files so far

    def get(self, section: IniSection, key: str) -> IniValue | None:
        """The value of an option, if the section or the defaults have it."""
        value = section.values.get(key) or self.defaults.get(key)
        return value and value._replace(text=value.text.rstrip())

    def add(self, file: str, text: str) -> None:
        """Read the text of a file. Raises BadFile with what is wrong."""
        self._letters += len(text)
        if self._letters > _MOST_LETTERS:
            raise BadFile([f"{file}: with this file, these are more than 16 MiB; import fewer files at a time."])
        _Reading(self, file).read(text)

    def _section(self, name: str, file: str, line: int) -> dict[str, IniValue]:
        self._sections += 1
        if self._sections > _MOST_SECTIONS:
            raise BadFile([f"{file}:{line}: these are more than {_MOST_SECTIONS} sections; import fewer at a time."])
        if name == _DEFAULT:
            return self.defaults
        if name in self.sections:
            self.twice.append((name, f"{file}:{line}"))
        return self.sections.setdefault(name, IniSection(name, file, line, {})).values

    def _count_option(self, file: str, line: int) -> None:
        self._options += 1
        if self._options > _MOST_OPTIONS:
            raise BadFile([f"{file}:{line}: these are more than {_MOST_OPTIONS} options; import fewer at a time."])


class _Reading:
    """One pass over one file."""

    def __init__(self, ini: Ini, file: str) -> None:
        self._ini, self._file = ini, file
        self._values: dict[str, IniValue] | None = None  # of the section that we are in
        self._option = ""
        self._lines: list[str] = []  # of the value that we are in
        self._indent = 0
        self._problems: list[str] = []

    def read(self, text: str) -> None:
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > _MOST_OF_LINE:
                self._problem(number, f"this line is longer than {_MOST_OF_LINE} letters; shorten it.")
            else:
                self._take(number, line)
            if len(self._problems) >= _MOST_PROBLEMS:
                break
        self._end()
        if self._problems:
            raise BadFile(self._problems)

    def _take(self, number: int, line: str) -> None:
        is_comment = line.strip().startswith(("#", ";"))
        inline = None if is_comment else _INLINE.search(line)
        content = "" if is_comment else line[: inline.start() if inline else None].strip()
        if not content:
            if not is_comment and inline is None:
                self._continue("", cut=False)  # an empty line within a value is a part of it
            return
        indent = len(line) - len(line.lstrip())
        if self._option and indent > self._indent:
            self._continue(content, cut=inline is not None)
            return
        self._indent = indent
        header = _SECTION.match(content)
        separator = _SEPARATOR.search(content)
        if header:
            self._end()
            self._values, self._option = self._ini._section(header[1], self._file, number), ""
        elif self._values is None:
            self._problem(number, f"{one_line(content, 60)!r} stands before the first [section].")
        elif separator is None or not separator.start():
            self._problem(number, f"{one_line(content, 60)!r} is neither [section] nor KEY=VALUE.")
        else:
            self._end()
            self._ini._count_option(self._file, number)
            self._option = content[: separator.start()].rstrip().lower()
            self._lines = [content[separator.end() :].strip()]
            self._values[self._option] = IniValue(self._lines[0], self._file, number, inline is not None)

    def _continue(self, content: str, *, cut: bool) -> None:
        if self._values is not None and self._option:
            self._lines.append(content)
            if cut:
                self._values[self._option] = self._values[self._option]._replace(cut=True)

    def _end(self) -> None:
        """Put the lines of a value together."""
        if self._values is not None and self._option:
            value = self._values[self._option]
            self._values[self._option] = value._replace(text="\n".join(self._lines))

    def _problem(self, number: int, sentence: str) -> None:
        self._problems.append(f"{self._file}:{number}: {sentence}")


def text_of(file: str) -> str:
    """The text of a file, with "\\n" at each line's end. Raises BadFile."""
    return owned_text_of(file)[0]


def owned_text_of(file: str, *, directory: int | None = None, follow: bool = True) -> tuple[str, int]:
    """The text of a file, see text_of, and the uid of its owner; with `directory` of that name in this directory.

    Without `follow` it must not be a symlink. Raises BadFile.
    """
    if not file.isprintable():
        raise BadFile([f"{one_line(file, 200)}: its name has a character that cannot be printed; rename it."])
    name = file if directory is None else os.path.basename(file)
    try:
        data, uid = read_owned(name, MOST_BYTES, directory=directory, follow=follow)
    except NotReadable as error:
        raise BadFile([f"Cannot read {file}: {error}."]) from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n"), uid
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadFile([f"{file}:{line}: This line is not in UTF-8."]) from None
