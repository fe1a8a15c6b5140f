"""What running processes take, read from /proc: for the commands that show it; of supervisors only one with a
notify_command imports this.

psutil, rejected: it costs 30 ms, need not be installed, and reads every mapping of a process for what smaps_rollup says
in one line.
"""

import os
import re
import time
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from .processes import stat_fields, uid_of
from .unix_sockets import rows

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_MADE_UP = re.compile("@[0-9a-f]{5}")
_MOST_LOOKED_INTO = 16  # processes whose connections are counted at each look
_MOST_DESCRIPTORS = 100_000  # of processes whose connections are counted
_UNIT_NAME = r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*\.service"  # as systemd has it; "-" first could be an option


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


class _Stat(NamedTuple):
    parent: int
    cpu_seconds: float
    started: float  # seconds after the boot
    resident: int


class Processes:
    """All that run, as of the moment this is made; those we may not see are not there.

    Whoever says which pids are his may say any, and any number of them. So each process is looked at once, and with a
    `uid` other than root's only what is below a process of that user is known.
    """

    def __init__(self, *, uid: int = 0) -> None:
        self._uid = uid
        self._connections: dict[tuple[int, ...], int | None] = {}
        self._left = _MOST_LOOKED_INTO
        self._usages: dict[int, Usage | None] = {}
        self._shares: dict[int, int | None] = {}
        self._now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._stats: dict[int, _Stat] = {}
        self._children: dict[int, list[int]] = defaultdict(list)
        for name in os.listdir("/proc"):
            if name.isdecimal():
                stat = _read_stat(int(name))
                if stat is not None:
                    self._stats[int(name)] = stat
                    self._children[stat.parent].append(int(name))

    def usage(self, pid: int | None, *, apart_from: Container[object] = ()) -> Usage | None:
        """Of this process and those below it, but for those `apart_from` and what is below them; None if it is gone."""
        if pid is None or pid not in self._stats:
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
        counted, waiting = [], [pid]
        while waiting:
            one = waiting.pop()
            counted.append(one)
            waiting += [child for child in self._children[one] if child not in apart_from]
        stats = [self._stats[one] for one in counted]
        shares = [self._share(one) for one in counted]
        return Usage(
            tuple(counted),
            max(0.0, self._now - stats[0].started),
            sum(stat.cpu_seconds for stat in stats),
            sum(stat.resident for stat in stats),
            None if None in shares else sum(share for share in shares if share is not None),
        )

    def _share(self, pid: int) -> int | None:
        if pid not in self._shares:
            self._shares[pid] = proportional_bytes(pid)
        return self._shares[pid]


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


def proportional_bytes(pid: int) -> int | None:
    """Its proportional set size; None if it is gone, or not ours to look at. proc(5), smaps_rollup."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
            return next((int(line.split()[1]) * 1024 for line in rollup if line.startswith(b"Pss:")), None)
    except OSError:
        return None


def connections(pids: Sequence[int]) -> int | None:
    """How many connections these processes have open: of TCP to anybody, of UNIX sockets those that they have accepted
    (what they have connected themselves is their log, or their supervisor's). None if they are not ours to look at.

    They have one network, that of the first. None, too, if they have more descriptors than can be looked at.
    """
    inodes, left = set(), _MOST_DESCRIPTORS
    try:
        for pid in pids:
            with os.scandir(f"/proc/{pid}/fd") as found:
                fds = [fd.path for fd in islice(found, left + 1)]
            left -= len(fds)
            if left < 0:
                return None
            for fd in fds:
                target = os.readlink(fd)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        network = f"/proc/{next(iter(pids))}/net"
        tcp = sum(_established(f"{network}/{kind}", inodes) for kind in ("tcp", "tcp6"))
        return tcp + _accepted(f"{network}/unix", inodes)
    except OSError:
        return None


def _established(path: str, inodes: Container[str]) -> int:
    """How many of these sockets are in state ESTABLISHED there; proc(5)."""
    with open(path) as table:
        lines = [line.split() for line in table]
    return sum(line[3] == "01" and line[9] in inodes for line in lines[1:])


def _accepted(path: str, inodes: Container[str]) -> int:
    """How many of these sockets are connected there and have the name of the socket that accepted them: who connects
    has none, or one that the kernel made up."""
    accepted = {
        row.inode for row in rows(path) if row.is_connected and row.inode in inodes and not _MADE_UP.fullmatch(row.name)
    }
    return len(accepted)


def unit_of(pid: int) -> tuple[str, bool]:
    """The service unit that a process belongs to, and whether it is one of a user's manager; "" if it is in none.

    With Delegate= a service names what is below its own. What is no name of a unit is not shown, and named to nobody.
    """
    try:
        with open(f"/proc/{pid}/cgroup") as lines:
            hierarchies = [line.rstrip("\n").split(":", 2) for line in lines]
    except OSError:
        return "", False
    paths = [path for _, controllers, path in hierarchies if controllers in ("", "name=systemd")]
    for path in sorted(paths, key=len, reverse=True):
        units = [part for part in path.split("/") if part.endswith((".service", ".scope"))]
        if units and re.fullmatch(_UNIT_NAME, units[-1]) and not units[-1].startswith("user@"):
            return units[-1], any(unit.startswith("user@") for unit in units)
    return "", False


def started_at(pid: int) -> float | None:
    """When a process was started, in seconds since the epoch as the clock is now; None if it is gone."""
    stat = _read_stat(pid)
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - stat.started) if stat is not None else None


def _read_stat(pid: int) -> _Stat | None:
    fields = stat_fields(pid)
    if not fields:
        return None
    cpu_ticks = sum(int(field) for field in fields[11:15])
    return _Stat(int(fields[1]), cpu_ticks / _TICKS, int(fields[19]) / _TICKS, int(fields[21]) * _PAGE_BYTES)
