"""The words of a command line in a Procfile, if a shell would only split it and fill in variables."""

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?-)([\w./:@,-]*))?\})", re.ASCII)
_NEEDS_SHELL = frozenset("|&;<>()`*?[{\n")
_NEEDS_SHELL_FIRST = frozenset("~#!")  # at the start of a word
_SPLITS = re.compile(r"[\s*?\[]")  # in the value of a variable outside of quotes
_MOST_LETTERS = 128 * 1024  # of all words: Linux takes no longer argument
_OPEN = "no shell can read this command: a quotation mark is not closed"
_BUILTINS = frozenset(
    (
        *("cd", ".", "source", "export", "ulimit", "umask", "eval", "set", "trap", "if", "for", "while", "until"),
        *("case", "test", "read", "wait", "exec", "time", "command"),
    )
)


class _NeedsShell(Exception):
    """The text has something that only a shell can do."""


def split(text: str, variables: Mapping[str, str]) -> list[str] | None:
    """The words of a command line, with these variables filled in; None if it needs a shell.

    Raises ValueError, whose text is a sentence without its end, if no shell could read it, or if it is too long.
    """
    try:
        words = _CommandText(text, variables).words()
    except _NeedsShell:
        return None
    return None if not words or words[0] in _BUILTINS else words


class _CommandText:
    """One pass over a text."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text, self._variables, self._at = text, variables, 0
        self._found: list[str] = []
        self._word: list[str] | None = None
        self._length = 0  # of all words

    def words(self) -> list[str]:
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter in " \t":
                self._end()
                self._at += 1
            elif letter == "'":
                self._add(self._upto("'"))
            elif letter == '"':
                self._double()
            elif letter == "$":
                self._add_value(self._value(), quoted=False)
            elif letter == "\\":
                self._add(self._escaped())
            elif letter in _NEEDS_SHELL or (letter in _NEEDS_SHELL_FIRST and self._word is None):
                raise _NeedsShell
            else:
                self._add(letter)
                self._at += 1
        self._end()
        return self._found

    def _add(self, text: str) -> None:
        self._length += len(text)
        if self._length > _MOST_LETTERS:
            raise ValueError("with its variables filled in, this command becomes too long; shorten it")
        if self._word is None:
            self._word = []
        self._word.append(text)

    def _end(self) -> None:
        if self._word is not None:
            self._found.append("".join(self._word))
            self._word = None

    def _upto(self, quote: str) -> str:
        end = self._text.find(quote, self._at + 1)
        if end < 0:
            raise ValueError(_OPEN)
        found, self._at = self._text[self._at + 1 : end], end + 1
        return found

    def _double(self) -> None:
        self._add("")
        self._at += 1
        while True:
            letter = self._text[self._at : self._at + 1]
            if not letter:
                raise ValueError(_OPEN)
            if letter == '"':
                self._at += 1
                return
            if letter == "`":
                raise _NeedsShell
            if letter == "$":
                self._add_value(self._value(), quoted=True)
            elif letter == "\\" and self._text[self._at + 1 : self._at + 2] in tuple('$`"\\'):
                self._add(self._escaped())
            else:
                self._add(letter)
                self._at += 1

    def _escaped(self) -> str:
        letter = self._text[self._at + 1 : self._at + 2]
        if not letter:
            raise ValueError("no shell can read this command: it ends with a backslash")
        self._at += 2
        return letter

    def _value(self) -> str:
        """The value of the variable that begins here; a "$" before anything else is itself."""
        found = _VARIABLE.match(self._text, self._at)
        if found is None:
            if self._text[self._at + 1 : self._at + 2].strip(" \t\"'/.,:="):
                raise _NeedsShell
            self._at += 1
            return "$"
        self._at = found.end()
        name, otherwise = found[1] or found[2], found[4]
        value = self._variables.get(name)
        if value is None or (not value and found[3] == ":-"):
            value = otherwise
        if value is None:
            raise _NeedsShell  # it may come from elsewhere
        return value

    def _add_value(self, value: str, *, quoted: bool) -> None:
        if not quoted and _SPLITS.search(value):
            raise _NeedsShell
        if value or quoted:
            self._add(value)
