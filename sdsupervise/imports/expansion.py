"""Replaces %(name)s in values of supervisord, which are format strings of Python."""

import os
import platform
import re
from collections.abc import Iterable, Mapping

from ..errors import CannotImport
from ..input.nearest import nearest
from ..input.printable import one_line
from .ini import IniValue

_FORMAT = re.compile(  # or any other %
    r"%(?:\((?P<name>[^()]*)\)[#0 +-]*(?P<width>[1-9]\d*)?(?:\.(?P<precision>\d+))?[hlL]?[diouxXeEfFgGcrsa]|%)?",
    re.ASCII,
)
_MOST_DIGITS = 2  # of a width or a precision
_MOST_LETTERS = 128 * 1024  # of an expanded value: Linux takes no longer argument
_SHOWN = 60
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"  # what systemd gives a service

Names = Mapping[str, str | int]


def expand(value: IniValue, names: Names, *, most: int = _MOST_LETTERS) -> str:
    """The text with each %(name)s replaced, and %% by %. %(here)s is the directory of the value's file.

    Raises CannotImport for a name that is not known, for any other %, and for a text of more than `most` letters.
    """
    parts: list[str] = []
    length = at = 0
    for found in _FORMAT.finditer(value.text):
        parts += value.text[at : found.start()], _replaced(found, value, names)
        at = found.end()
        length += len(parts[-2]) + len(parts[-1])
        if length > most:
            break
    if length + len(value.text) - at > most:
        raise _too_long(value)
    return "".join([*parts, value.text[at:]])


def _replaced(found: re.Match[str], value: IniValue, names: Names) -> str:
    """What one %(name)s becomes."""
    if found[0] == "%":
        raise CannotImport(f"{value.where}: {_shown(value)} has a % that supervisord refuses; write %%.")
    name = found["name"]
    if name is None:
        return "%"
    if name != "here" and name not in names:
        raise CannotImport(f"{value.where}: {_unknown(name, [*names, 'here'])}")
    if any(len(digits or "") > _MOST_DIGITS for digits in (found["width"], found["precision"])):
        raise _too_long(value)
    try:
        return str(found[0] % {name: os.path.dirname(value.file) if name == "here" else names[name]})
    except (TypeError, ValueError, OverflowError):
        raise CannotImport(
            f"{value.where}: {one_line(found[0], _SHOWN)} in {_shown(value)} does not fit the value of {name}."
        ) from None


def with_path(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of supervisord's environment, and PATH as a service has it, if it is not among them."""
    return {"PATH": PATH, **variables}


def of_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The names under which values find these variables."""
    return {f"ENV_{name}": value for name, value in variables.items()}


def of_host() -> dict[str, str]:
    """The name under which values find the name of this host."""
    return {"host_node_name": platform.node()}


def _unknown(name: str, names: Iterable[str]) -> str:
    shown = one_line(name, _SHOWN)
    if name.startswith("ENV_"):
        variable = shown.removeprefix("ENV_")
        return (
            f"%({shown})s is a variable of the environment in which supervisord runs, which is not known here; "
            f"say its value: --env {variable}=VALUE."
        )
    meant = nearest(name, names)
    return f"%({shown})s is not known to supervisord{f'; did you mean %({meant})s?' if meant else '.'}"


def _too_long(value: IniValue) -> CannotImport:
    return CannotImport(f"{value.where}: {_shown(value)} cannot be imported, because it becomes too long; shorten it.")


def _shown(value: IniValue) -> str:
    return repr(one_line(value.text, _SHOWN))
