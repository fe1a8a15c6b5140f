"""Writes and removes a drop-in. The write is atomic, and never replaces a file that sdsupervise has not written."""

import errno
import os

from ..errors import CannotWrap, NotPermitted, UnitUnavailable
from ..linux import files
from .drop_in import DropIn, mark

_MOST_BYTES = 1024 * 1024  # read of a drop-in


def write(drop_in: DropIn) -> None:
    """Write the drop-in to its path.

    Raises CannotWrap if another file is there, NotPermitted, UnitUnavailable.
    """
    _write(drop_in, drop_in.file.encode())


def _write(drop_in: DropIn, content: bytes) -> None:
    path = drop_in.path
    umask = os.umask(0o022)  # every user may read units, whatever our umask is
    try:
        # systemd runs this as root, so the directory must belong to root.
        directory = files.make_directory(os.path.dirname(path), 0o755, owners=[os.geteuid()])
        try:
            if _is_foreign(directory, drop_in):
                raise CannotWrap(f"{path} is not by sdsupervise unit wrap; move it out of the way first.")
            files.replace(directory, os.path.basename(path), content, 0o644, durable=True)
        finally:
            os.close(directory)
    except PermissionError as error:
        raise _not_permitted("write", path, error) from error
    except OSError as error:
        raise UnitUnavailable(f"Cannot write {path}: {error.strerror}.") from error
    finally:
        os.umask(umask)


def present(drop_in: DropIn) -> bytes | None:
    """What the file at this path says now; None if there is none, or it cannot be read."""
    try:
        directory = files.open_directory(os.path.dirname(drop_in.path))
        try:
            return files.read(directory, os.path.basename(drop_in.path), at_most=_MOST_BYTES)
        finally:
            os.close(directory)
    except OSError:
        return None


def take_back(drop_in: DropIn, before: bytes | None) -> None:
    """Undo write(); `before` is what present() has returned.

    Raises CannotWrap, NotPermitted, UnitUnavailable.
    """
    if before is None:
        remove(drop_in)
    else:
        _write(drop_in, before)


def remove(drop_in: DropIn) -> None:
    """Remove the drop-in, and its directory if that is then empty.

    Raises UnitUnavailable if there is none, CannotWrap if it is another file, NotPermitted.
    """
    path = drop_in.path
    try:
        directory = files.open_directory(os.path.dirname(path))
        try:
            if _is_foreign(directory, drop_in):
                raise CannotWrap(f"{path} is not by sdsupervise unit wrap; it stays.")
            os.unlink(os.path.basename(path), dir_fd=directory)
        finally:
            os.close(directory)
    except FileNotFoundError:
        raise UnitUnavailable(f"{drop_in.unit} is not wrapped: there is no {path}.") from None
    except PermissionError as error:
        raise _not_permitted("remove", path, error) from error
    except OSError as error:
        raise UnitUnavailable(f"Cannot remove {path}: {error.strerror}.") from error
    try:
        os.rmdir(os.path.dirname(path))
    except OSError:
        pass  # the directory contains other drop-ins


def _not_permitted(do: str, path: str, error: OSError) -> NotPermitted:
    why = f": {error.strerror}." if os.geteuid() == 0 else "; try as root."
    return NotPermitted(f"We may not {do} {path}{why}")


def _is_foreign(directory: int, drop_in: DropIn) -> bool:
    """Whether the file at this path is not ours. A symlink, or anything but a regular file, is not ours either."""
    try:
        content = files.read(directory, os.path.basename(drop_in.path), at_most=_MOST_BYTES)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EEXIST):
            return True
        raise
    return mark(drop_in.unit).encode() not in content.splitlines()
