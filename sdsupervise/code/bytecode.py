"""Compiled files (.pyc) of a service's own code, used only if they are proved to belong to the source on disk.

Python itself accepts a compiled file that names the source's size and the second of its last change. Two releases can
agree in both, if `touch -d`, an archive with fixed times or `rsync --times` sets the times. Then a reload runs the old
code. So:

    by hash    (PEP 552) used if the hash is that of the source; the only kind that we write
    by time    used only if we cannot write a better one, or if an installer wrote it; and only if it was written after
               the last change of the source's inode, which is the kernel's time. This is wrong only if an
               administrator set the clock back between the two
    otherwise  the source is compiled, and a file by hash is written if we may

A process ignores a compiled file that another user may write, unless that user may also write the source. Root
writes only into directories that no other user can rename or replace.
"""

import contextlib
import functools
import marshal
import stat
import sys
import time
from importlib.util import MAGIC_NUMBER, source_hash
from types import CodeType
from typing import NamedTuple

from ..linux.unpatched import os

HEADER_BYTES = 16
_TIME_START, _UNCHECKED_START, _HASH_START = (MAGIC_NUMBER + bytes((flags, 0, 0, 0)) for flags in (0, 1, 3))
_OVERFLOW_UID = 65534  # the owner, in a user namespace, of each file whose owner has no uid there
_INSTALLED = ("/site-packages/", "/dist-packages/")


class SourceFile(NamedTuple):
    """A source file as it was read."""

    path: str
    facts: os.stat_result
    time_header: bytes  # the header of a compiled file by time, as Python writes it
    hash_header: bytes  # the header of one by hash; with this flag, Python compares the hash at each load

    def is_named_by_hash(self, header: bytes) -> bool:
        """Return whether this header names the source by its hash, whether or not Python compares the hash."""
        return header == self.hash_header or header == _UNCHECKED_START + self.hash_header[8:]


def read_source(path: str) -> tuple[SourceFile, bytes]:
    """Read a source file; return its description and its content. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        facts = os.fstat(fd)
        content = os.read(fd, facts.st_size + 1)
        while more := os.read(fd, 2**20):  # only if it grows while it is read
            content += more
    finally:
        os.close(fd)
    modified, size = int(facts.st_mtime) & 0xFFFFFFFF, facts.st_size & 0xFFFFFFFF
    by_time = _TIME_START + modified.to_bytes(4, "little") + size.to_bytes(4, "little")
    return SourceFile(path, facts, by_time, _HASH_START + source_hash(content)), content


def read(path: str, source: SourceFile) -> bytearray:
    """Return the compiled file at this path, with a header by time, which Python accepts without another proof.

    Raises OSError if there is no file that is proved to belong to this source.
    """
    # Another user may own the directory, and put a FIFO there at which open() would block.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        facts = os.fstat(fd)
        if not _is_of_the_trusted(facts, source.facts):
            raise PermissionError(f"{path} may be written by others than its source")
        data = bytearray(facts.st_size)
        is_whole = os.readv(fd, [data]) == facts.st_size
    finally:
        os.close(fd)
    header = bytes(data[:HEADER_BYTES])
    is_of_it = source.is_named_by_hash(header) or (header == source.time_header and is_newer(facts, path, source))
    if not is_whole or not is_of_it:
        raise FileNotFoundError(f"{path} is not known to be of its source")
    data[:HEADER_BYTES] = source.time_header
    return data


def write(path: str, body: bytes, source: SourceFile) -> None:
    """Write the compiled file of a source, by hash; do nothing if we may not."""
    directory = os.path.dirname(path)
    if not may_write_in(directory):
        return
    fresh = f"{path}.{os.getpid()}"
    mode = source.facts.st_mode & 0o444 | stat.S_IWUSR  # who may not read the source must not read this either
    with contextlib.suppress(OSError):
        os.makedirs(directory, exist_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(source.hash_header + body)
        os.replace(fresh, path)
        return
    with contextlib.suppress(OSError):
        os.unlink(fresh)  # for example the disk is full


def used_by_python(path: str, source: SourceFile) -> tuple[bool, CodeType | None]:
    """After Python has loaded the source's module, judge the compiled file at this path.

    Returns whether the file proves that this source was loaded, and, if Python used it without a proof, the code in it.
    """
    try:
        with open(path, "rb") as file:
            data, facts = file.read(), os.fstat(file.fileno())
    except OSError:
        return False, None
    header = data[:HEADER_BYTES]
    by_time = header == source.time_header
    if source.is_named_by_hash(header) or (by_time and is_newer(facts, path, source)):
        return True, None
    code = marshal.loads(data[HEADER_BYTES:]) if by_time or header[:8] == _UNCHECKED_START else None
    return False, code if isinstance(code, CodeType) else None


def remove(path: str) -> bool:
    """Remove a compiled file; return False if we may not."""
    try:
        if _may_change(os.path.dirname(path), os.geteuid()):
            os.unlink(path)
    except FileNotFoundError:
        return True
    return not os.path.lexists(path)


def is_newer(facts: os.stat_result, path: str, source: SourceFile) -> bool:
    """Return whether this compiled file by time is newer than the last change of its source, and we can write no better
    one."""
    if may_write_in(os.path.dirname(path)) and not any(part in source.path for part in _INSTALLED):
        return False
    # On another file system the clock differs; in another tree the file may belong to an earlier file at the source's
    # path.
    beside = facts.st_dev == source.facts.st_dev and not sys.pycache_prefix
    written = min(facts.st_mtime_ns, facts.st_ctime_ns)
    return beside and source.facts.st_ctime_ns < written <= time.time_ns()


def may_write_in(directory: str) -> bool:
    """Return whether we may write compiled files there, and no user with fewer rights can redirect the write."""
    return not sys.dont_write_bytecode and _may_change(directory, os.geteuid())


@functools.cache  # hundreds of files are in a few directories
def _may_change(directory: str, uid: int) -> bool:
    there = directory
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    if not os.access(there, os.W_OK):
        return False
    if uid != 0:
        return True
    if os.path.realpath(there) != there:
        return False
    while True:
        facts = os.stat(there)
        others_may = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX
        if facts.st_uid != 0 or others_may:
            return False
        if there == os.path.dirname(there):
            return True
        there = os.path.dirname(there)


def _is_of_the_trusted(compiled: os.stat_result, source: os.stat_result) -> bool:
    """Return whether all who may write the compiled file are this user, root, or may write the source too."""
    uid, mode = compiled.st_uid, compiled.st_mode
    is_overflow_user = uid == _OVERFLOW_UID != os.geteuid()
    if not stat.S_ISREG(mode) or is_overflow_user or uid not in (0, os.geteuid(), source.st_uid):
        return False
    group_may_not = not mode & stat.S_IWGRP or (source.st_mode & stat.S_IWGRP and source.st_gid == compiled.st_gid)
    return bool(group_may_not) and not mode & stat.S_IWOTH & ~source.st_mode
