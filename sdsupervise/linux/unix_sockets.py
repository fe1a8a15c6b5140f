"""The table of UNIX sockets that the kernel shows; proc_net_unix(5).

Any user names his sockets as he likes, also with an end of line in the name. So what follows one may be no row, or may
look like one: a row of this table is something to show, and nothing to decide by.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_ROW = re.compile(r"\S+: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) [0-9A-F]{4} ([0-9A-F]{2}) +([0-9]+) ([^\n]+)\n?")
_ACCEPTS = 0x10000  # __SO_ACCEPTCON
_CONNECTED = "03"  # include/uapi/linux/net.h


class Row(NamedTuple):
    """A socket that has a name."""

    listens: bool
    is_connected: bool
    inode: str
    name: str  # an abstract one begins with "@"


def rows(path: str = "/proc/net/unix") -> Iterator[Row]:
    """Each that has a name. Raises OSError."""
    with open(path, errors="surrogateescape", newline="\n") as table:
        for line in table:
            if found := _ROW.fullmatch(line):
                flags, state, inode, name = found.groups()
                yield Row(bool(int(flags, 16) & _ACCEPTS), state == _CONNECTED, inode, name)
