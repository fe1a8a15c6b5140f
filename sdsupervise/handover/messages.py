"""The fields and descriptors of each message in a hand-over; handover/peer.py explains the messages.

A message is checked completely before any field is used. The peer may run another release, or have fewer rights than
this process: for example, a predecessor has dropped its privileges, and its successor has not yet.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..input.checked import (
    MOST_FDS,
    MOST_PID,
    Reader,
    Unfit,
    count,
    decimal,
    flag,
    generation,
    line,
    lines,
    list_of,
    map_of,
    maybe,
    number,
    one_of,
    pid,
    record,
    seconds,
    text,
    tuple_of,
    whole,
)
from ..input.printable import MOST_OF_TRACEBACK
from ..linux import descriptors
from ..linux.channel import Message
from ..linux.unpatched import os
from ..settings.settings import MOST_WORKERS
from ..sockets.passed_fds import LISTENER, OTHER_LANE

HANDOVER_VERSION = 1

_workers = whole(0, MOST_WORKERS)
_seconds_of_boot = number(0.0, 1e12)  # on the monotonic clock
_file = tuple_of(text(), count, count)  # path, device, inode
_pids = record({"pids": list_of(pid, MOST_FDS)})

COUNTERS = map_of(map_of(number(0.0, 1e15), 1000, name=line(200)), 100, name=line(100))
RELOAD = record(
    {
        "asked_at": number(0.0, 1e11),
        "asked_by": line(300),
        "verdict": one_of("done", "failed", "refused"),
        "reason": line(20_000),
        "not_applied": line(20_000),
        "seconds": seconds,
        "phases": map_of(seconds, 100, name=line(100)),
    }
)
_DRAINING = record({"generation": generation, "pid": pid, "stop_timeout": seconds, "due": _seconds_of_boot})
_LISTENER = record({"given": flag, "label": text(300), "file": maybe(_file)}, {"lane": whole(0, 1)})
_LANE = record({"beside": text(300), "new": flag, "label": text(300), "file": maybe(_file)})
_POOL = record({"configured": _workers, "workers": whole(1, MOST_WORKERS)})

_HOOK = {"notify_command": list_of(text(128 * 1024), 1000), "notify_timeout": seconds}
_NOTHING = record({})
SHAPES: Mapping[str, Reader] = {
    "spawned": record({"pid": pid}),
    "welcome": record(
        {
            "version": count,
            "generation": generation,
            "predecessor_generation": generation,
            "pid": pid,
            "stop_timeout": seconds,
            "pid_file": text(),
            "barrier_timeout": seconds,
            "carries": list_of(text(300), MOST_FDS),
        },
        {
            "overlaps": flag,
            "listeners": list_of(_LISTENER, MOST_FDS),
            "pool": _POOL,
            "draining": list_of(_DRAINING, MOST_FDS),
        },
    ),
    "starts": record({"place": line()}, {"reload_timeout": seconds, **_HOOK}),
    "hello": record(
        {"version": count, "code": line(), "stop_timeout": seconds},
        {
            "overlaps": flag,
            "check_timeout": seconds,
            "start_allowance": seconds,
            "probation": seconds,
            "reload_timeout": seconds,
            **_HOOK,
        },
    ),
    "opened": record({"files": list_of(_file, MOST_FDS)}, {"lanes": list_of(_LANE, MOST_FDS)}),
    "workers": _pids,
    "holders": _pids,
    "code": record({"code": line()}),
    "reason": record({"text": line(20_000)}, {"traceback": lines(MOST_OF_TRACEBACK), "silent": pid}),
    "extends": record({"seconds": seconds}),
    "warm": record({"ready": _workers, "workers": _workers}),
    "counters": record({"counts": COUNTERS}),
    "reloaded": record({"facts": maybe(RELOAD)}),
    **dict.fromkeys(("caller", "lane", "naming", "unlocked"), _NOTHING),
    **dict.fromkeys(("yield", "serving", "checked", "failed", "committed", "stop", "empty"), _NOTHING),
}


def read(message: Message) -> Mapping[str, Any]:
    """The checked fields of a message; none for a message that this release does not know.

    Raises Unfit for a wrong field, or wrong descriptors.
    """
    shape = SHAPES.get(message.kind)
    if shape is None:
        return {}
    fields: Mapping[str, Any] = shape(message.fields, "")
    _check_descriptors(message.kind, fields, message.fds)
    return fields


def _check_descriptors(kind: str, fields: Mapping[str, Any], fds: list[int]) -> None:
    match kind:
        case "spawned":
            _expect(fds, [lambda fd: descriptors.is_pidfd_of(fd, fields["pid"])])
        case "workers" | "holders":
            if os.getpid() in fields["pids"]:
                raise Unfit("pids", "must not have the pid of this process")
            _expect(fds, [_is_of(pid) for pid in fields["pids"]])
        case "caller":
            _expect(fds, [descriptors.is_connection])
        case "opened":
            _expect(fds, [descriptors.is_listener for lane in fields.get("lanes", ()) if lane["new"]])
        case "welcome":
            if len(fds) != len(fields["carries"]):
                raise Unfit("", f"comes with {len(fds)} descriptors, not {len(fields['carries'])}")
        case _:
            _expect(fds, [])


def _is_of(pid: int) -> Callable[[int], bool]:
    return lambda fd: descriptors.is_pidfd_of(fd, pid)


def _expect(fds: Sequence[int], checks: Sequence[Callable[[int], bool]]) -> None:
    if len(fds) != len(checks):
        raise Unfit("", f"comes with {len(fds)} descriptors, not {len(checks)}")
    for place, (fd, is_right) in enumerate(zip(fds, checks, strict=True)):
        if not is_right(fd):
            raise Unfit(f"descriptor {place}", "is of the wrong kind")


# ---------------------------------------------------------------------------------------- descriptors of the welcome

DRAINING = "draining:"  # draining:GENERATION:pidfd, :token, :channel, :worker:PID, :holder:PID
_ALWAYS = ("predecessor", "token", "lock")


def carried(fields: Mapping[str, Any], fds: list[int]) -> dict[str, int]:
    """The descriptors of a welcome by name. Descriptors that this release does not know are closed.

    Raises Unfit if one is missing or of the wrong kind; then all descriptors are still open.
    """
    names: list[str] = fields["carries"]
    if len(set(names)) != len(names):
        raise Unfit("carries", "must not name anything twice")
    if not set(names).issuperset(_ALWAYS):
        raise Unfit("carries", f"must name {', '.join(_ALWAYS)}")
    listeners = iter(fields.get("listeners", ()))
    draining = {str(each["generation"]): each["pid"] for each in fields.get("draining", ())}
    if len(draining) < len(fields.get("draining", ())) or str(fields["predecessor_generation"]) in draining:
        raise Unfit("draining", "must have different generations")
    checks = [_check_of(name, fields["pid"], listeners, draining) for name in names]
    lanes = sum("lane" in fact for fact in fields.get("listeners", ()))
    if next(listeners, None) is not None or lanes != sum(name.startswith(OTHER_LANE) for name in names):
        raise Unfit("listeners", "must be as many as the descriptors")
    for place, (fd, is_right) in enumerate(zip(fds, checks, strict=True)):
        if is_right is not None and not is_right(fd):
            raise Unfit(f"carries[{place}]", "is of the wrong kind")
    for fd in (fd for fd, is_right in zip(fds, checks, strict=True) if is_right is None):
        os.close(fd)
    return {name: fd for name, fd, is_right in zip(names, fds, checks, strict=True) if is_right is not None}


def _check_of(
    name: str, predecessor: int, listeners: Iterator[Mapping[str, Any]], draining: Mapping[str, int]
) -> Callable[[int], bool] | None:
    """The check for the descriptor of this name; None for a name that this release does not know."""
    if name.startswith(LISTENER):
        fact = next(listeners, None)
        if fact is None:
            raise Unfit("listeners", "must be as many as the descriptors")
        return descriptors.is_socket if fact["given"] else descriptors.is_listener
    if name.startswith(OTHER_LANE):
        return descriptors.is_listener
    if name.startswith(DRAINING):
        generation, _, what = name.removeprefix(DRAINING).partition(":")
        return _check_of_draining(what, draining.get(generation))
    match name:
        case "predecessor":
            return _is_of(predecessor)
        case "token":
            return descriptors.is_pipe_to_read
        case "lock":
            return descriptors.is_place_of_file
        case "control":
            return descriptors.is_control_listener
        case "init":
            return descriptors.is_channel
    return None


def _check_of_draining(what: str, pid_of_draining: int | None) -> Callable[[int], bool] | None:
    if pid_of_draining is None:
        return None
    kind, _, number = what.partition(":")
    process = decimal(number, MOST_PID)
    match kind:
        case "pidfd":
            return _is_of(pid_of_draining)
        case "token":
            return descriptors.is_pipe_to_read
        case "channel":
            return descriptors.is_channel
        case "worker" | "holder" if process:
            return _is_of(process)
    return None
