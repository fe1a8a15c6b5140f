"""How many descriptors a supervisor may have open: several for each of hundreds of workers.

The soft limit is 1024 by default for the sake of programs that use select(2); so it is raised for the supervisor alone,
and what it starts gets it back as it was.
"""

import fcntl
import resource

from .unpatched import os

_HIGHEST = 1024  # the kernel has a table as long as the highest number in use
_before: list[int] = []  # the soft limit, where we have raised it


def make_room(count: int) -> None:
    """Let this process have so many descriptors, or as many as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        _before[:] = _before or [soft]


def restore_in_child() -> None:
    """In a forked child, when it has closed what is not its own."""
    if _before:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        soft = _before[0] if hard == resource.RLIM_INFINITY else min(_before[0], hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def move_out_of_the_way(fd: int) -> int:
    """The same descriptor by a high number: where a program closes what it does not know, the next file that it opens
    gets a low one."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    high = _HIGHEST if soft == resource.RLIM_INFINITY else min(soft, _HIGHEST)
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high - 1)
    except OSError:
        return fd  # it is taken
    os.close(fd)
    return moved
