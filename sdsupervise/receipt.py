"""Which code serves: where it lies, all symlinks resolved, and a fingerprint of what was imported from there."""

import functools
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.util import source_hash  # the hash Python itself tells changed sources by; hashlib would cost 4 MB
from typing import NamedTuple

from . import __version__

_HASHED_BYTES = 2**20  # a larger program is known by its size and time


class Receipt(NamedTuple):
    """The code of a generation."""

    path: str  # of the script, or of the package's directory, resolved
    fingerprint: str  # 16 hex digits
    # What it was taken of, so that somebody can see later whether the disk has other code now.
    modules: Sequence[Sequence[str]] = ()  # of a class: name and file of each
    words: Sequence[str] = ()  # of a command: the program that was found, and its words

    def __str__(self) -> str:
        return f"{self.path} ({self.fingerprint})"


def is_still_installed() -> bool:
    """The release of ours that runs is also the one on disk: what is imported now fits to what was imported before."""
    try:
        with open(os.path.join(os.path.dirname(__file__), "__init__.py")) as file:
            return f'__version__ = "{__version__}"\n' in file.read()
    except OSError:
        return False


def pin_imports() -> None:
    """Make later imports come from where the earlier ones came from, although a deploy swaps a symlink meanwhile.

    Without it a worker that imports something late, or is started anew in a rollback, would mix two releases.
    """
    sys.path[:] = [os.path.realpath(entry) for entry in sys.path]
    for module in list(sys.modules.values()):
        places = getattr(module, "__path__", None)
        if isinstance(places, list):
            places[:] = [os.path.realpath(place) for place in places]


def take_receipt(module_name: str) -> Receipt:
    """The receipt for a service defined in this (imported) module."""
    module = sys.modules[module_name]
    file = getattr(module, "__file__", None)
    if file is None:
        return Receipt("(no file)", "0" * 16)  # an interactive session
    script = os.path.realpath(file)
    package = module_name.partition(".")[0]
    top = getattr(sys.modules.get(package), "__file__", None)
    in_package = "." in module_name and top is not None
    path = os.path.dirname(os.path.realpath(str(top))) if in_package else script
    root = path if in_package else os.path.dirname(script)
    modules = _modules_below(root)
    return Receipt(path, fingerprint_of(modules), modules)


def take_receipt_of_command(executable: str, words: Sequence[str]) -> Receipt:
    """The receipt for a command: what is known of its code is the program, and whichever files it is given by name."""
    program = os.path.realpath(executable)
    files = [program, *(os.path.realpath(word) for word in words[1:] if os.path.isfile(word))]
    parts = [f"{os.getcwd()}\n", *(f"{word}\n" for word in words)]
    for file in files:
        try:
            facts = os.stat(file)
            if facts.st_size > _HASHED_BYTES:
                parts.append(f"{file} {facts.st_size} {facts.st_mtime_ns}\n")
                continue
            with open(file, "rb") as content:
                parts.append(f"{file} {source_hash(content.read()).hex()}\n")
        except OSError:
            parts.append(f"{file} unreadable\n")
    return Receipt(
        program, source_hash("".join(parts).encode(errors="surrogateescape")).hex(), (), (executable, *words)
    )


def fingerprint_of(modules: Iterable[Sequence[str]]) -> str:
    """A hash over modules, each a name and a file, by name and content."""
    parts = []
    for name, file in modules:
        try:
            with open(file, "rb") as source:
                parts.append(f"{name} {source_hash(source.read()).hex()}\n")
        except OSError:
            parts.append(f"{name} unreadable\n")
    return source_hash("".join(parts).encode()).hex()


def _modules_below(root: str) -> list[tuple[str, str]]:
    """Name and file of all modules that were imported from a directory."""
    found = []
    resolve = functools.cache(os.path.realpath)  # hundreds of modules lie in a few directories
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str):
            continue
        directory, base = os.path.split(file)
        file = os.path.join(resolve(directory), base)
        if os.path.islink(file):
            file = os.path.realpath(file)
        if file.startswith(root + os.sep):
            found.append((name, file))
    return found
