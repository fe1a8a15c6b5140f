"""Compiled files (.pyc) of a service's own code, used only where it is proven that they are of the source on disk.

Python itself uses one that names the source's size and the second of its last change. Two releases have both in common
where `touch -d`, an archive with fixed times or `rsync --times` sets the times: then a reload runs the old code. So:

    by hash    (PEP 552) used if the hash is that of the source; the only ones that we write
    by time    used only where we cannot write a better one, or where an installer wrote it; and only if it was written
               after the source's inode last changed, which only the kernel's clock says: a clock that was set back
               between the two, by an administrator, is the one way left to be wrong
    otherwise  the source is compiled, and a file by hash is written where we may

A process never uses a file that somebody may write who may write neither the source nor this process's own files. Root
writes only into directories that nobody else can rename or replace.
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
_OVERFLOW_UID = 65534  # in a user namespace: of everybody who has no uid there
_INSTALLED = ("/site-packages/", "/dist-packages/")


class SourceFile(NamedTuple):
    """A source file, as it was read."""

    path: str
    facts: os.stat_result
    time_header: bytes  # what Python writes at the beginning of a compiled file by time
    hash_header: bytes  # and of one by hash; Python, too, compares the hash whenever it loads one with this flag

    def is_named_by_hash(self, header: bytes) -> bool:
        """What begins like this is of this source, whether or not Python would compare the hash."""
        return header == self.hash_header or header == _UNCHECKED_START + self.hash_header[8:]


def read_source(path: str) -> tuple[SourceFile, bytes]:
    """A source file and its content; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        facts = os.fstat(fd)
        content = os.read(fd, facts.st_size + 1)
        while more := os.read(fd, 2**20):  # only where it grows just now
            content += more
    finally:
        os.close(fd)
    modified, size = int(facts.st_mtime) & 0xFFFFFFFF, facts.st_size & 0xFFFFFFFF
    by_time = _TIME_START + modified.to_bytes(4, "little") + size.to_bytes(4, "little")
    return SourceFile(path, facts, by_time, _HASH_START + source_hash(content)), content


def read(path: str, source: SourceFile) -> bytearray:
    """The compiled file at this path, as if it were by time, which Python need not prove again.

    Raises OSError where there is none that is proven to be of this source.
    """
    # The directory can be somebody else's, who puts something there that we would wait for.
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
    is_of_it = source.is_named_by_hash(header) or (header == source.time_header and is_later(facts, path, source))
    if not is_whole or not is_of_it:
        raise FileNotFoundError(f"{path} is not known to be of its source")
    data[:HEADER_BYTES] = source.time_header
    return data


def write(path: str, body: bytes, source: SourceFile) -> None:
    """Write the compiled file of a source by hash, or leave it where we may not."""
    directory = os.path.dirname(path)
    if not may_write_in(directory):
        return
    fresh = f"{path}.{os.getpid()}"
    mode = source.facts.st_mode & 0o444 | stat.S_IWUSR  # whoever may not read the source, may not read this
    with contextlib.suppress(OSError):
        os.makedirs(directory, exist_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(source.hash_header + body)
        os.replace(fresh, path)
        return
    with contextlib.suppress(OSError):
        os.unlink(fresh)  # the disk is full, say


def taken_by_python(path: str, source: SourceFile) -> tuple[bool, CodeType | None]:
    """Of a compiled file, when Python has loaded the source's module: whether it proves that what was loaded is of this
    source; and else, what it holds if Python took it without a proof."""
    try:
        with open(path, "rb") as file:
            data, facts = file.read(), os.fstat(file.fileno())
    except OSError:
        return False, None
    header = data[:HEADER_BYTES]
    by_time = header == source.time_header
    if source.is_named_by_hash(header) or (by_time and is_later(facts, path, source)):
        return True, None
    code = marshal.loads(data[HEADER_BYTES:]) if by_time or header[:8] == _UNCHECKED_START else None
    return False, code if isinstance(code, CodeType) else None


def remove(path: str) -> bool:
    """Remove a compiled file; False where we may not."""
    try:
        if _may_change(os.path.dirname(path), os.geteuid()):
            os.unlink(path)
    except FileNotFoundError:
        return True
    return not os.path.lexists(path)


def is_later(facts: os.stat_result, path: str, source: SourceFile) -> bool:
    """This compiled file by time was written after its source was last changed, and no better one can be had."""
    if may_write_in(os.path.dirname(path)) and not any(part in source.path for part in _INSTALLED):
        return False
    # Elsewhere the clock is another one, or the file is of whatever had the source's path then.
    beside = facts.st_dev == source.facts.st_dev and not sys.pycache_prefix
    written = min(facts.st_mtime_ns, facts.st_ctime_ns)
    return beside and source.facts.st_ctime_ns < written <= time.time_ns()


def may_write_in(directory: str) -> bool:
    """We may write compiled files there, and nobody who has fewer rights can lead us elsewhere by it."""
    return not sys.dont_write_bytecode and _may_change(directory, os.geteuid())


@functools.cache  # hundreds of files lie in a few directories
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
    """Whoever may write the compiled file could as well write the source, or is we or root."""
    uid, mode = compiled.st_uid, compiled.st_mode
    nobody_in_particular = uid == _OVERFLOW_UID != os.geteuid()
    if not stat.S_ISREG(mode) or nobody_in_particular or uid not in (0, os.geteuid(), source.st_uid):
        return False
    group_may_not = not mode & stat.S_IWGRP or (source.st_mode & stat.S_IWGRP and source.st_gid == compiled.st_gid)
    return bool(group_may_not) and not mode & stat.S_IWOTH & ~source.st_mode
