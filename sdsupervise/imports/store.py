"""Writes the files of an import. Each write is atomic, and replaces only what an import has written.

The first line of each file says so, with a checksum of the rest: a file that was edited since then stays.
"""

import errno
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import CannotImport, NotPermitted, UnitUnavailable
from ..input.printable import one_line
from ..linux import files
from .texts import WantedFile, in_root

_MOST_BYTES = 1024 * 1024  # read of a file
_MARK = re.compile(r"# Written by sdsupervise import, from (.*); checksum ([0-9a-f]{16}): an edited file stays\.\n")
NEW, CHANGED, UNCHANGED, REMOVED = "new", "changed", "unchanged", "removed"


class StoredFile(NamedTuple):
    """A file of an import, beside what is there."""

    path: str
    text: str  # all of it, with the mark
    mode: int
    state: str
    instance: str  # the instance that it is about; "" for a target


def compared(wanted: Iterable[WantedFile], root: str) -> list[StoredFile]:
    """What a write would do with each file.

    Raises CannotImport for the first that it would not replace; NotPermitted, UnitUnavailable.
    """
    found = []
    for file in wanted:
        path = in_root(file.path, root)
        text = f"{_mark(file)}{file.text}" if file.text else ""
        there = _read(path)
        if there is None:
            state = NEW if text else ""
        elif there == text:
            state = UNCHANGED
        elif not text and not _MARK.match(there):
            state = ""  # of somebody else, and not in the way
        else:
            _refuse_foreign(path, there, file.source)
            state = CHANGED if text else REMOVED
        if state:
            found.append(StoredFile(path, text, file.mode, state, file.instance))
    return found


def write(stored: Iterable[StoredFile]) -> None:
    """Write what is new or changed, and remove what is not wanted any more. Raises NotPermitted, UnitUnavailable."""
    umask = os.umask(0)  # a file has the mode that it is to have
    try:
        for file in stored:
            if file.state in (NEW, CHANGED, REMOVED):
                _write(file)
    finally:
        os.umask(umask)


def _write(file: StoredFile) -> None:
    try:
        directory = _directory(os.path.dirname(file.path))
        try:
            name = os.path.basename(file.path)
            if file.state == REMOVED:
                os.unlink(name, dir_fd=directory)
            else:
                files.replace(directory, name, _bytes(file.text), file.mode, durable=True)
        finally:
            os.close(directory)
    except PermissionError as error:
        raise _not_permitted("write", file.path, error) from error
    except OSError as error:
        raise UnitUnavailable(f"Cannot write {file.path}: {error.strerror}.") from error


def _directory(path: str) -> int:
    """A descriptor of a directory, which is made if need be, with those above it."""
    try:
        return files.open_directory(path, only_ours=True)
    except FileNotFoundError:
        os.close(_directory(os.path.dirname(path)))
        return files.make_directory(path, 0o755, owners=[os.geteuid()])


def _read(path: str) -> str | None:
    """The content of a file; None if there is none."""
    try:
        directory = files.open_directory(os.path.dirname(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnitUnavailable(f"Cannot read {path}: {error.strerror}.") from error
    try:
        return files.read(directory, os.path.basename(path), at_most=_MOST_BYTES).decode(errors="surrogateescape")
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise _not_permitted("read", path, error) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EEXIST):
            raise CannotImport(f"{path} is not a regular file; move it out of the way first.") from None
        raise UnitUnavailable(f"Cannot read {path}: {error.strerror}.") from error
    finally:
        os.close(directory)


def _refuse_foreign(path: str, there: str, source: str) -> None:
    """Raises CannotImport for a file that is not as an import from the same file has written it."""
    found = _MARK.match(there)
    if found is None:
        raise CannotImport(f"sdsupervise import did not write {path}; move it away first.")
    if found[2] != _checksum(there[found.end() :]):
        raise CannotImport(f"{path} was edited since its import, and stays; remove it to import it again.")
    if found[1] != _shown(source):
        raise CannotImport(
            f"{path} was imported from {found[1]}; remove it first, or give these instances other names with --prefix."
        )


def _mark(file: WantedFile) -> str:
    return (
        f"# Written by sdsupervise import, from {_shown(file.source)}; checksum {_checksum(file.text)}: "
        "an edited file stays.\n"
    )


def _shown(source: str) -> str:
    return one_line(source)


def _checksum(text: str) -> str:
    import hashlib

    return hashlib.sha256(_bytes(text)).hexdigest()[:16]


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _not_permitted(do: str, path: str, error: OSError) -> NotPermitted:
    why = f": {error.strerror}." if os.geteuid() == 0 else "; try as root."
    return NotPermitted(f"We may not {do} {path}{why}")
