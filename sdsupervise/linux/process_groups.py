"""What a program leaves behind: the processes of its group, or those it was to wait for, found and named.

They are looked for in /proc, all of it, so only where something is known to be left.
"""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

_SHOWN_CHARACTERS = 120


class Relations(NamedTuple):
    """What /proc says of a process; proc_pid_stat(5)."""

    parent: int
    group: int
    session: int


class Found(NamedTuple):
    """A living process. The finder closes the pidfd."""

    pid: int
    pidfd: int
    command_line: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command_line})"


def group_lives(group: int) -> bool:
    """Some process of a group is left, if only a zombie. While there is one, its number is nobody else's."""
    try:
        os.getpriority(os.PRIO_PGRP, group)  # a question that signals nobody, and looks at that group alone
    except ProcessLookupError:
        return False
    return True


def members(group: int) -> list[Found]:
    """All that live in the process group, or in the session, of this number."""
    return list(_find(lambda _, its: group in (its.group, its.session)))


def children(parent: int) -> list[Found]:
    """All living children of a process."""
    return list(_find(lambda _, its: its.parent == parent))


def remains(group: int, variable: str) -> list[Found]:
    """All that live in a group, or that were executed with this "NAME=VALUE" in their environment: also those that have
    left their group and their parents."""
    wanted = os.fsencode(variable)
    return list(_find(lambda pid, its: group in (its.group, its.session) or wanted in _environment(pid)))


def _find(wanted: Callable[[int, Relations], bool]) -> Iterator[Found]:
    for name in os.listdir("/proc"):
        if not name.isdecimal() or not _is(int(name), wanted):
            continue
        try:
            pidfd = os.pidfd_open(int(name))
        except OSError:
            continue
        if _is(int(name), wanted):  # still, so that the pidfd is of the process we looked at
            yield Found(int(name), pidfd, _command_line(name))
        else:
            os.close(pidfd)


def _is(pid: int, wanted: Callable[[int, Relations], bool]) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            state, parent, group, session, *_ = stat.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return state not in (b"Z", b"X") and wanted(pid, Relations(int(parent), int(group), int(session)))


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            return environment.read().split(b"\0")
    except OSError:
        return []  # somebody else's


def _command_line(name: str) -> str:
    try:
        with open(f"/proc/{name}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
    except OSError:
        words = []
    text = b" ".join(words).decode(errors="backslashreplace")
    text = " ".join(text.split())  # a newline in an argument must not break a line of the log
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
