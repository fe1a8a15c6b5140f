"""A service's own code: all modules that are imported from the directory where it was found.

What runs is what the disk has at that moment, never an old compiled file. Each module is identified by a hash of what
was executed. Python's importers find the modules; only their loaders are replaced. The hash is of the bytes that are
executed (for a shared library or an archive, of the whole file). So a deploy that replaces the file a moment later does
not change what this process reports.
"""

import errno
import functools
import io
import stat
import sys
from _imp import source_hash  # SipHash; hashlib costs 4 MB, and importlib.util's has another key for each Python
from collections.abc import Iterable, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader, SourcelessFileLoader
from types import ModuleType
from typing import BinaryIO, NamedTuple

from ..errors import ServiceNotLoadable
from ..linux.unpatched import os
from . import bytecode

_KEY = 0x5D5
_PIECE_BYTES = 2**16  # so that a large file is never in memory as a whole
_MOST_PIECES = 2**14
_STANDARD_LIBRARY = os.path.dirname(os.path.realpath(os.__file__))
_OURS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_INSTALLED = ("site-packages", "dist-packages")


class Loaded(NamedTuple):
    """One loaded module of the service."""

    name: str
    file: str  # resolved; for a module in an archive, the archive
    hash: str  # 16 hex digits


_directories: list[str] = []
_loaded: dict[str, Loaded] = {}
_unreported: list[Loaded] = []


def watch(directories: Iterable[str]) -> None:
    """Treat these directories, and all below them, as the service's own from now on. A file may be among them."""
    _directories.extend({directory.rstrip("/") for directory in directories} - {*_directories})
    if _Finder not in sys.meta_path:
        place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
        sys.meta_path.insert(place, _Finder)


def directories_of(file: str | None, packages: Iterable[str] | None) -> list[str]:
    """Return the directories of a service's own code. Its outermost module has this file, or is a package there.

    That is the directory of `sys.path` in which it was found. An installed module or package counts alone.
    """
    found = []
    for place in packages if packages is not None else [file] if file else []:
        lies_in = resolved(place)
        is_alone = _is_installed(lies_in) or lies_in != os.path.realpath(place)  # the latter in an archive
        found.append(lies_in if is_alone else os.path.dirname(lies_in))
    return found


def watch_class(module_name: str) -> None:
    """Treat what this module's service was imported from as its own code, as `watch` does."""
    module = sys.modules[module_name]
    spec = getattr(module, "__spec__", None)  # the spec has the name that `python -m` was given
    top = sys.modules.get((spec.name if spec is not None else module_name).partition(".")[0], module)
    packages = getattr(top, "__path__", None)
    watch(directories_of(getattr(top, "__file__", None), list(packages) if packages is not None else None))


def watch_script() -> None:
    """Treat the script that this process was given as a service's own code, unless it is an installed program."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    is_ours = "sdsupervise.cli.main" in sys.modules
    if file is not None and not is_ours and not _is_installed(resolved(file)):
        watch_class("__main__")


def is_own(file: str) -> bool:
    """Return whether a resolved file belongs to the service."""
    inside = [directory for directory in _directories if file == directory or file.startswith(f"{directory}/")]
    return any("/dist-packages/" not in file[len(directory) :] for directory in inside) and not any(
        file.startswith(f"{other}/") for other in (_STANDARD_LIBRARY, _OURS)
    )


def replace_loader(spec: ModuleSpec, file: str) -> None:
    """Let one of our loaders load a module of the service's own code, which is in this file."""
    kind = _LOADERS.get(type(spec.loader))
    if kind is not None and spec.origin is not None:
        loader = kind(spec.name, spec.origin)
        spec.loader, loader.file = loader, file
    else:
        note_from_disk(spec.name, file)  # in an archive


def note(name: str, file: str, hash_of_it: str) -> None:
    """Record that this module was executed."""
    loaded = Loaded(name, file, hash_of_it)
    if _loaded.get(name) != loaded:
        _loaded[name] = loaded
        _unreported.append(loaded)


def note_from_disk(name: str, file: str) -> None:
    """Record that this module was executed, or is about to be, with the content that the disk has now."""
    try:
        note(name, file, hash_of_file(file))
    except OSError:
        note(name, file, "unreadable")


def forget_if_reported(fingerprint: str) -> None:
    """Treat all loaded modules as reported, if their fingerprint is this one."""
    if fingerprint_of((loaded.name, loaded.hash) for loaded in _loaded.values()) == fingerprint:
        _unreported.clear()


def note_the_rest() -> None:
    """Record the service's modules that other loaders have loaded."""
    for name, file in unknown():
        note_from_disk(name, file)


def unknown() -> list[tuple[str, str]]:
    """Return the name and the resolved file of each module of the service that another loader has loaded."""
    known = {id(sys.modules.get(name)) for name in _loaded}  # a module may have two names
    found = []
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if id(module) not in known and isinstance(file, str) and is_own(file := resolved(file)):
            found.append((name, file))
    return found


def take_all() -> list[Loaded]:
    """Return every module of the service that is loaded now, by name."""
    _unreported.clear()
    return sorted(_loaded.values())


