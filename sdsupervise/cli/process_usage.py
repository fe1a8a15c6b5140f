"""What running processes take, for the commands that show it, as psutil reads it.

psutil's `uids()` is not used: the name of a process comes first in what it reads, and can be "Uid:" with numbers of the
process's choice. See linux/processes.py, `uid_of`.
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

_MOST_LOOKED_INTO = 16  # processes whose connections are counted at each look


class Usage(NamedTuple):
    """What a process takes, and all processes below it."""

    pids: tuple[int, ...]
    age: float  # seconds since the first of them started
    cpu_seconds: float  # of those that live, and of their children that were waited for
    resident: int  # bytes, each counting in full what it shares with others
    proportional: int | None  # bytes, each counting its share; None where the caller may not look

    @property
    def processes(self) -> int:
        """How many they are."""
        return len(self.pids)


class Processes:
    """All processes that run when this is made, without those that the caller may not see.

    The pids that this is asked for come from somebody who may name any pid, and any number of them. So it looks at each
    process once, and with a `uid` other than root's it shows only what is below a process of that user.
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
        """Of this process and those below it, but for those `apart_from` and what is below them; None if it is gone."""
        if pid is None or pid not in self._processes:
            return None
        if apart_from:
            return self._usage(pid, apart_from)
        if pid not in self._usages:
            self._usages[pid] = self._usage(pid, ())
        return self._usages[pid]

    def connections(self, usage: Usage) -> int | None:
        """As the function of that name, of these processes; None, too, where enough have been looked into."""
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
            # A pid that is in use again can be below itself, as it seems.
            waiting += [child for child in self._children[one] if child not in apart_from and child not in counted]
        whole = together(counted.values())
        return whole._replace(age=first.age) if whole is not None else None

    def _of_one(self, pid: int) -> Usage | None:
        if pid not in self._alone:
            self._alone[pid] = _of_process(self._processes[pid])
        return self._alone[pid]


def together(usages: Iterable[Usage | None]) -> Usage | None:
    """What several take, the age that of the oldest; None if there is none of them."""
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
    """The caller may look at the memory of this process as closely as Usage.proportional needs."""
    if not _has_proc_stat():
        return False
    import psutil

    try:
        return _proportional_bytes(psutil.Process(pid)) is not None
    except (psutil.Error, OSError):
        return False


def started_at(pid: int) -> float | None:
    """When a process was started, in seconds since the epoch as the clock is now; None if it is gone."""
    if not _has_proc_stat():
        return None
    import psutil

    try:
        age = _age(psutil.Process(pid))
        return time.time() - age
    except (psutil.Error, OSError):
        return None


def _has_proc_stat() -> bool:
    """ProcSubset=pid hides it. Then psutil knows of no process, and writes a traceback when it is imported."""
    return os.path.exists("/proc/stat")


def _all() -> list[tuple[int, "psutil.Process"]]:
    """Each process with the pid of its parent."""
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
    """Without those below it; None if it is gone."""
    import psutil

    try:
        with process.oneshot():
            cpu, resident = sum(process.cpu_times()[:4]), process.memory_info().rss
            return Usage((process.pid,), _age(process), cpu, resident, _proportional_bytes(process))
    except (psutil.Error, OSError):
        return None


def _age(process: "psutil.Process") -> float:
    """In seconds. Raises psutil.Error, OSError.

    psutil counts from the time of the boot, which it knows in whole seconds, so that is taken away again.
    """
    import psutil

    started = process.create_time() - psutil.boot_time()
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def _proportional_bytes(process: "psutil.Process") -> int | None:
    """Its proportional set size; None where the caller may not look. Raises psutil.Error, OSError."""
    import psutil

    try:
        return int(process.memory_full_info().pss)
    except psutil.ZombieProcess:
        return 0
    except psutil.AccessDenied:
        return None
