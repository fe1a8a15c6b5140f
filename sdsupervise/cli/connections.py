"""Counts the open connections of processes, from /proc/PID/fd and /proc/PID/net.

Rejected: psutil's connections(). It reads the tables of the caller's network, but a service with PrivateNetwork= has
its own. It does not say whether a UNIX socket is connected. It fails at a socket with an end of line in its name, and
any user can make one.
"""

import os
import re
from collections.abc import Container, Sequence
from itertools import islice

from ..linux.unix_sockets import rows

_MADE_UP = re.compile("@[0-9a-f]{5}")  # a name from the kernel's autobind, unix(7)
_MOST_DESCRIPTORS = 100_000  # of all processes in one count


def connections(pids: Sequence[int]) -> int | None:
    """The number of open connections: all of TCP, and the accepted ones of UNIX sockets.

    UNIX sockets that a service has connected itself lead to its log or its supervisor, and do not count. All processes
    must be in the network namespace of the first one. None if they are not readable, or have too many descriptors.
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
    """The number of these sockets in state ESTABLISHED in this table; proc(5)."""
    with open(path) as table:
        lines = [line.split() for line in table]
    return sum(line[3] == "01" and line[9] in inodes for line in lines[1:])


def _accepted(path: str, inodes: Container[str]) -> int:
    """The number of these sockets that are connected and have the name of a listener, so that it accepted them.

    The connecting side has no name, or one from the kernel.
    """
    accepted = {
        row.inode for row in rows(path) if row.is_connected and row.inode in inodes and not _MADE_UP.fullmatch(row.name)
    }
    return len(accepted)
