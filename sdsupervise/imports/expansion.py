"""Replaces %(name)s in values of supervisord, which are format strings of Python."""

import os
import platform
import re
from collections.abc import Mapping

from ..errors import CannotImport
from ..input.nearest import nearest
from ..input.printable import one_line
from .ini import IniValue

# Widths and precisions of three digits at most: a wider one would only fill the memory.
_FORMAT = re.compile(r"%(?:\((?P<name>[^()]*)\)[#0 +-]*\d{0,3}(?:\.\d{1,3})?[hlL]?[diouxXeEfFgGcrsa]|%)")
_SHOWN = 60
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"  # what systemd gives a service

Names = Mapping[str, str | int]


def expand(value: IniValue, names: Names) -> str:
    """The text with each %(name)s replaced, and %% by %. %(here)s is the directory of the value's file.

    Raises CannotImport for a name that is not known, and for any other %.
    """
    names = {**names, "here": os.path.dirname(value.file)}

    def replaced(found: re.Match[str]) -> str:
        if found[0] == "%":
            raise CannotImport(f"{value.where}: {_shown(value)} has a % that supervisord refuses; write %%.")
        name = found["name"]
        if name is not None and name not in names:
            raise CannotImport(f"{value.where}: {_unknown(name, names)}")
        try:
            return str(found[0] % names)
        except (TypeError, ValueError, OverflowError):
            raise CannotImport(
                f"{value.where}: {one_line(found[0], _SHOWN)} in {_shown(value)} does not fit the value of {name}."
            ) from None

    return re.sub(f"{_FORMAT.pattern}|%", replaced, value.text)


def with_path(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of supervisord's environment, and PATH as a service has it, if it is not among them."""
    return {"PATH": PATH, **variables}


def of_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The names under which values find these variables."""
    return {f"ENV_{name}": value for name, value in variables.items()}


def of_host() -> dict[str, str]:
    """The name under which values find the name of this host."""
    return {"host_node_name": platform.node()}


def _unknown(name: str, names: Names) -> str:
    shown = one_line(name, _SHOWN)
    if name.startswith("ENV_"):
        variable = shown.removeprefix("ENV_")
        return (
            f"%({shown})s is a variable of the environment in which supervisord runs, which is not known here; "
            f"say its value: --env {variable}=VALUE."
        )
    meant = nearest(name, names)
    return f"%({shown})s is not known to supervisord{f'; did you mean %({meant})s?' if meant else '.'}"


def _shown(value: IniValue) -> str:
    return repr(one_line(value.text, _SHOWN))
