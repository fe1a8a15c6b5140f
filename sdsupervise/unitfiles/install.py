"""A drop-in of ours on disk: written in one step, never over somebody else's, and taken away again."""

import errno
import os

from ..errors import CannotWrap, NotPermitted, UnitUnavailable
from ..linux import files
from .wrap import DropIn, mark

_MOST_BYTES = 1024 * 1024  # of a drop-in that is looked at


def write(drop_in: DropIn) -> None:
    """Write it where it belongs.

    Raises CannotWrap where a file stands there that is not ours, NotPermitted, UnitUnavailable.
    """
    path = drop_in.path
    umask = os.umask(0o022)  # whatever ours is, everybody may read what a unit is
    try:
        # What root has systemd run must be root's.
        directory = files.make_directory(os.path.dirname(path), 0o755, owners=[os.geteuid()])
        try:
            if _is_foreign(directory, drop_in):
                raise CannotWrap(f"{path} is not by sdsupervise unit wrap; move it out of the way first.")
            files.replace(directory, os.path.basename(path), drop_in.file.encode(), 0o644, durable=True)
        finally:
            os.close(directory)
    except PermissionError as error:
        raise _not_permitted("write", path, error) from error
    except OSError as error:
        raise UnitUnavailable(f"Cannot write {path}: {error.strerror}.") from error
    finally:
        os.umask(umask)


def remove(drop_in: DropIn) -> None:
    """Take it away, and its directory if that is empty then.

    Raises UnitUnavailable where there is none, CannotWrap where it is not ours, NotPermitted.
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
        pass  # other drop-ins are in there


def _not_permitted(do: str, path: str, error: OSError) -> NotPermitted:
    why = f": {error.strerror}." if os.geteuid() == 0 else "; try as root."
    return NotPermitted(f"We may not {do} {path}{why}")


def _is_foreign(directory: int, drop_in: DropIn) -> bool:
    """A symlink, or what is no regular file, is not ours either."""
    try:
        content = files.read(directory, os.path.basename(drop_in.path), at_most=_MOST_BYTES)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EEXIST):
            return True
        raise
    return mark(drop_in.unit).encode() not in content.splitlines()
