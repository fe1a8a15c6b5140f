"""Processes with all their descendants, to suspend them (SIGSTOP) and to continue them.

Rejected: psutil. A supervisor runs this code, and must not import psutil, which costs megabytes. psutil also finds
descendants by their parents only, not by group and session, and gives no pidfds.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .processes import is_dead_state, stat_fields
from .unpatched import os


class Relative(NamedTuple):
    """A living process. The caller of `descent` closes the pidfd."""

    pid: int
    pidfd: int


class _ProcessStat(NamedTuple):
    """Fields of a process or a thread, from proc_pid_stat(5)."""

    state: bytes
    relations: tuple[bytes, ...]  # its parent, group and session
    began: bytes


def descent(ancestors: Sequence[int]) -> list[Relative]:
    """Return those of these processes that live, their descendants, and the members of the groups and sessions they
    lead."""
    family, others = {b"%d" % pid for pid in ancestors}, dict(_all())
    began: dict[bytes, bytes] = {}
    while more := [pid for pid, its in others.items() if pid in family or not family.isdisjoint(its.relations)]:
        began |= {pid: others.pop(pid).began for pid in more}
        family.update(more)
    found = []
    for pid in map(int, began):
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        # The start time identifies the process: the pid may have been reused since the first look.
        now = _stat(str(pid))
        if now is not None and now.began == began[b"%d" % pid]:
            found.append(Relative(pid, pidfd))
        else:
            os.close(pidfd)
    return found


def is_stopped(pid: int) -> bool:
    """Return whether the process runs nothing before a SIGCONT: all its threads are stopped, or it is dead."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    found = [_stat(f"{pid}/task/{thread}") for thread in threads]
    return all(its is None or its.state in (b"T", b"t") or is_dead_state(its.state) for its in found)


def _all() -> Iterator[tuple[bytes, _ProcessStat]]:
    for name in os.listdir("/proc"):
        its = _stat(name) if name.isdecimal() else None
        if its is not None and not is_dead_state(its.state):
            yield name.encode(), its


def _stat(place: str) -> _ProcessStat | None:
    """Read the fields of a process or a thread; None if it is gone."""
    fields = stat_fields(place)
    return _ProcessStat(fields[0], tuple(fields[1:4]), fields[19]) if fields else None
