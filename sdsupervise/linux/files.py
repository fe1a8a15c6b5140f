"""Files and directories in places where others may write: whatever they plant there cannot lead us elsewhere.

A path is walked once, part by part; what is done then is done in the directory that was found, by its descriptor. Root
follows a symlink on the way only if root has made it. (Root is whoever owns "/", too: in a user namespace that does not
map the real one, what is root's has the uid of everybody unknown.)
"""

import contextlib
import errno
import stat
from collections.abc import Collection

from ..errors import NotReadable
from .unpatched import os

_MOST_LINKS = 40  # as the kernel has it
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: str, *, only_ours: bool = False) -> int:
    """A descriptor of a directory, to be used as a dir_fd; "" is the one we are in. The caller owns it.

    Raises OSError: ELOOP for a symlink on the way that root must not follow; with only_ours EPERM for a directory on
    the way in which others can replace what is ours.
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
    """A descriptor of a directory, which is made if it is not there, whatever the umask. The caller owns it.

    Raises OSError: EPERM for one that belongs to none of these uids, ENOTDIR for what is no directory.
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
    """Have this file in a directory say something else, in one step: nobody reads half of it, and a symlink there is
    replaced, not followed. The mode is as open(2) has it: less what the umask takes.

    `durable`: it is still there, and whole, after a power failure. Raises OSError: EEXIST for what is no regular file.
    """
    try:
        there = stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
        if there not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):  # of the last, rename(2) says what is wrong
            raise _error(errno.EEXIST, "there is something that is no regular file")
    except FileNotFoundError:
        pass
    new = f".sdsupervise.{os.urandom(8).hex()}"  # that nobody reads who looks for *.prom or *.conf
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
    """What a file in a directory says, up to so many bytes.

    Raises OSError: ELOOP for a symlink, EEXIST for what is no regular file.
    """
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(file, "rb") as content:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _error(errno.EEXIST, "there is something that is no regular file")
        return content.read(at_most)


def read_regular(path: str, most_bytes: int) -> bytes:
    """All that stands in a regular file.

    Raises NotReadable, whose text says why as the end of a sentence, for what is none (opening a FIFO would wait for
    ever, opening a device may do anything), for one of more bytes, and for one that we may not read.
    """
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(place).st_mode):
                raise NotReadable("it is no regular file")
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
    return data


def remove(path: str) -> None:
    """Remove a name from its directory; raises OSError."""
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
