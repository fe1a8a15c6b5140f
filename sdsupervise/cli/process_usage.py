"""The resources that running processes use, read by psutil.

psutil's `uids()` is not used: it reads the process's name first, and a process can choose the name "Uid:" with numbers.
See linux/processes.py, `uid_of`.
"""

import os
import time
from collections import defaultdict
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..linux.processes import uid_of
from .connections import connections

if TYPE_CHECKING:
    import psutil

_MOST_LOOKED_INTO = 16  # processes whose connections are counted at one time


class Usage(NamedTuple):
    """What a process and all its descendants use."""

    pids: tuple[int, ...]
    age: float  # seconds since the first of them started
    cpu_seconds: float  # of living processes and their reaped children
    resident: int  # bytes (RSS); shared memory counts fully in each process
    proportional: int | None  # bytes (PSS); None if not readable

    @property
    def processes(self) -> int:
        """The number of processes."""
        return len(self.pids)


class Processes:
    """All processes at the time of the call that the caller may see.

    The pids to look up come from a process that may name any pid, and any number of them. So each process is read once.
    With a `uid` other than root's, only processes below a process of that user are shown.
    """

    def __init__(self, *, uid: int = 0) -> None:
        self._uid = uid
        self._connections: dict[tuple[int, ...], int | None] = {}
        self._left = _MOST_LOOKED_INTO
        self._usages: dict[int, Usage | None] = {}
        self._alone: dict[int, Usage | None] = {}
        self._processes: dict[int, psutil.Process] = {}
        self._children: dict[int, list[int]] = defaultdict(list)
        for parent, process in _all():
            self._processes[process.pid] = process
            self._children[parent].append(process.pid)

    def usage(self, pid: int | None, *, apart_from: Container[object] = ()) -> Usage | None:
        """The usage of a process and its descendants, except those in `apart_from` with theirs; None if it is gone."""
        if pid is None or pid not in self._processes:
            return None
        if apart_from:
            return self._usage(pid, apart_from)
        if pid not in self._usages:
            self._usages[pid] = self._usage(pid, ())
        return self._usages[pid]

    def connections(self, usage: Usage) -> int | None:
        """The number of open connections of these processes; None if unknown, or if too many were counted before."""
        pids = usage.pids
        if pids not in self._connections:
            may = len(pids) <= self._left
            self._left -= len(pids) * may
            self._connections[pids] = connections(pids) if may else None
        return self._connections[pids]

    def _usage(self, pid: int, apart_from: Container[object]) -> Usage | None:
        if self._uid and uid_of(pid) != self._uid:
            return None
        if (first := self._of_one(pid)) is None:
            return None
        counted, waiting = dict[int, Usage | None](), [pid]
        while waiting:
            one = waiting.pop()
            counted[one] = self._of_one(one)
            # A reused pid can appear to be its own descendant.
            waiting += [child for child in self._children[one] if child not in apart_from and child not in counted]
        whole = together(counted.values())
        return whole._replace(age=first.age) if whole is not None else None

    def _of_one(self, pid: int) -> Usage | None:
        if pid not in self._alone:
            self._alone[pid] = _of_process(self._processes[pid])
        return self._alone[pid]


def together(usages: Iterable[Usage | None]) -> Usage | None:
    """The sum of several usages, with the age of the oldest; None if there is none."""
    there = [usage for usage in usages if usage is not None]
    if not there:
        return None
    shares = [usage.proportional for usage in there if usage.proportional is not None]
    return Usage(
        tuple(pid for usage in there for pid in usage.pids),
        max(usage.age for usage in there),
        sum(usage.cpu_seconds for usage in there),
        sum(usage.resident for usage in there),
        sum(shares) if len(shares) == len(there) else None,
    )


def may_see_shares(pid: int) -> bool:
    """Whether the caller may read this process's PSS."""
    if not _has_proc_stat():
        return False
    import psutil

    try:
        return _proportional_bytes(psutil.Process(pid)) is not None
    except (psutil.Error, OSError):
        return False


def started_at(pid: int) -> float | None:
    """The start time of a process in seconds of the epoch, by the present clock; None if it is gone."""
    if not _has_proc_stat():
        return None
    import psutil

    try:
        age = _age(psutil.Process(pid))
        return time.time() - age
    except (psutil.Error, OSError):
        return None


def _has_proc_stat() -> bool:
    """Whether /proc/stat is there. ProcSubset=pid hides it, and then psutil fails when it is imported."""
    return os.path.exists("/proc/stat")


def _all() -> list[tuple[int, "psutil.Process"]]:
    """Each process with its parent's pid."""
    if not _has_proc_stat():
        return []
    import psutil

    found = []
    for pid in psutil.pids():
        try:
            process = psutil.Process(pid)
            found.append((process.ppid(), process))
        except (psutil.Error, OSError):
            pass
    return found


def _of_process(process: "psutil.Process") -> Usage | None:
    """The usage of one process alone; None if it is gone."""
    import psutil

    try:
        with process.oneshot():
            cpu, resident = sum(process.cpu_times()[:4]), process.memory_info().rss
            return Usage((process.pid,), _age(process), cpu, resident, _proportional_bytes(process))
    except (psutil.Error, OSError):
        return None


def _age(process: "psutil.Process") -> float:
    """The age of a process in seconds.

    psutil adds the boot time in whole seconds, so it is subtracted again. Raises psutil.Error, OSError.
    """
    import psutil

    started = process.create_time() - psutil.boot_time()
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def _proportional_bytes(process: "psutil.Process") -> int | None:
    """The PSS of a process in bytes; None if it is not readable. Raises psutil.Error, OSError."""
    import psutil

    try:
        return int(process.memory_full_info().pss)
    except psutil.ZombieProcess:
        return 0
    except psutil.AccessDenied:
        return None