def take_unreported() -> list[Loaded]:
    """Return the modules loaded since the last call, in this process or in the process that forked it."""
    unreported = []
    while _unreported:  # another thread may import a module now
        unreported.append(_unreported.pop())
    return sorted(unreported)


def resolved(file: str) -> str:
    """Return the file with symlinks resolved; for a file inside an archive, the archive."""
    directory, _, name = file.rpartition("/")
    file = f"{_resolved_directory(directory or '/')}/{name}" if directory else os.path.realpath(file)
    try:
        return os.path.realpath(file) if stat.S_ISLNK(os.lstat(file).st_mode) else file
    except OSError:
        archive = file
        while archive != os.path.dirname(archive) and not os.path.lexists(archive):
            archive = os.path.dirname(archive)
        return archive if os.path.isfile(archive) else file


_resolved_directory = functools.cache(os.path.realpath)  # hundreds of modules are in a few directories


def fingerprint_of(modules: Iterable[tuple[str, str]]) -> str:
    """Return a hash over modules, pairs of a name and a hash of what is executed."""
    text = "".join(f"{name} {hash_of_it}\n" for name, hash_of_it in sorted(modules))
    return hash_of(text.encode(errors="surrogateescape"))


def hash_of(content: bytes) -> str:
    """Return a hash of the content, 16 hex digits."""
    if len(content) >= _PIECE_BYTES:
        return _hash_in_pieces(io.BytesIO(content))
    return source_hash(_KEY, content).hex()


def hash_of_file(path: str) -> str:
    """Return a hash of a file of any size, as `hash_of`. Raises OSError, also if it is no regular file.

    A user with fewer rights may have given the path. So nothing but a regular file is opened, and at most 1 GiB is
    read.
    """
    found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        with open(f"/proc/self/fd/{found}", "rb") as file:
            return _hash_in_pieces(file)
    finally:
        os.close(found)


def _hash_in_pieces(file: BinaryIO) -> str:
    hashes, content = b"", b""
    for _ in range(_MOST_PIECES):
        content = file.read(_PIECE_BYTES)
        if len(content) < _PIECE_BYTES:
            break
        hashes, content = hashes + source_hash(_KEY, content), b""
    return source_hash(_KEY, hashes + content).hex()


def _is_installed(place: str) -> bool:
    directory = os.path.dirname(place)
    return os.path.basename(directory) in _INSTALLED or f"{directory}/".startswith(f"{_STANDARD_LIBRARY}/")


# ------------------------------------------------------------------------------------------------------- loaders


class _Finder:
    """The finder before PathFinder in `sys.meta_path`, which gives own modules one of our loaders."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder.find_spec."""
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin and spec.has_location and is_own(file := resolved(spec.origin)):
            replace_loader(spec, file)
        return spec


class OwnSource(SourceFileLoader):
    """Loads a module from source.

    Python's loader calls these methods in this order: path_stats, get_data for the compiled file, get_data for the
    source if there is no compiled file, set_data.
    """

    file = ""  # resolved
    _source: bytecode.SourceFile | None = None
    _content: bytes | None = None

    def path_stats(self, path: str) -> dict[str, float]:
        """See SourceFileLoader.path_stats. This reads the source, once."""
        self._source, self._content = bytecode.read_source(path)
        note(self.name, self.file, hash_of(self._content))
        return {"mtime": self._source.facts.st_mtime, "size": self._source.facts.st_size}

    def get_data(self, path: str) -> bytes:
        """See SourceFileLoader.get_data. This returns a compiled file only if it is proved to belong to the source."""
        content, source = self._content, self._source
        if content is None or source is None:
            return super().get_data(path)  # a file beside the module, or the source for a traceback
        data = content if path == source.path else bytecode.read(path, source)
        self._content = None
        return data  # type: ignore[return-value]  # what can be read as bytes is enough

    def set_data(self, path: str, data: bytes, *, _mode: int = 0) -> None:  # type: ignore[override]
        """See SourceFileLoader.set_data. This writes the compiled file by hash."""
        if self._source is not None:
            bytecode.write(path, data[bytecode.HEADER_BYTES :], self._source)


class OwnCompiled(SourcelessFileLoader):
    """Loads a module that has a compiled file and no source."""

    file = ""

    def get_data(self, path: str) -> bytes:
        """See SourcelessFileLoader.get_data."""
        data = super().get_data(path)
        if path == self.path:
            note(self.name, self.file, hash_of(data))
        return data


class OwnExtension(ExtensionFileLoader):
    """Loads a module that is a shared library."""

    file = ""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See ExtensionFileLoader.create_module.

        Raises ServiceNotLoadable if the file is replaced while it is loaded.
        """
        before, hash_of_it = os.stat(self.path), hash_of_file(self.path)
        module = super().create_module(spec)
        after = os.stat(self.path)
        if (before.st_ino, before.st_ctime_ns) != (after.st_ino, after.st_ctime_ns):
            raise ServiceNotLoadable(f"{self.path} was replaced while it was being loaded; start again.")
        note(self.name, self.file, hash_of_it)
        return module


_LOADERS: dict[type, type[OwnSource | OwnCompiled | OwnExtension]] = {
    SourceFileLoader: OwnSource,
    SourcelessFileLoader: OwnCompiled,
    ExtensionFileLoader: OwnExtension,
}
