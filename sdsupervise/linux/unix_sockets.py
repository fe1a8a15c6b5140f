"""The kernel's table of UNIX sockets; proc_net_unix(5).

A user may give a socket any name, also one with a newline. What follows such a name may be no row, or look like one. So
a row may be shown, but must never decide anything.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_ROW = re.compile(r"\S+: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) [0-9A-F]{4} ([0-9A-F]{2}) +([0-9]+) ([^\n]+)\n?")
_ACCEPTS = 0x10000  # __SO_ACCEPTCON
_CONNECTED = "03"  # SS_CONNECTED, include/uapi/linux/net.h


class Row(NamedTuple):
    """A socket that has a name."""

    listens: bool
    is_connected: bool
    inode: str
    name: str  # an abstract name begins with "@"


def rows(path: str = "/proc/net/unix") -> Iterator[Row]:
    """Yield each socket that has a name. Raises OSError."""
    with open(path, errors="surrogateescape", newline="\n") as table:
        for line in table:
            if found := _ROW.fullmatch(line):
                flags, state, inode, name = found.groups()
                yield Row(bool(int(flags, 16) & _ACCEPTS), state == _CONNECTED, inode, name)
