"""Imports the libraries that we use: sdnotify, systemd-python, psutil, setproctitle.

The PYTHONPATH of a service, or its own directory, may have other modules of these names. A class runs in the same
interpreter as its supervisor, and both must find their own. So we look where packages are installed, and if there is
another module of that name, ours leaves sys.modules again. A command's supervisor needs this, too, until it has left
PYTHONPATH out; see service/isolation.py.
"""

import importlib
import os
import site
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_found: dict[str, ModuleType] = {}


def library(name: str) -> Any:  # noqa: ANN401
    """The module with this name that is installed for this interpreter. Raises ImportError."""
    if name not in _found:
        _found[name] = _import(name)
    return _found[name]


def make_way() -> None:
    """Take those of our libraries out of sys.modules for which sys.path leads to another module by now."""
    for top in {name.partition(".")[0] for name in _found}:
        found = PathFinder.find_spec(top)
        if top in sys.modules and found is not None and found.origin != _origin(sys.modules[top]):
            _take_out(top)


def installed_directories() -> frozenset[str]:
    """The directories, without symlinks, in which packages are installed for this interpreter."""
    own = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return frozenset(map(os.path.realpath, (*site.getsitepackages(), *own)))


def _import(name: str) -> ModuleType:
    top = name.partition(".")[0]
    directories = installed_directories()
    ours = PathFinder.find_spec(top, [entry for entry in sys.path if os.path.realpath(entry) in directories])
    is_forbidden = top in sys.modules and sys.modules[top] is None  # as a sitecustomize.py may do it
    if ours is None or ours.loader is None or is_forbidden or _origin_of_next(top) == ours.origin:
        return importlib.import_module(name)
    theirs = _take_out(top)
    try:
        return _import_anew(ours, name)
    finally:
        _take_out(top)
        sys.modules.update(theirs)


def _origin_of_next(top: str) -> str | None:
    """The file of the module that `import` would give now."""
    if top in sys.modules:
        return _origin(sys.modules[top])
    found = PathFinder.find_spec(top)
    return found.origin if found is not None else None


def _origin(module: ModuleType) -> str | None:
    return getattr(getattr(module, "__spec__", None), "origin", None)


def _take_out(top: str) -> dict[str, ModuleType]:
    """Take a module, and all below it, out of sys.modules."""
    names = [name for name in sys.modules if name == top or name.startswith(f"{top}.")]
    return {name: sys.modules.pop(name) for name in names}


def _import_anew(ours: ModuleSpec, name: str) -> ModuleType:
    from importlib.util import module_from_spec  # costs memory, and is rarely needed

    assert ours.loader is not None
    sys.modules[ours.name] = module = module_from_spec(ours)
    ours.loader.exec_module(module)
    return importlib.import_module(name)  # what is below a package is found by its __path__
