"""Files and directories where other users may write: nothing that they put there can redirect us.

A path is resolved once, part by part. All later steps use the descriptor of the directory that was found. Root follows
a symlink on the path only if root owns it. (Here the owner of "/" counts as root too: in a user namespace that does not
map the real root, its files have the overflow uid; user_namespaces(7).)
"""

import contextlib
import errno
import stat
from collections.abc import Collection

from ..errors import NotReadable
from .unpatched import os

_MOST_LINKS = 40  # as the kernel has it, path_resolution(7)
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: str, *, only_ours: bool = False) -> int:
    """Return a descriptor of a directory, to be used as a dir_fd; "" is the current one. The caller owns it.

    Raises OSError: ELOOP for a symlink on the path that root must not follow; with only_ours EPERM for a directory on
    the path in which other users can replace our files.
    """
    parts = path.split("/")[::-1]
    here, links = _open_path("/" if path.startswith("/") else "."), 0
    try:
        while parts:
            if only_ours:
                _check_only_ours(os.fstat(here))
            there = _open_path(parts.pop() or ".", here)
            if stat.S_ISLNK(os.fstat(there).st_mode):
                links += 1
                target = _target(there, links)
                parts += target.split("/")[::-1]
                there = _open_path("/" if target.startswith("/") else ".", here)
            os.close(here)
            here = there
        if not stat.S_ISDIR(os.fstat(here).st_mode):
            raise _error(errno.ENOTDIR)
        if only_ours:
            _check_only_ours(os.fstat(here))
    except BaseException:
        os.close(here)
        raise
    return here


def make_directory(path: str, mode: int, *, owners: Collection[int]) -> int:
    """Return a descriptor of a directory, which is created if it does not exist. The caller owns it.

    `mode` does not depend on the umask. Raises OSError: EPERM if the directory belongs to none of the uids `owners`,
    ENOTDIR for what is no directory.
    """
    above, name = open_directory(os.path.dirname(path)), os.path.basename(path)
    try:
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            made = False
        else:
            made = True
        directory = os.open(name, os.O_RDONLY | _DIRECTORY, dir_fd=above)
    finally:
        os.close(above)
    owner = os.fstat(directory).st_uid
    if owner not in owners:
        os.close(directory)
        raise _error(errno.EPERM, f"{path} is there and belongs to uid {owner}")
    if made:
        os.fchmod(directory, mode)
    return directory


def replace(directory: int, name: str, data: bytes, mode: int, *, durable: bool) -> None:
    """Replace the content of a file in a directory, in one step.

    A reader sees the old content or the new one, never a part. A symlink is replaced, not followed. The mode is reduced
    by the umask, as in open(2). With `durable`, the file survives a power failure as a whole. Raises OSError: EEXIST
    for what is no regular file.
    """
    try:
        there = stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
        if there not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):  # for a directory, rename(2) raises the right error
            raise _error(errno.EEXIST, "something is there that is not a regular file")
    except FileNotFoundError:
        pass
    new = f".sdsupervise.{os.urandom(8).hex()}"  # a name that no reader of *.prom or *.conf matches
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory)
    try:
        with open(file, "wb") as output:
            output.write(data)
            output.flush()
            if durable:
                os.fsync(file)
        os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=directory)
        raise


def read(directory: int, name: str, *, at_most: int) -> bytes:
    """Return the content of a file in a directory, at most `at_most` bytes.

    Raises OSError: ELOOP for a symlink, EEXIST for what is no regular file.
    """
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(file, "rb") as content:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _error(errno.EEXIST, "something is there that is not a regular file")
        return content.read(at_most)


def read_regular(path: str, most_bytes: int) -> bytes:
    """Return the whole content of a regular file.

    Raises NotReadable, whose text is the end of a sentence: for what is no regular file (opening a FIFO would block for
    ever, opening a device may do anything), for more than `most_bytes` bytes, and for a file that we may not read.
    """
    return read_owned(path, most_bytes)[0]


def read_owned(path: str, most_bytes: int, *, directory: int | None = None, follow: bool = True) -> tuple[bytes, int]:
    """Return the whole content of a regular file, and the uid of its owner: of this very file, not of what has its name
    later.

    `directory` is what the path is relative to. Without `follow` the last part of the path must not be a symlink.
    Raises NotReadable; see read_regular.
    """
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW), dir_fd=directory)
        try:
            its = os.fstat(place)
            if not stat.S_ISREG(its.st_mode):
                raise NotReadable("it is not a regular file")
            with open(f"/proc/self/fd/{place}", "rb") as file:
                data = file.read(most_bytes + 1)
        finally:
            os.close(place)
    except OSError as error:
        raise NotReadable(str(error.strerror)) from error
    except ValueError:
        raise NotReadable("its name has a NUL character") from None
    if len(data) > most_bytes:
        raise NotReadable(f"it has more than {most_bytes} bytes")
    return data, its.st_uid


def remove(path: str) -> None:
    """Remove a name from its directory. Raises OSError."""
    directory = open_directory(os.path.dirname(path))
    try:
        os.unlink(os.path.basename(path), dir_fd=directory)
    finally:
        os.close(directory)


def _open_path(name: str, directory: int | None = None) -> int:
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def _target(link: int, links: int) -> str:
    try:
        owner = os.fstat(link).st_uid
        if os.geteuid() == 0 and owner not in _roots():
            raise _error(errno.ELOOP, f"uid {owner} has made a symlink on the way, which root does not follow")
        if links > _MOST_LINKS:
            raise _error(errno.ELOOP)
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _check_only_ours(found: os.stat_result) -> None:
    others_may_write = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
    if found.st_uid not in (*_roots(), os.geteuid()) or others_may_write:
        raise _error(errno.EPERM, "others can write to a directory on the way")


def _roots() -> tuple[int, int]:
    return 0, os.stat("/").st_uid


def _error(number: int, text: str = "") -> OSError:
    return OSError(number, text or os.strerror(number))
