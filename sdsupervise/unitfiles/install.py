"""A drop-in of ours on disk: written in one step, never over somebody else's, and taken away again."""

import os

from ..errors import CannotWrap, NotPermitted, UnitUnavailable
from .wrap import DropIn, mark


def write(drop_in: DropIn) -> None:
    """Write it where it belongs.

    Raises CannotWrap where a file stands there that is not ours, NotPermitted, UnitUnavailable.
    """
    path = drop_in.path
    directory = os.path.dirname(path)
    new = os.path.join(directory, f".{os.path.basename(path)}.{os.getpid()}")  # systemd reads no such name
    try:
        if _is_foreign(path, drop_in.unit):
            raise CannotWrap(f"{path} is not by sdsupervise unit wrap; move it out of the way first.")
        if not os.path.isdir(directory):
            os.mkdir(directory)
            os.chmod(directory, 0o755)  # whatever our umask is, everybody may read what a unit is
        with open(new, "x") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(drop_in.file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except PermissionError as error:
        raise NotPermitted(f"We may not write {path}; try as root.") from error
    except OSError as error:
        if os.path.exists(new):
            os.unlink(new)
        raise UnitUnavailable(f"Cannot write {path}: {error.strerror}.") from error


def remove(drop_in: DropIn) -> None:
    """Take it away, and its directory if that is empty then.

    Raises UnitUnavailable where there is none, CannotWrap where it is not ours, NotPermitted.
    """
    path = drop_in.path
    try:
        if _is_foreign(path, drop_in.unit):
            raise CannotWrap(f"{path} is not by sdsupervise unit wrap; it stays.")
        os.unlink(path)
    except FileNotFoundError:
        raise UnitUnavailable(f"{drop_in.unit} is not wrapped: there is no {path}.") from None
    except PermissionError as error:
        raise NotPermitted(f"We may not remove {path}; try as root.") from error
    except OSError as error:
        raise UnitUnavailable(f"Cannot remove {path}: {error.strerror}.") from error
    try:
        os.rmdir(os.path.dirname(path))
    except OSError:
        pass  # other drop-ins are in there


def _is_foreign(path: str, unit: str) -> bool:
    try:
        with open(path) as file:
            return mark(unit) not in file.read().splitlines()
    except FileNotFoundError:
        return False
    except UnicodeDecodeError:
        return True
