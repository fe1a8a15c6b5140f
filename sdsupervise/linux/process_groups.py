"""The processes that a program leaves behind: those of its group, or its orphans, found and named.

They are looked up in the whole of /proc, so only if something is known to be left.
"""

import resource
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from . import processes
from .unpatched import os

_SHOWN_CHARACTERS = 120
_MOST_LOOKS = 10  # on a machine where processes start all the time
_BITS_OF_PID = 22  # PID_MAX_LIMIT, proc_sys_kernel(5)
_FILE_LOCKS = 10  # RLIMIT_LOCKS, getrlimit(2)
_LIMIT_CHARACTERS = 40  # of /proc/PID/limits: the rest of a name's column, and the soft limit
_READ_BYTES = 2**16  # at a time; what is read is mostly shorter
_MOST_BYTES = 2**21  # of a file of /proc: about what exec allows for arguments and environment


class Relations(NamedTuple):
    """What /proc says about a process; proc_pid_stat(5)."""

    parent: int
    group: int
    session: int


class Found(NamedTuple):
    """A living process. The caller who looked for it closes the pidfd."""

    pid: int
    pidfd: int
    command_line: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command_line})"


def members(group: int) -> list[Found]:
    """Return all living processes of the process group, or of the session, with this number."""
    return list(_find(lambda _, its: group in (its.group, its.session)))


def children(parent: int) -> list[Found]:
    """Return all living children of a process."""
    return list(_find(lambda _, its: its.parent == parent))


def remains(group: int, variable: str, mark: int) -> list[Found]:
    """Return all living processes of a group, those executed with this "NAME=VALUE" in their environment, and those
    with this mark.

    This also finds processes that have left their group and their parents. A process that forks and exits during the
    search can be missed, because its child did not exist at the beginning. So the search is repeated if it finds none,
    and any process has started meanwhile.
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
    """Return the pid that the kernel assigned last; proc_loadavg(5)."""
    try:
        with open("/proc/loadavg", "rb") as load:
            return load.read().split()[-1]
    except (OSError, IndexError):
        return b""


def new_mark() -> int:
    """Return an unused mark, to which a pid may be added."""
    return 2**62 + (int.from_bytes(os.urandom(4)) << _BITS_OF_PID)


def set_mark(mark: int) -> None:
    """Mark all that this process executes and starts from now on, in any session and below any parent.

    The mark is the limit of file locks, which children inherit, and which Linux has ignored since 2.4. It stays even if
    a child closes its descriptors and clears its environment.
    """
    try:
        resource.setrlimit(_FILE_LOCKS, (mark, resource.getrlimit(_FILE_LOCKS)[1]))
    except (OSError, ValueError):
        pass  # the limit is set, for example by LimitLOCKS=


def is_in_session(pid: int, session: int) -> bool:
    """Return whether a living process is in this session.

    getsid(2) answers even if /proc hides the process (ProtectProc=invisible).
    """
    try:
        return os.getsid(pid) == session
    except OSError:
        return False  # it is gone


def has_mark(pid: int, mark: int) -> bool:
    """Return whether a living process has this mark. It is no secret: every process can set itself the same limit."""
    return _mark_of(pid) == mark


def _mark_of(pid: int) -> int:
    soft = _read(f"/proc/{pid}/limits").partition(b"\nMax file locks")[2][:_LIMIT_CHARACTERS].split()[:1]
    return int(soft[0]) if soft and soft[0].isdigit() else 0


def of_worker(worker_pid: int, mark: int | None, *, others: Collection[int] = ()) -> list[Found]:
    """Return the living processes that a class worker has started, without the worker itself.

    These are the members of the session that it leads or led, and those with its mark, if `mark` is known. `others` are
    sessions that are known to belong to other workers. getsid(2) gives the session; it also answers if /proc hides a
    process.
    """
    me = os.getpid()
    # After the worker's death its number may belong to another process, whose session is not the worker's.
    session = worker_pid if worker_pid == me or not _lives(worker_pid) else None

    pids, is_in_our_group = _candidates()
    may_be_in_none = os.getsid(0) == 0  # our session is of another pid namespace

    def is_its(pid: int) -> bool:
        try:
            its = os.getsid(pid)
        except OSError:
            return False
        # The cheapest checks first: each of hundreds of workers leads a session, and a thread of the kernel has none.
        if its in others or (its == 0 and not may_be_in_none) or not (its == session or mark is not None):
            return False
        return (its == session or _mark_of(pid) == mark) and is_in_our_group(pid)

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


def _candidates() -> tuple[list[int], Callable[[int], bool]]:
    """Return the processes of our control group, and a function that says whether a process is in it.

    If the group's processes cannot be listed, this returns all processes. A process that was moved to another group is
    no longer ours.
    """
    own = _read("/proc/self/cgroup")
    if own.startswith(b"0::") and own.count(b"\n") == 1:
        place = f"/sys/fs/cgroup{own[3:].decode().rstrip()}"
        listed = [_read(f"{directory}/cgroup.procs") for directory, _, _ in os.walk(place)]
        if any(listed):
            return [int(pid) for pids in listed for pid in pids.split()], lambda _pid: True
    try:
        names = os.listdir("/proc")
    except OSError:
        names = []  # without a descriptor, no process can be looked up
    return [int(name) for name in names if name.isdecimal()], lambda pid: _read(f"/proc/{pid}/cgroup") == own


def _lives(pid: int) -> bool:
    """Return whether the process lives. A zombie does not; another process may have to reap it."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return not processes.is_dead(pidfd)
    finally:
        os.close(pidfd)


def _read(path: str) -> bytes:
    content = b""
    try:
        with open(path, "rb", buffering=0) as file:
            while len(content) < _MOST_BYTES and (more := file.read(_READ_BYTES)):
                content += more
    except OSError:
        return b""  # it is gone, or belongs to another user
    return content


def _find(wanted: Callable[[int, Relations], bool]) -> Iterator[Found]:
    for name in os.listdir("/proc"):
        if not name.isdecimal() or not _is(int(name), wanted):
            continue
        try:
            pidfd = os.pidfd_open(int(name))
        except OSError:
            continue
        if _is(int(name), wanted):  # checked again, so that the pidfd is of the process that we looked at
            yield Found(int(name), pidfd, _command_line(name))
        else:
            os.close(pidfd)


def _is(pid: int, wanted: Callable[[int, Relations], bool]) -> bool:
    fields = processes.stat_fields(pid)
    if not fields or processes.is_dead_state(fields[0]):
        return False
    return wanted(pid, Relations(*map(int, fields[1:4])))


def _environment(pid: int) -> list[bytes]:
    return _read(f"/proc/{pid}/environ").split(b"\0")


def _command_line(name: str) -> str:
    # A process that is exiting has no command line any more, but still its short name; proc_pid_comm(5).
    said = _read(f"/proc/{name}/cmdline").rstrip(b"\0") or _read(f"/proc/{name}/comm")
    text = said.replace(b"\0", b" ").decode(errors="backslashreplace")
    text = " ".join(text.split())  # a newline in an argument must not break a line of the log
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
