"""The lock, the right to serve, as one generation has it or waits for it; see linux/pid_file.py."""

import logging
import os

from ..errors import PidFileError
from ..linux.pid_file import PidFile

_log = logging.getLogger("sdsupervise")


class Lock:
    """The flock on the pid file. It is given up by closing, and asked for anew through a fresh description."""

    def __init__(self, pid_file: PidFile) -> None:
        self.name = pid_file.name  # "" for the nameless one
        self._pid_file: PidFile | None = pid_file
        self._inode = pid_file.path_fd()

    def path_fd(self) -> int:
        """The O_PATH descriptor by which a successor finds the inode; it stays ours."""
        return self._inode

    def fileno(self) -> int | None:
        """The descriptor that holds it, or is to; None while it is given up."""
        return self._pid_file.fileno() if self._pid_file is not None else None

    def try_take(self) -> bool:
        """Take it if it is free."""
        return self._pid_file is not None and self._pid_file.try_lock()

    def close(self) -> None:
        """Give it up, or the wish for it; it is free when our workers have no copy left either."""
        if self._pid_file is not None:
            self._pid_file.close()
            self._pid_file = None

    def open(self) -> None:
        """Be ready to take it again.

        Raises PidFileError.
        """
        self._pid_file = PidFile.through(self._inode, self.name)

    def write_pid(self) -> None:
        """Name us in the file, whoever reads it."""
        assert self._pid_file is not None
        try:
            self._pid_file.write_pid(os.getpid())
        except PidFileError as error:
            _log.error("%s The service runs nevertheless", error)  # the lock is what counts

    def forget_pid(self) -> None:
        """On leaving, if it is ours: name nobody."""
        if self._pid_file is not None:
            self._pid_file.forget_pid()

    def become_workers(self, *, keep: bool) -> None:
        """In a freshly forked worker: keep a copy, so that it is free when the last one that could serve is gone; or
        not, where the next generation is to serve beside this one."""
        os.close(self._inode)
        if self._pid_file is None:
            return
        if keep:
            _keep_from_children(self._pid_file)
        else:
            self._pid_file.close()


def _keep_from_children(pid_file: PidFile) -> None:
    """In a worker: what *it* forks must not hold the lock (what it executes does not: the descriptor is
    close-on-exec)."""
    copies = [pid_file]

    def close_copy() -> None:
        while copies:
            copies.pop().close()

    os.register_at_fork(after_in_child=close_copy)
