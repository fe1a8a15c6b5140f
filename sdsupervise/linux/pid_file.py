"""The pid file, whose flock is the right to serve.

A flock belongs to an open file description. Each generation has one of its own on the same inode, shared with its
workers by fork, so the kernel frees the lock when the last process that could serve is gone. Hence:
* it is given up by closing, never by LOCK_UN, which would free it for every copy;
* the other generation reaches the inode through /proc/self/fd/N of an O_PATH descriptor, which holds no lock itself
  and also finds a file that somebody unlinked, and the nameless one of `--no-pid-file`;
* it is written in place and never renamed, and unlinked only by who holds it.
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
    """An open file description on the pid file. It starts without the lock."""

    def __init__(self, fd: int, name: str, *, is_new: bool = False) -> None:
        self._fd = fd
        self.name = name
        self._is_new = is_new  # made by us, so that nobody else writes to it

    @classmethod
    def at(cls, path: str) -> Self:
        """Open or create the file at a path, never through a symlink in its last part; files.py has the others.

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
        # /dev/null would be locked for everybody, and given to --user; as would be a file that --user has linked there.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(fd)
            raise _cannot("open", path, "it is no regular file with one name")
        # Nor is what somebody has renamed to it, who could read it when it has been given to --user.
        if found.st_size > _MOST_BYTES or not set(os.pread(fd, _MOST_BYTES, 0)) <= set(b"0123456789\n"):
            os.close(fd)
            raise _cannot("use", path, "it holds something else than a pid")
        return cls(fd, path, is_new=is_new)

    @classmethod
    def nameless(cls) -> Self:
        """A lock that no second start can find, for --no-pid-file; a reload hands it on."""
        return cls(os.memfd_create("sdsupervise-lock", os.MFD_CLOEXEC), "")

    @classmethod
    def through(cls, path_fd: int, name: str) -> Self:
        """A fresh description on the inode behind another generation's `path_fd()`.

        Raises PidFileError.
        """
        try:
            return cls(os.open(f"/proc/self/fd/{path_fd}", os.O_RDWR | os.O_CLOEXEC), name)
        except OSError as error:
            hint = "; a change of user takes a restart" if isinstance(error, PermissionError) else ""
            raise PidFileError(f"Cannot reopen the pid file {name or '(none)'}: {error.strerror}{hint}.") from error

    def path_fd(self) -> int:
        """A new O_PATH descriptor on the inode; the caller owns it."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_PATH | os.O_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor, for children that must share the description."""
        return self._fd

    def try_lock(self) -> bool:
        """Take the lock if it is free."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def still_named(self) -> bool:
        """The name still leads to this inode: nobody replaced the file between our open and our lock."""
        if not self.name:
            return True
        try:
            found, ours = os.stat(self.name, follow_symlinks=False), os.fstat(self._fd)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)

    def read_pid(self) -> int | None:
        """The pid its holder wrote; None if there is none."""
        text = os.pread(self._fd, _MOST_BYTES, 0).strip()
        return decimal(text.decode("latin-1"), MOST_PID)

    def write_pid(self, pid: int) -> None:
        """Write the pid in place; a reader in between sees the new one, at worst with more lines below.

        Raises PidFileError.
        """
        try:
            os.pwrite(self._fd, b"%d\n" % pid, 0)
            os.ftruncate(self._fd, len(b"%d\n" % pid))
        except OSError as error:
            raise _cannot("write", self.name, error.strerror) from error

    def forget_pid(self) -> None:
        """On leaving: a number that may soon be somebody else's stands there no more."""
        os.ftruncate(self._fd, 0)

    def owner(self) -> int:
        """The uid whose file it is: who may have written the pid in it."""
        return os.fstat(self._fd).st_uid

    def keep_to_owner(self) -> None:
        """Let nobody else open it: flock(2) asks for no right to write, so whoever may read it could take the lock in
        the moment in which one generation hands it to the next, and nobody would serve."""
        try:
            if os.fstat(self._fd).st_mode & 0o077:
                os.fchmod(self._fd, 0o600)
        except OSError as error:
            raise _cannot("protect", self.name, error.strerror) from error

    def give_to(self, uid: int, gid: int) -> None:
        """chown it, so that the unprivileged generations can open it. We have the lock.

        A file that was there before may be one that somebody still writes, and that has been renamed: unless it is this
        user's already, a new one takes its place. Raises PidFileError.
        """
        if not self._is_new and self.name and self.owner() != uid:
            self._make_anew()
        os.fchown(self._fd, uid, gid)

    def _make_anew(self) -> None:
        """Whoever has opened the old file finds it unlocked from here on, and no longer by its name: still_named()."""
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
        """Close our descriptor; the lock goes with the last copy."""
        os.close(self._fd)


def _open(name: str, directory: int) -> tuple[int, bool]:
    """A file in a directory, and whether it was made by this."""
    try:
        return os.open(name, _FLAGS | os.O_EXCL, 0o600, dir_fd=directory), True
    except FileExistsError:
        return os.open(name, _FLAGS, 0o600, dir_fd=directory), False


def _cannot(do: str, path: str, why: str | None) -> PidFileError:
    return PidFileError(
        f"Cannot {do} the pid file {path}: {why}; name another with --pid-file or go without by --no-pid-file."
    )
