"""The version of the code that serves: its path, with all symlinks resolved, and a fingerprint of what is executed."""

import os
import sys
from collections.abc import Iterable, Sequence

from .. import __version__
from . import own_code
from .own_code import Loaded, fingerprint_of, hash_of, hash_of_file

_HASHED_BYTES = 2**20  # a larger program is identified by its size and time
# Their first file is a script.
_INTERPRETERS = (
    *("python", "perl", "ruby", "node", "nodejs", "php", "lua", "tclsh", "java", "env"),
    *("sh", "bash", "dash", "ksh", "zsh"),
)
_MOST_BYTES = 4 * 2**20  # of names: a worker sends what it imports, and may lie


class CodeVersion:
    """The version of a generation's code. It grows when workers import modules that their supervisor has not
    imported."""

    def __init__(
        self,
        path: str,
        fingerprint: str = "",
        modules: Iterable[Sequence[str]] = (),
        words: Sequence[str] = (),
        program: str = "",
    ) -> None:
        self.path = path  # resolved; of the script, or of the package's directory
        self.words = words  # of a command: the program that was found, and its words
        self.program = program  # of a command: a hash of what it executes, without its configuration
        self.read_again = ""  # of a command: the fingerprint of what a signal has had it read again
        self._modules = {(name, hash_of_it): file for name, file, hash_of_it in modules}  # of a class
        self._fingerprint = fingerprint
        self._bytes = 0  # that workers have added
        self.replaced = False  # a command has changed on disk, and all its workers were started anew since

    def __str__(self) -> str:
        return f"{self.path} ({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """A hash over all modules, 16 hex digits."""
        self._fingerprint = self._fingerprint or fingerprint_of(self._modules)
        return self._fingerprint

    @property
    def modules(self) -> list[tuple[str, str]]:
        """The name and file of each module that a class was loaded from, sorted."""
        return sorted({(name, file) for (name, _), file in self._modules.items()})

    def replace(self, now: "CodeVersion") -> None:
        """All workers of a command run this version now, which is on disk in place of the one before."""
        self.path, self._fingerprint, self.replaced = now.path, now.fingerprint, True
        self.program, self.read_again = now.program, ""

    def facts(self) -> tuple[str, str, list[Loaded], Sequence[str]]:
        """Return everything from which another process can make an equal CodeVersion."""
        modules = [Loaded(name, file, hash_of_it) for (name, hash_of_it), file in self._modules.items()]
        return self.path, self.fingerprint, modules, self.words

    def add(self, modules: Iterable[Loaded]) -> list[str]:
        """Add modules that a worker has imported. Return the files that differ from what the rest of this generation
        runs.

        Modules beyond a total of 4 MB of names are ignored.
        """
        names = {name for name, _ in self._modules}
        new = [module for module in modules if (module.name, module.hash) not in self._modules]
        added = sum(len(text) for module in new for text in module)
        if self._bytes + added > _MOST_BYTES:
            return []
        self._bytes += added
        self._modules |= {(module.name, module.hash): module.file for module in new}
        if new:
            self._fingerprint = ""
        return [module.file for module in new if module.name in names]


def is_still_installed() -> bool:
    """Return whether the sdsupervise on disk is the release that runs. If not, later imports may not fit earlier
    ones."""
    try:
        with open(os.path.join(os.path.dirname(os.path.dirname(__file__)), "__init__.py")) as file:
            return f'__version__ = "{__version__}"\n' in file.read()
    except OSError:
        return False


def pin_imports() -> None:
    """Fix sys.path and the packages' paths to the resolved directories, so that later imports ignore a swapped symlink.

    Without this, a worker that imports late, or that starts again in a rollback, would mix two releases.
    """
    sys.path[:] = [os.path.realpath(entry) for entry in sys.path]
    for module in list(sys.modules.values()):
        places = getattr(module, "__path__", None)
        if isinstance(places, list):
            places[:] = [os.path.realpath(place) for place in places]


def read_code_version(module_name: str) -> CodeVersion:
    """Return the version of a service whose class is defined in this imported module."""
    module = sys.modules[module_name]
    file = getattr(module, "__file__", None)
    if file is None:
        return CodeVersion("(no file)", "0" * 16)  # an interactive session
    package = module_name.partition(".")[0]
    top = getattr(sys.modules.get(package), "__file__", None)
    in_package = "." in module_name and top is not None
    path = os.path.dirname(os.path.realpath(str(top))) if in_package else os.path.realpath(file)
    own_code.note_the_rest()
    return CodeVersion(path, "", own_code.take_all())


def files_of_command(executable: str, words: Sequence[str]) -> list[str]:
    """Return the files that a command's version follows from: its program, and each file among its words."""
    return [os.path.realpath(executable), *(os.path.realpath(word) for word in words[1:] if os.path.isfile(word))]


def _count_of_code(files: Sequence[str]) -> int:
    """How many of a command's files it executes; to the others, as far as we know, it only looks for configuration."""
    return 2 if os.path.basename(files[0]).rstrip("0123456789.") in _INTERPRETERS else 1


def read_version_of_command(executable: str, words: Sequence[str], files: Sequence[str] = ()) -> CodeVersion:
    """Return the version of a command, which follows from its words and from these files, or its own."""
    files = files or files_of_command(executable, words)
    program = files[0]
    parts = [f"{os.getcwd()}\n", *(f"{word}\n" for word in words)]
    for file in files:
        try:
            facts = os.stat(file)
            if facts.st_size > _HASHED_BYTES:
                parts.append(f"{file} {facts.st_size} {facts.st_mtime_ns}\n")
            else:
                parts.append(f"{file} {hash_of_file(file)}\n")
        except OSError:
            parts.append(f"{file} unreadable\n")
    code = parts[: 1 + len(words) + _count_of_code(files)]
    return CodeVersion(program, _hash(parts), (), (executable, *words), _hash(code))


def _hash(parts: Iterable[str]) -> str:
    return hash_of("".join(parts).encode(errors="surrogateescape"))


def fingerprint_on_disk(modules: Iterable[Sequence[str]]) -> str:
    """Return the fingerprint that the disk's present content of these modules, pairs of name and file, would have."""
    found = []
    for name, file in modules:
        try:
            found.append((name, hash_of_file(file)))
        except OSError:
            found.append((name, "unreadable"))
    return fingerprint_of(found)
