"""Who takes on work now, seen by locked files: nobody has to be asked, and nobody can lie. It runs in the services."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Mark:
    """A worker that takes on work has a file, whose name says whose worker it is; locked as long as it lives."""

    def __init__(self, active: Path, owner: str, index: int, handover: str) -> None:
        self._active = active
        self._mine = (owner, str(index), handover, str(os.getpid()))
        fresh = active.parent / f"mark-{os.getpid()}"
        self._file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._path = active / ".".join(self._mine)
        fresh.rename(self._path)  # who finds it finds it locked

    def find_too_many(self) -> list[int]:
        """The pids of all who take on work now and should not: everybody of another owner, or all but one generation
        where both are for overlap; and who has our place among our owner's workers."""
        owner, index, handover, _ = self._mine
        others = [tuple(path.name.split(".")) for path in self._active.iterdir() if is_held(path)]
        others.remove(self._mine)
        elsewhere = [other for other in others if other[0] != owner]
        is_alone = handover == "exclusive" or any(other[2] == "exclusive" for other in elsewhere)
        if not is_alone and len({other[0] for other in elsewhere}) <= 1:
            elsewhere.clear()
        here = [other for other in others if other[:2] == (owner, index)]
        return [int(other[3]) for other in here + elsewhere]

    def remove(self) -> None:
        """It takes on no more work."""
        self._path.unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """The worker that made this mark lives."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    path.unlink(missing_ok=True)  # it was killed
    return False
