"""The code of a service that root loads or executes, and the other users who may write it.

Such a user is root at the next start or reload. This check loads and executes none of that code.
"""

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import PathFinder
from typing import NamedTuple

from ..linux.program_search import search as search_program
from ..linux.writers import who_else_may_write
from .instance import Instance

_HELPERS = ("before_commit", "notify_command")


class CodePlace(NamedTuple):
    """A file or directory from which root takes code."""

    what: str  # what root does with it, a clause: "root loads the class from it"
    path: str
    may_be_made: bool = False  # it need not exist; then a user who may create a file there may make it


class Writable(NamedTuple):
    """Such a place, and another user who may write it."""

    what: str
    who: str  # a clause: "uid 1000 may write /srv/app"

    def __str__(self) -> str:
        return f"{self.who}, and {self.what}: whoever may write it is root at the next start or reload"


def written_by_others(places: Iterable[CodePlace]) -> Iterator[Writable]:
    """Yield each place, or directory on the path to one, that other users may write; each once."""
    seen = set()
    for what, path, may_be_made in places:
        who = who_else_may_write(path, or_add=may_be_made)
        if who and who not in seen:
            seen.add(who)
            yield Writable(what, who)


def of_instance(instance: Instance, directory: str, search: Sequence[str] | None = None) -> Iterator[CodePlace]:
    """Yield the code of an instance whose supervisor root starts: its file, and what that names, unless `user` is not
    root."""
    values = instance.values
    yield CodePlace("root follows it", os.path.abspath(instance.file))
    if values.get("user") not in (None, "root", "0"):
        return
    for key in _HELPERS:
        yield from of_command(values.get(key, ())[:1], "", search, f"root executes it ({key})")
    if "command" in values:
        yield from of_command(values["command"], directory, search)
    else:
        yield from of_class(values["service"], directory, values.get("python", ""), search)


def of_class(target: str, directory: str, python: str, search: Sequence[str] | None = None) -> Iterator[CodePlace]:
    """Yield the code of a class TARGET: its directory, the class's file, and the interpreter, or our own module
    path."""
    what = "root loads the service from it"
    name = target.partition(":")[0]
    yield CodePlace(what, directory)
    if "/" in name or name.endswith(".py"):
        yield CodePlace(what, os.path.join(directory, name))
    else:
        for path in _files_of_module(name, directory):
            yield CodePlace(what, path)
    if python:
        yield from of_program(python, directory, search, "root executes it (python)")
    elif os.geteuid() == 0:  # then the supervisor's sys.path is root's too
        for path in sys.path:
            yield CodePlace("root loads modules from it", path or directory)


def of_command(
    words: Sequence[str], directory: str, search: Sequence[str] | None, what: str = "root executes it"
) -> Iterator[CodePlace]:
    """Yield the code of a command: its program, its directory, and the files among its arguments."""
    for word in words[:1]:
        yield from of_program(word, directory, search, what)
    if directory:
        yield CodePlace("root's command runs in it", directory)
        for word in words[1:]:
            path = os.path.join(directory, word)
            if os.path.isfile(path):
                yield CodePlace("it is an argument of root's command", path)


def of_program(word: str, directory: str, search: Sequence[str] | None, what: str) -> Iterator[CodePlace]:
    """Yield the code of a program: its file, and the parts of the virtual environment that it is in."""
    found, may = (word, True) if "/" in word else search_program(word, os.get_exec_path() if search is None else search)
    if not may:
        return
    path = os.path.join(directory, found)
    yield CodePlace(what, path)
    environment = os.path.dirname(os.path.dirname(path))
    settings = os.path.join(environment, "pyvenv.cfg")
    if os.path.exists(settings):
        libraries = glob.glob(os.path.join(glob.escape(environment), "lib*", "python3*", "site-packages"))
        for each in (settings, *libraries):
            yield CodePlace("root executes Python with it", each)


def _files_of_module(name: str, directory: str) -> Iterator[str]:
    """Yield the files that importing the module executes, as far as they can be found without an import."""
    top, *rest = name.split(".")
    spec = PathFinder.find_spec(top, [directory, *sys.path]) if top else None
    if spec is None:
        return
    if spec.origin is not None and spec.has_location:
        yield spec.origin
    places = list(spec.submodule_search_locations or ())
    for part in rest:
        spec = PathFinder.find_spec(part, places)
        if spec is None:
            return
        if spec.origin is not None:
            yield spec.origin
        places = list(spec.submodule_search_locations or ())
