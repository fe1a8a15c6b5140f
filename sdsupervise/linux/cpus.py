"""How many CPUs this process may use: those of its affinity, or as many as the quota of its control groups pays for.

os.process_cpu_count() of later Pythons was rejected: it counts the affinity alone, so under CPUQuota= or in a container
with a limit it gives the whole machine's CPUs.
"""

import math
import os
from collections.abc import Iterator
from typing import NamedTuple


class Cpus(NamedTuple):
    """What was found."""

    allowed: int  # by the affinity, which a cpuset narrows too
    quota: float | None  # CPUs that the least quota on the way up pays for; None: there is none

    @property
    def usable(self) -> int:
        """At least 1; a part of a CPU counts as one."""
        if self.quota is None:
            return self.allowed
        return max(1, min(self.allowed, math.ceil(self.quota)))

    def __str__(self) -> str:
        allowed = f"{self.allowed} CPU{'s' * (self.allowed != 1)}"
        if self.quota is None or math.ceil(self.quota) >= self.allowed:
            return f"this process may use {allowed}"
        return f"the control group's quota is {self.quota:g} of {allowed}"


def available() -> Cpus:
    """What this process may use now."""
    return Cpus(len(os.sched_getaffinity(0)), _quota("/proc/self"))


class _Mount(NamedTuple):
    root: str  # the control group that is seen at the mount point
    place: str

    def directories(self, group: str) -> Iterator[str]:
        """Of the control group and of all that it is in, up to the highest one that can be seen."""
        base = self.root.rstrip("/")
        inside = group.removeprefix(base) if f"{group}/".startswith(f"{base}/") else ""
        if ".." not in inside.split("/"):  # it lies beside what this namespace shows
            while inside.strip("/"):
                yield self.place + inside.rstrip("/")
                inside = inside.rstrip("/").rpartition("/")[0]
        yield self.place


def _quota(process: str) -> float | None:
    """The least quota in CPUs; a control group without one leaves it to those it is in. `process` is a directory in
    /proc."""
    try:
        with open(f"{process}/cgroup") as groups, open(f"{process}/mountinfo") as mounts:
            unified, cpu = _mounts(mounts)
            found = [limit for line in groups for limit in _limits(line.rstrip("\n"), unified, cpu)]
    except OSError:
        return None  # no /proc
    return min(found, default=None)


def _mounts(mountinfo: Iterator[str]) -> tuple[_Mount | None, _Mount | None]:
    """Where version 2 is mounted, and where the cpu controller of version 1 is; proc_pid_mountinfo(5)."""
    unified = cpu = None
    for line in mountinfo:
        about, _, more = line.partition(" - ")
        kind, _, options = more.split(maxsplit=2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        mount = _Mount(*map(_unescaped, about.split()[3:5]))
        if kind == "cgroup2":
            unified = unified or mount
        elif "cpu" in options.strip().split(","):
            cpu = cpu or mount
    return unified, cpu


def _unescaped(path: str) -> str:
    """As the kernel writes paths: a space is \\040."""
    return path.encode("latin-1", "replace").decode("unicode_escape") if "\\" in path else path


def _limits(line: str, unified: _Mount | None, cpu: _Mount | None) -> Iterator[float]:
    """Those that a line of /proc/PID/cgroup leads to."""
    number, controllers, group = line.split(":", 2)
    if number == "0" and not controllers and unified is not None:
        for directory in unified.directories(group):
            yield from _ratio(_read(f"{directory}/cpu.max"))
    elif "cpu" in controllers.split(",") and cpu is not None:
        for directory in cpu.directories(group):
            yield from _ratio([*_read(f"{directory}/cpu.cfs_quota_us"), *_read(f"{directory}/cpu.cfs_period_us")])


def _read(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return []  # the controller is not there, as in the root


def _ratio(words: list[str]) -> Iterator[float]:
    """Of a quota and its period; none for "max" and for -1."""
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
        yield int(words[0]) / int(words[1])
