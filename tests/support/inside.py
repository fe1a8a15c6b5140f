"""A machine's file system and processes, seen from outside without entering it.

Plain paths below /proc/PID/root would follow the machine's absolute symbolic links (/var/run, /etc/mtab) into
*our* root. openat2() with RESOLVE_IN_ROOT resolves them as the machine does.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SYS_OPENAT2 = 437  # the same on every architecture
RESOLVE_IN_ROOT = 0x10

libc = ctypes.CDLL(None, use_errno=True)


class OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path whose `/` is the directory `root`; the descriptor is close-on-exec."""
    how = OpenHow(flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT)
    while True:
        descriptor: int = libc.syscall(SYS_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        # EAGAIN: something was renamed or mounted in the middle of a "..", so that the kernel will not answer for where
        # it led; openat2(2) has the caller ask again.
        if descriptor >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    return descriptor


class Process(NamedTuple):
    """One process, numbered as the machine numbers it."""

    pid: int
    ppid: int
    state: str
    """As in proc(5): R, S, D, Z (dead, but not yet reaped), …"""
    cmdline: list[str]
    cgroup: str
    """Below the machine's own root cgroup: /system.slice/x.service; /../visitors for what `Machine.run`
    started."""

    @property
    def unit(self) -> str:
        """The unit whose cgroup this is; empty for a visitor."""
        units = [part for part in self.cgroup.split("/") if part.endswith((".service", ".scope"))]
        return units[0] if units else ""


class Inside:
    """The files and processes of a machine, by way of its PID 1."""

    def __init__(self, leader: int) -> None:
        self.pid_namespace = os.readlink(f"/proc/{leader}/ns/pid")
        self.payload_cgroup = cgroup_path(leader).removesuffix("/init.scope")
        self.root = os.open(f"/proc/{leader}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.root)

    @contextlib.contextmanager
    def directory(self, path: str, *, create: bool = False) -> Iterator[int]:
        """A descriptor of this directory, made with its parents if need be."""
        flags = os.O_RDONLY | os.O_DIRECTORY
        try:
            descriptor = openat2(self.root, path, flags)
        except FileNotFoundError:
            if not create:
                raise
            parent, name = os.path.split(path.rstrip("/"))
            with self.directory(parent, create=True) as above:
                os.mkdir(name, dir_fd=above)
            descriptor = openat2(self.root, path, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def read(self, path: str) -> bytes:
        with open(openat2(self.root, path, os.O_RDONLY), "rb") as file:
            return file.read()

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Replace the file in one step: a reader sees the old content or the new, never half of it."""
        parent, name = os.path.split(path)
        with self.directory(parent, create=True) as above:
            temporary = f".{name}.new"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode, dir_fd=above)
            with open(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)  # whatever our umask is
            os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)

    def symlink(self, target: str, path: str) -> None:
        """Make the link, or point the one that is there elsewhere in one step, as a deployment does."""
        parent, name = os.path.split(path)
        with self.directory(parent, create=True) as above:
            temporary = f".{name}.new"
            os.symlink(target, temporary, dir_fd=above)
            os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)

    def readlink(self, path: str) -> str:
        """Where a link points; also /proc/PID/cwd and the like."""
        parent, name = os.path.split(path)
        with self.directory(parent) as above:
            return os.readlink(name, dir_fd=above)

    def exists(self, path: str) -> bool:
        try:
            os.close(openat2(self.root, path, os.O_PATH))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a directory with all that is in it."""
        parent, name = os.path.split(path.rstrip("/"))
        with self.directory(parent) as above:
            if stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                shutil.rmtree(name, dir_fd=above)
            else:
                os.unlink(name, dir_fd=above)

    def processes(self) -> Iterator[Process]:
        """Every process of the machine; those that end while we look are left out."""
        with self.directory("/proc") as proc:
            for name in os.listdir(proc):
                if name.isdigit():
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                        yield read_process(proc, int(name), self.payload_cgroup)

    def send_signal(self, pid: int, number: signal.Signals) -> None:
        with self.directory(f"/proc/{pid}") as process:
            # The kernel takes a directory of /proc for a pidfd here.
            signal.pidfd_send_signal(process, number)

    def open_pidfd(self, pid: int) -> int | None:
        """A pidfd of the process that the machine numbers so; None when it has ended."""
        for host_pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            # Not permitted: a process of the host that is kept even from root, so none of ours.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if os.readlink(f"/proc/{host_pid}/ns/pid") != self.pid_namespace:
                    continue
                pidfd = os.pidfd_open(host_pid)
                # Looked at after opening: a number that was reused in between does not deceive us.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if innermost_pid(host_pid) == pid:
                        return pidfd
                os.close(pidfd)
        return None


def cgroup_path(pid: int) -> str:
    """Where in the unified hierarchy this process of ours is."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line.removeprefix("0::") for line in lines if line.startswith("0::"))


def innermost_pid(host_pid: int) -> int:
    """How the innermost pid namespace of this process numbers it."""
    status = Path(f"/proc/{host_pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])


def read_process(proc: int, pid: int, payload_cgroup: str) -> Process:
    # The name in the second field may itself contain spaces and parentheses.
    state, ppid, *_ = read_at(proc, f"{pid}/stat").rpartition(")")[2].split()
    cmdline = read_at(proc, f"{pid}/cmdline").split("\0")[:-1]
    unified = next(line for line in read_at(proc, f"{pid}/cgroup").splitlines() if line.startswith("0::"))
    cgroup = "/" + os.path.relpath(unified[3:].removesuffix(" (deleted)"), payload_cgroup)
    return Process(pid, int(ppid), state, cmdline, cgroup)


def read_at(directory: int, path: str) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), "rb") as file:
        return file.read().decode(errors="surrogateescape")
