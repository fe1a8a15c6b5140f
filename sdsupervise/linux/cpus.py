"""How many CPUs this process may use, by its affinity and by the CPU quota of its control groups.

os.process_cpu_count() of later Pythons was rejected. It counts only the affinity, so under CPUQuota=, or in a container
with a limit, it returns all CPUs of the machine.
"""

import math
import os
from collections.abc import Iterator
from typing import NamedTuple


class Cpus(NamedTuple):
    """The CPUs that this process may use."""

    allowed: int  # by the affinity, which a cpuset also limits; sched_getaffinity(2)
    quota: float | None  # the smallest quota of the control group and its ancestors, in CPUs; None: no quota

    @property
    def usable(self) -> int:
        """The number of usable CPUs, at least 1. A fraction of a CPU counts as one."""
        if self.quota is None:
            return self.allowed
        return max(1, min(self.allowed, math.ceil(self.quota)))

    def __str__(self) -> str:
        allowed = f"{self.allowed} CPU{'s' * (self.allowed != 1)}"
        if self.quota is None or math.ceil(self.quota) >= self.allowed:
            return f"this process may use {allowed}"
        return f"the control group's quota is {self.quota:g} of {allowed}"


def available() -> Cpus:
    """Return the CPUs that this process may use now."""
    return Cpus(len(os.sched_getaffinity(0)), _quota("/proc/self"))


class _Mount(NamedTuple):
    root: str  # the control group that the mount point shows
    place: str

    def directories(self, group: str) -> Iterator[str]:
        """Yield the directories of the control group and of its ancestors, as far as this mount shows them."""
        base = self.root.rstrip("/")
        inside = group.removeprefix(base) if f"{group}/".startswith(f"{base}/") else ""
        if ".." not in inside.split("/"):  # ".." means that it is outside of what this namespace shows
            while inside.strip("/"):
                yield self.place + inside.rstrip("/")
                inside = inside.rstrip("/").rpartition("/")[0]
        yield self.place


def _quota(process: str) -> float | None:
    """Return the smallest quota, in CPUs, or None. A group without a quota is limited by its ancestors. `process` is a
    directory in /proc."""
    try:
        with open(f"{process}/cgroup") as groups, open(f"{process}/mountinfo") as mounts:
            unified, cpu = _mounts(mounts)
            found = [limit for line in groups for limit in _limits(line.rstrip("\n"), unified, cpu)]
    except OSError:
        return None  # no /proc
    return min(found, default=None)


def _mounts(mountinfo: Iterator[str]) -> tuple[_Mount | None, _Mount | None]:
    """Return where cgroup v2 is mounted, and where the cpu controller of v1 is: proc_pid_mountinfo(5)."""
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
    """Return a path without the kernel's escapes: it writes a space as \\040."""
    return path.encode("latin-1", "replace").decode("unicode_escape") if "\\" in path else path


def _limits(line: str, unified: _Mount | None, cpu: _Mount | None) -> Iterator[float]:
    """Yield the quotas of the control groups that a line of /proc/PID/cgroup names."""
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
        return []  # the controller is absent, as in the root group


def _ratio(words: list[str]) -> Iterator[float]:
    """Yield quota / period; nothing for "max" and for -1."""
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
        yield int(words[0]) / int(words[1])
