"""The pid file. Its flock(2) is the right to serve.

A flock belongs to an open file description. Each generation has its own description of the same inode, and its workers
share it by fork. So the kernel frees the lock when the last process that could serve is gone. Hence:

* A generation releases the lock by closing the file, never by LOCK_UN, which would free it for every copy.
* The next generation reaches the inode through /proc/self/fd/N of an O_PATH descriptor. That descriptor holds no lock,
  and also finds a file that was unlinked, and the file without a name of `--no-pid-file`.
* The file is written in place, never renamed, and only the holder of the lock unlinks it.
"""

import fcntl
import stat
from typing import Self

from ..errors import PidFileError
from ..input.checked import MOST_PID, decimal
from . import files
from .unpatched import os

_MOST_BYTES = 32
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class PidFile:
    """An open file description of the pid file. It starts without the lock."""

    def __init__(self, fd: int, name: str, *, is_new: bool = False) -> None:
        self._fd = fd
        self.name = name
        self._is_new = is_new  # we made it, so no other process writes to it

    @classmethod
    def at(cls, path: str) -> Self:
        """Open or create the file at a path; a symlink in its last part is not followed. files.py checks the other
        parts.

        Raises PidFileError.
        """
        try:
            directory = files.open_directory(os.path.dirname(path))
            try:
                fd, is_new = _open(os.path.basename(path), directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise _cannot("open", path, error.strerror) from error
        found = os.fstat(fd)
        # /dev/null would be locked for every process, and given to --user. So would a file that --user has linked here.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(fd)
            raise _cannot("open", path, "it is not a regular file with one name")
        # A file renamed to this path must not be used either: --user could read it after the chown.
        if found.st_size > _MOST_BYTES or not set(os.pread(fd, _MOST_BYTES, 0)) <= set(b"0123456789\n"):
            os.close(fd)
            raise _cannot("use", path, "it contains something other than a pid")
        return cls(fd, path, is_new=is_new)

    @classmethod
    def nameless(cls) -> Self:
        """Return a lock that no second start can find, for --no-pid-file. A reload hands it over."""
        return cls(os.memfd_create("sdsupervise-lock", os.MFD_CLOEXEC), "")

    @classmethod
    def through(cls, path_fd: int, name: str) -> Self:
        """Return a new description of the inode behind another generation's `path_fd()`.

        Raises PidFileError.
        """
        try:
            return cls(os.open(f"/proc/self/fd/{path_fd}", os.O_RDWR | os.O_CLOEXEC), name)
        except OSError as error:
            hint = "; to change the user, restart the service" if isinstance(error, PermissionError) else ""
            raise PidFileError(f"Cannot reopen the pid file {name or '(none)'}: {error.strerror}{hint}.") from error

    def path_fd(self) -> int:
        """Return a new O_PATH descriptor of the inode. The caller owns it."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_PATH | os.O_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor, for children that must share the description."""
        return self._fd

    def try_lock(self) -> bool:
        """Take the lock if it is free; return whether this process has it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def still_named(self) -> bool:
        """Return whether the name still leads to this inode: the file was not replaced between our open and our
        lock."""
        if not self.name:
            return True
        try:
            found, ours = os.stat(self.name, follow_symlinks=False), os.fstat(self._fd)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)

    def read_pid(self) -> int | None:
        """Return the pid in the file, or None if there is none."""
        text = os.pread(self._fd, _MOST_BYTES, 0).strip()
        return decimal(text.decode("latin-1"), MOST_PID)

    def write_pid(self, pid: int) -> None:
        """Write the pid in place. A reader at that moment sees the new pid, at worst with more lines below it.

        Raises PidFileError.
        """
        try:
            os.pwrite(self._fd, b"%d\n" % pid, 0)
            os.ftruncate(self._fd, len(b"%d\n" % pid))
        except OSError as error:
            raise _cannot("write", self.name, error.strerror) from error

    def forget_pid(self) -> None:
        """Before the exit, remove the pid, which may soon belong to another process."""
        os.ftruncate(self._fd, 0)

    def owner(self) -> int:
        """Return the uid of the file's owner, who may have written the pid in it."""
        return os.fstat(self._fd).st_uid

    def restrict_to_owner(self) -> None:
        """Allow only the owner to open the file.

        flock(2) needs no right to write. So a user who may read the file could take the lock between two generations,
        and no generation would serve. Raises PidFileError.
        """
        try:
            if os.fstat(self._fd).st_mode & 0o077:
                os.fchmod(self._fd, 0o600)
        except OSError as error:
            raise _cannot("protect", self.name, error.strerror) from error

    def give_to(self, uid: int, gid: int) -> None:
        """Give the file to the unprivileged user, so that later generations can open it. We hold the lock.

        A file that existed before may still be written by another process, and may have been renamed. So, unless it
        belongs to this user already, a new file replaces it. Raises PidFileError.
        """
        if not self._is_new and self.name and self.owner() != uid:
            self._replace_file()
        os.fchown(self._fd, uid, gid)

    def _replace_file(self) -> None:
        """Replace the file by a new one with the same name, and lock it. Processes with the old file open notice by
        still_named()."""
        name = os.path.basename(self.name)
        try:
            directory = files.open_directory(os.path.dirname(self.name))
            try:
                if os.path.samestat(os.stat(name, dir_fd=directory, follow_symlinks=False), os.fstat(self._fd)):
                    os.unlink(name, dir_fd=directory)
                fd = os.open(name, _FLAGS | os.O_EXCL, 0o600, dir_fd=directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise _cannot("replace", self.name, error.strerror) from error
        os.close(self._fd)
        self._fd, self._is_new = fd, True
        if not self.try_lock():
            raise _cannot("lock", self.name, "another process has locked it first")

    def close(self) -> None:
        """Close our descriptor. The lock is freed with the last copy."""
        os.close(self._fd)


def _open(name: str, directory: int) -> tuple[int, bool]:
    """Open a file in a directory; return its descriptor, and whether this call created it."""
    try:
        return os.open(name, _FLAGS | os.O_EXCL, 0o600, dir_fd=directory), True
    except FileExistsError:
        return os.open(name, _FLAGS, 0o600, dir_fd=directory), False


def _cannot(do: str, path: str, why: str | None) -> PidFileError:
    return PidFileError(
        f"Cannot {do} the pid file {path}: {why}; choose another with --pid-file, or use --no-pid-file."
    )
