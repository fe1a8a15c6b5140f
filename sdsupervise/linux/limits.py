"""The limit of open descriptors: a supervisor needs several for each of hundreds of workers.

The soft limit is 1024 by default, for programs that use select(2). So it is raised only for the supervisor, and its
children get the original limit; getrlimit(2).
"""

import fcntl
import resource

from .unpatched import os

_HIGHEST = 1024  # the kernel's table is as long as the highest number in use
_before: list[int] = []  # the soft limit before we raised it; empty if we did not


def make_room(count: int) -> None:
    """Raise the soft limit to `count` descriptors, or to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        _before[:] = _before or [soft]


def restore_in_child() -> None:
    """In a forked child, after it has closed the descriptors of its parent, restore the soft limit."""
    if _before:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        soft = _before[0] if hard == resource.RLIM_INFINITY else min(_before[0], hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def move_out_of_the_way(fd: int) -> int:
    """Return the same descriptor under a high number. A program may close all numbers that it does not know, and open
    its next file under a low one."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    high = _HIGHEST if soft == resource.RLIM_INFINITY else min(soft, _HIGHEST)
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high - 1)
    except OSError:
        return fd  # the number is taken
    os.close(fd)
    return moved
