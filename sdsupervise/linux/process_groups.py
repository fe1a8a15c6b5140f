"""What a program leaves behind: the processes of its group, or those it was to wait for, found and named.

They are looked for in /proc, all of it, so only where something is known to be left.
"""

import resource
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from . import processes
from .unpatched import os

_SHOWN_CHARACTERS = 120
_MOST_LOOKS = 10  # on a machine on which processes begin all the time
_BITS_OF_PID = 22  # PID_MAX_LIMIT; proc_sys_kernel(5)
_FILE_LOCKS = 10  # RLIMIT_LOCKS
_MOST_BYTES = 2**21  # of a file of /proc: all that exec takes as arguments and environment, mostly


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


def members(group: int) -> list[Found]:
    """All that live in the process group, or in the session, of this number."""
    return list(_find(lambda _, its: group in (its.group, its.session)))


def children(parent: int) -> list[Found]:
    """All living children of a process."""
    return list(_find(lambda _, its: its.parent == parent))


def remains(group: int, variable: str, mark: int) -> list[Found]:
    """All that live in a group, or that were executed with this "NAME=VALUE" in their environment, or that have this
    mark: also those that have left their group and their parents.

    One that forks and exits while we look can be missed: its child was not there when we began. So we look again if
    there is nobody, and any process has begun meanwhile.
    """
    wanted = os.fsencode(variable)

    def is_its(pid: int, its: Relations) -> bool:
        return group in (its.group, its.session) or _mark_of(pid) == mark or wanted in _environment(pid)

    for _ in range(_MOST_LOOKS):
        latest = _latest_pid()
        found = list(_find(is_its))
        if found or _latest_pid() == latest:
            break
    return found


def _latest_pid() -> bytes:
    """The one that was given last to anybody; proc_loadavg(5)."""
    try:
        with open("/proc/loadavg", "rb") as load:
            return load.read().split()[-1]
    except (OSError, IndexError):
        return b""


def new_mark() -> int:
    """One that nobody has, to which a pid may be added."""
    return 2**62 + (int.from_bytes(os.urandom(4)) << _BITS_OF_PID)


def bear_mark(mark: int) -> None:
    """Have all that this process executes and starts from now on be known by this mark, in whatever session, below
    whatever parent, and whether or not it keeps its environment and descriptors.

    It is the limit of file locks, which is inherited, and at which Linux has not looked since 2.4.
    """
    try:
        resource.setrlimit(_FILE_LOCKS, (mark, resource.getrlimit(_FILE_LOCKS)[1]))
    except (OSError, ValueError):
        pass  # somebody has set it, as by LimitLOCKS=


def _mark_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/limits", "rb") as limits:
            soft = next((line.split()[3] for line in limits if line.startswith(b"Max file locks")), b"")
    except OSError:
        return 0
    return int(soft) if soft.isdigit() else 0


def of_worker(worker_pid: int, mark: int | None, *, others: Collection[int] = ()) -> list[Found]:
    """All that live of what a class worker has begun, without itself: those of the session that it leads, or led, and
    those that bear its mark, where that is known. `others` are sessions of which it is known that they are not its own.

    A session is asked for by getsid(2), which also answers where /proc hides a process.
    """
    me = os.getpid()
    # A number that a process has again, now that the worker is dead, is not the worker's session.
    session = worker_pid if worker_pid == me or not _lives(worker_pid) else None

    pids, is_near = _nearby()

    def is_its(pid: int) -> bool:
        try:
            its = os.getsid(pid)
        except OSError:
            return False
        # The cheapest question first: of hundreds of workers each leads a session.
        if its in others or not (its == session or mark is not None):
            return False
        return is_near(pid) and (its == session or _mark_of(pid) == mark)

    found = []
    for pid in pids:
        if pid == me or not is_its(pid):
            continue
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        if processes.is_dead(pidfd) or not is_its(pid):
            os.close(pidfd)
        else:
            found.append(Found(pid, pidfd, _command_line(str(pid))))
    return found


def _nearby() -> tuple[list[int], Callable[[int], bool]]:
    """The processes of our control group, or all and how to tell whether one is of our group; what has been moved to
    another one is not ours any more."""
    own = _read("/proc/self/cgroup")
    if own.startswith(b"0::") and own.count(b"\n") == 1:
        place = f"/sys/fs/cgroup{own[3:].decode().rstrip()}"
        listed = [_read(f"{directory}/cgroup.procs") for directory, _, _ in os.walk(place)]
        if any(listed):
            return [int(pid) for pids in listed for pid in pids.split()], lambda _pid: True
    try:
        names = os.listdir("/proc")
    except OSError:
        names = []  # without a descriptor nobody can be looked for
    return [int(name) for name in names if name.isdecimal()], lambda pid: _read(f"/proc/{pid}/cgroup") == own


def _lives(pid: int) -> bool:
    """A zombie does not: it may be somebody else's to reap."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return not processes.is_dead(pidfd)
    finally:
        os.close(pidfd)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return b""  # it is gone, or somebody else's


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
    fields = processes.stat_fields(pid)
    if not fields or fields[0] in (b"Z", b"X"):
        return False
    return wanted(pid, Relations(*map(int, fields[1:4])))


def _environment(pid: int) -> list[bytes]:
    return _read(f"/proc/{pid}/environ").split(b"\0")


def _command_line(name: str) -> str:
    words = _read(f"/proc/{name}/cmdline").rstrip(b"\0").split(b"\0")
    text = b" ".join(words).decode(errors="backslashreplace")
    text = " ".join(text.split())  # a newline in an argument must not break a line of the log
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
