"""The variables that let a program execute other code before its own: those of Python, and of the dynamic linker,
ld.so(8).

Root may have them only if they lead to places where only root may write. Python's -I was rejected: it would hide all
PYTHON* variables from the service's class, too.
"""

import os
import site
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..errors import ConfigError
from .writers import who_else_may_write

_LIBRARIES = os.path.join("lib", f"python{sys.version_info.major}.{sys.version_info.minor}")


class CodePath(NamedTuple):
    """Code that a program executes because of a variable."""

    variable: str
    path: str  # absolute, if the directory is


def sources(environment: Mapping[str, str], directory: str) -> Iterator[CodePath]:
    """Yield all code that these variables name, for a program that starts in this directory."""
    for variable, or_by in (("LD_PRELOAD", " "), ("LD_AUDIT", ":"), ("LD_LIBRARY_PATH", ";")):
        value = environment.get(variable, "")
        for path in value.replace(or_by, ":").split(":") if value else ():
            if "/" in path or variable == "LD_LIBRARY_PATH":  # a bare name is looked up in LD_LIBRARY_PATH
                yield CodePath(variable, os.path.join(directory, path))
    for variable, below in (("PYTHONHOME", _LIBRARIES), ("PYTHONPATH", ""), ("PYTHONPYCACHEPREFIX", "")):
        value = environment.get(variable, "")
        for path in value.split(":") if value else ():
            yield CodePath(variable, os.path.join(directory, path, below).rstrip("/") or "/")
    of_user = os.path.join(_LIBRARIES, "site-packages")
    if environment.get("PYTHONUSERBASE"):
        yield CodePath("PYTHONUSERBASE", os.path.join(directory, environment["PYTHONUSERBASE"], of_user))
    elif "HOME" in environment:
        yield CodePath("HOME", os.path.join(directory, environment["HOME"] or "/", ".local", of_user))


def refuse_code_of_others(environment: Mapping[str, str], directory: str) -> None:
    """For a supervisor of root whose service runs as another user: refuse variables that lead to code others may write.

    Root has executed that code when it began, and executes it in each reload. At the first start no other user can have
    put code there yet. `directory` is "" if it was removed. Raises ConfigError.
    """
    for variable, path in sources(environment, directory or "/"):
        who = who_else_may_write(path, or_add=True) if is_used(variable) else ""
        if who:
            raise ConfigError(
                f"Root executes code from the directories in {variable}, and {who}. Whoever writes there becomes "
                f"root at the next start or reload. Remove {variable} from the unit's environment, or give the "
                f"directory to root, or run all of the unit as another user: User= in the unit, and no `user` in the "
                f"instance's file."
            )


def is_used(variable: str) -> bool:
    """Return whether the Python that runs this uses the variable."""
    if variable in ("HOME", "PYTHONUSERBASE"):
        return bool(site.ENABLE_USER_SITE)
    ignores = sys.flags.ignore_environment
    return not (ignores and variable.startswith("PYTHON"))
