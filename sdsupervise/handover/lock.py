"""The lock, which is the right to serve, from the side of one generation; see linux/pid_file.py."""

import logging
import os

from ..errors import PidFileError
from ..linux.pid_file import PidFile

_log = logging.getLogger("sdsupervise")


class Lock:
    """The flock(2) on the pid file. Closing releases it; a fresh open file description asks for it again."""

    def __init__(self, pid_file: PidFile) -> None:
        self.name = pid_file.name  # "" for a pid file without a name
        self._pid_file: PidFile | None = pid_file
        self._inode = pid_file.path_fd()

    def path_fd(self) -> int:
        """The O_PATH descriptor of the inode, for a successor; it remains open here."""
        return self._inode

    def fileno(self) -> int | None:
        """The descriptor that holds or will hold the lock; None after `close`."""
        return self._pid_file.fileno() if self._pid_file is not None else None

    def try_take(self) -> bool:
        """Take the lock if it is free. Returns whether this process has it."""
        return self._pid_file is not None and self._pid_file.try_lock()

    def close(self) -> None:
        """Release the lock. It is free when our workers have no copy left either."""
        if self._pid_file is not None:
            self._pid_file.close()
            self._pid_file = None

    def open(self) -> None:
        """Open the file again, to take the lock later.

        Raises PidFileError.

        Raises PidFileError.
        """
        self._pid_file = PidFile.through(self._inode, self.name)

    def write_pid(self) -> None:
        """Write our pid to the file."""
        assert self._pid_file is not None
        try:
            self._pid_file.write_pid(os.getpid())
        except PidFileError as error:
            _log.error("%s The service runs nevertheless", error)  # the lock is what counts

    def forget_pid(self) -> None:
        """Remove our pid from the file, if it is there."""
        if self._pid_file is not None:
            self._pid_file.forget_pid()

    def become_workers(self, *, keep: bool) -> None:
        """In a freshly forked worker: keep a copy of the lock, or close it with `keep` False.

        With copies, the lock is free only when the last worker that could serve is gone. In overlap there are none,
        because the next generation serves beside this one.
        """
        os.close(self._inode)
        if self._pid_file is None:
            return
        if keep:
            _keep_from_children(self._pid_file)
        else:
            self._pid_file.close()


def _keep_from_children(pid_file: PidFile) -> None:
    """In a worker: close the lock in each child that it forks. (The descriptor is close-on-exec, too.)"""
    copies = [pid_file]

    def close_copy() -> None:
        while copies:
            copies.pop().close()

    os.register_at_fork(after_in_child=close_copy)
