"""The variables by which a program executes code that is not its own, before it does anything else: Python's, and those
of the dynamic linker. Root may have them only if they lead where root alone may write.

Rejected: Python's -I. It would take all PYTHON* variables from the service's class, too.
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
    """Code that a variable has a program execute."""

    variable: str
    path: str  # absolute, if the directory is


def sources(environment: Mapping[str, str], directory: str) -> Iterator[CodePath]:
    """All that these variables name, for a program that begins in this directory."""
    for variable, or_by in (("LD_PRELOAD", " "), ("LD_AUDIT", ":"), ("LD_LIBRARY_PATH", ";")):
        value = environment.get(variable, "")
        for path in value.replace(or_by, ":").split(":") if value else ():
            if "/" in path or variable == "LD_LIBRARY_PATH":  # a bare name is looked up there
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
    """For root, in a service that runs as another user: it has executed what these variables name when it began, and
    does so in each reload. At the first start nobody else can have put anything there yet.

    A directory that is gone is "". Raises ConfigError where somebody else may.
    """
    for variable, path in sources(environment, directory or "/"):
        who = who_else_may_write(path, or_add=True) if is_heeded(variable) else ""
        if who:
            raise ConfigError(
                f"Root executes code from where {variable} leads, and {who}: whoever does is root at the next start "
                f"or reload. Take {variable} out of the unit's environment, or give the directory to root, or have "
                "root run nothing of the unit: by User=, without `user` in the instance's file."
            )


def is_heeded(variable: str) -> bool:
    """By the Python that runs this."""
    if variable in ("HOME", "PYTHONUSERBASE"):
        return bool(site.ENABLE_USER_SITE)
    ignores = sys.flags.ignore_environment
    return not (ignores and variable.startswith("PYTHON"))
