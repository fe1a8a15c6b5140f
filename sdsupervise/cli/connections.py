"""How many connections processes have open, from /proc/PID/fd and /proc/PID/net.

Rejected: psutil's connections(). It reads the tables of the caller's network, and PrivateNetwork= gives a service
another one. It does not say whether a UNIX socket is connected. It fails at a socket whose name has an end of line in
it, and any user can make one.
"""

import os
import re
from collections.abc import Container, Sequence
from itertools import islice

from ..linux.unix_sockets import rows

_MADE_UP = re.compile("@[0-9a-f]{5}")
_MOST_DESCRIPTORS = 100_000  # of processes whose connections are counted


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
