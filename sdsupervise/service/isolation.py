"""Keeps modules that a command's environment offers to the command out of its supervisor, and out of ExecReload=.

A unit's PYTHONPATH is for its command, and may have a module called systemd or psutil. Rejected: Python's -I, with
which a service's class would have no PYTHONPATH either; and removing the variable, which the command must get.
"""

import os
import sys
from importlib.machinery import PathFinder

from ..linux.libraries import installed_directories

_before: list[list[str]] = []  # sys.path, if isolate() has changed it


def isolate() -> None:
    """Leave the directories of PYTHONPATH, and that of `python -m`, out of later imports of this process.

    Those that belong to this interpreter, or to this package, stay.
    """
    if sys.flags.ignore_environment:
        return
    named = os.environ.get("PYTHONPATH", "").split(":") if os.environ.get("PYTHONPATH") else []
    if "-m" in sys.orig_argv[1:] and not sys.flags.safe_path:
        named.append(os.getcwd())
    ours = {*installed_directories(), os.path.realpath(f"{os.path.dirname(__file__)}/../..")}
    foreign = {os.path.realpath(place) for place in named} - ours
    _before[:] = _before or [list(sys.path)]
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) not in foreign]


def has_replaced() -> bool:
    """Return whether a module that is loaded would be another one if isolate() had left nothing out."""
    left_out = [entry for entry in _before[0] if entry not in sys.path] if _before else []
    for name, module in [*sys.modules.items()] if left_out else ():
        spec = getattr(module, "__spec__", None)
        if "." not in name and spec is not None and spec.has_location:
            found = PathFinder.find_spec(name, left_out)
            if found is not None and found.loader is not None and found.origin != spec.origin:
                return True
    return False


def undo() -> None:
    """Let later imports look everywhere again."""
    if _before:
        sys.path[:] = _before.pop()
