"""The options of one section of supervisord, with the types and defaults that supervisord gives them."""

import shlex
import signal
from collections.abc import Callable, Mapping
from typing import TypeVar

from ..errors import CannotImport
from ..input.checked import MOST_COUNT, decimal
from ..input.printable import one_line
from .expansion import Names, expand
from .imported import MOST_VARIABLES
from .ini import Ini, IniSection, IniValue

_Read = TypeVar("_Read")
_TRUE, _FALSE = ("yes", "true", "on", "1"), ("no", "false", "off", "0")


class SectionOptions:
    """One section. Each reader raises CannotImport, with FILE:LINE, for a value that supervisord refuses."""

    def __init__(self, ini: Ini, section: IniSection, names: Names) -> None:
        self._ini, self.section, self.names = ini, section, names

    def value(self, key: str) -> IniValue | None:
        """The value as it is written; None if it is not there."""
        return self._ini.get(self.section, key)

    def where(self, key: str) -> str:
        """FILE:LINE of an option, or of the section."""
        value = self.value(key)
        return value.where if value else self.section.where

    def text(self, key: str) -> str | None:
        """The expanded text; None if it is not there."""
        value = self.value(key)
        return None if value is None else expand(value, self.names)

    def whole(self, key: str, default: int, low: int = 0) -> int:
        """A whole number."""

        def read(text: str) -> int:
            sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
            number = decimal(digits.strip(), MOST_COUNT)
            if number is None or sign * number < low:
                raise ValueError
            return sign * number

        return self._read(key, default, read, f"a whole number{'' if low < 0 else f' from {low}'}")

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""

        def read(text: str) -> bool:
            if text.lower() not in (*_TRUE, *_FALSE):
                raise ValueError
            return text.lower() in _TRUE

        return self._read(key, default, read, "true or false")

    def autorestart(self) -> str:
        """true, false or unexpected."""

        def read(text: str) -> str:
            if text.lower() == "unexpected":
                return "unexpected"
            if text.lower() not in (*_TRUE, *_FALSE):
                raise ValueError
            return "true" if text.lower() in _TRUE else "false"

        return self._read("autorestart", "unexpected", read, "true, false or unexpected")

    def exit_codes(self) -> tuple[int, ...]:
        """The exit statuses that supervisord expects."""

        def read(text: str) -> tuple[int, ...]:
            numbers = [decimal(word.strip(), 255) for word in text.split(",")] if text else []
            if None in numbers:
                raise ValueError
            return tuple(number for number in numbers if number is not None)

        return self._read("exitcodes", (0,), read, "a list of exit statuses from 0 to 255, with commas")

    def stop_signal(self) -> str:
        """The name of a signal, given by its name or its number."""

        def read(text: str) -> str:
            number = decimal(text, 64)
            if number is not None:
                return signal.Signals(number).name
            name = f"SIG{text.strip().upper().removeprefix('SIG')}"
            if name not in signal.Signals.__members__:
                raise ValueError
            return signal.Signals[name].name

        return self._read("stopsignal", "SIGTERM", read, "the name or the number of a signal")

    def octal(self, key: str) -> int | None:
        """A mode or a umask, in octal digits."""

        def read(text: str) -> int:
            mode = int(text, 8)
            if not 0 <= mode <= 0o777:
                raise ValueError
            return mode

        return self._read(key, None, read, "an octal number such as 022")

    def variables(self, names: Names | None = None) -> dict[str, str]:
        """The pairs of `environment`: KEY="value",KEY2='value'."""
        value = self.value("environment")
        if value is None:
            return {}
        try:
            return dict(_pairs(expand(value, self.names if names is None else names)))
        except ValueError as error:
            cut = " supervisord cuts a value at a blank and a ';' or '#', even within quotes." if value.cut else ""
            raise CannotImport(f'{value.where}: environment must be KEY="value",KEY2="value": {error}.{cut}') from None

    def _read(self, key: str, default: _Read, read: Callable[[str], _Read], wanted: str) -> _Read:
        text = self.text(key)
        if text is None:
            return default
        try:
            return read(text)
        except ValueError:
            raise CannotImport(f"{self.where(key)}: {key} is {one_line(text, 60)!r}; it must be {wanted}.") from None


def _pairs(text: str) -> Mapping[str, str]:
    """The variables in a text, as supervisord splits it. Raises ValueError, whose text is the end of a sentence."""
    if "\0" in text:
        raise ValueError("it has a NUL character")
    try:
        lexer = shlex.shlex(text, posix=True)
        lexer.wordchars += "/.+-():"
        tokens = list(lexer)
    except ValueError:
        raise ValueError("a quotation mark is not closed") from None
    found = {}
    for place in range(0, len(tokens), 4):  # the fourth is the comma
        three = tokens[place : place + 3]
        if len(three) != 3 or three[1] != "=":
            raise ValueError(f"there is no pair at {one_line(' '.join(three), 60)!r}")
        found[three[0]] = three[2]
        if len(found) > MOST_VARIABLES:
            raise ValueError(f"these are more than {MOST_VARIABLES} variables")
    return found
