"""The code of a service that root loads or executes, and who else may write it: whoever may is root at the next start
or reload. To find that out, nothing of it is loaded or executed."""

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
    may_be_made: bool = False  # by whoever may make a file there


class Writable(NamedTuple):
    """Such a place, and somebody else who may write it."""

    what: str
    who: str  # a clause: "uid 1000 may write /srv/app"

    def __str__(self) -> str:
        return f"{self.who}, and {self.what}: whoever may write it is root at the next start or reload"


def written_by_others(places: Iterable[CodePlace]) -> Iterator[Writable]:
    """Each place, or directory on the way to one, that others may write; once."""
    seen = set()
    for what, path, may_be_made in places:
        who = who_else_may_write(path, or_add=may_be_made)
        if who and who not in seen:
            seen.add(who)
            yield Writable(what, who)


def of_instance(instance: Instance, directory: str, search: Sequence[str] | None = None) -> Iterator[CodePlace]:
    """For an instance whose supervisor root starts: its file, and what it names where it does not name another user."""
    values = instance.values
    yield CodePlace("root does what it says", os.path.abspath(instance.file))
    if values.get("user") not in (None, "root", "0"):
        return
    for key in _HELPERS:
        yield from of_command(values.get(key, ())[:1], "", search, f"root executes it ({key})")
    if "command" in values:
        yield from of_command(values["command"], directory, search)
    else:
        yield from of_class(values["service"], directory, values.get("python", ""), search)


def of_class(target: str, directory: str, python: str, search: Sequence[str] | None = None) -> Iterator[CodePlace]:
    """For a TARGET: the directory it is loaded in, the class's file, and the interpreter, or where ours has modules."""
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
    elif os.geteuid() == 0:  # whose sys.path is the supervisor's, too
        for path in sys.path:
            yield CodePlace("root loads modules from it", path or directory)


def of_command(
    words: Sequence[str], directory: str, search: Sequence[str] | None, what: str = "root executes it"
) -> Iterator[CodePlace]:
    """For a command: its program, its directory, and the files that it is given."""
    for word in words[:1]:
        yield from of_program(word, directory, search, what)
    if directory:
        yield CodePlace("root's command runs in it", directory)
        for word in words[1:]:
            path = os.path.join(directory, word)
            if os.path.isfile(path):
                yield CodePlace("root's command is given it", path)


def of_program(word: str, directory: str, search: Sequence[str] | None, what: str) -> Iterator[CodePlace]:
    """For a program: its file, and what belongs to the virtual environment that it is in."""
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
    """Those that an import of it executes, as far as that can be known without an import."""
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
