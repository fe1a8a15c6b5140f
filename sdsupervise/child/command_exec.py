"""A worker that is any command: what a freshly forked process does until it has become that."""

import fcntl
import socket
import sys
from collections.abc import Mapping
from typing import NamedTuple

from ..linux import prctl, process_groups, processes
from ..linux.inheritance import without_supervisors_own
from ..linux.unpatched import os, signal
from ..systemd import notify_client

FIRST_LISTENER = 3  # SD_LISTEN_FDS_START
# CPython ignores the first two; the others are ours to ignore (processes.fork). A command gets what a shell would give
# it. An ignored SIGUSR2 would cross the exec, and a shell script could never trap it; so `systemctl kill -s USR2`
# without --kill-whom=main reaches a command under us exactly as it would without us.
_NOT_DEFAULT_IN_OUR_CHILDREN = (signal.SIGPIPE, signal.SIGXFSZ, *processes.IGNORED_IN_CHILDREN)


class Order(NamedTuple):
    """What to become."""

    executable: str  # a path
    words: tuple[str, ...]
    environment: Mapping[str, str]
    listeners: Mapping[str, socket.socket]  # descriptors 3, 4, ... in this order


def environment_of_commands(inherited: Mapping[str, str], *, generation: int, worker_timeout: float) -> dict[str, str]:
    """What all commands of a generation get of the supervisor's environment and beside it."""
    environment = without_supervisors_own(inherited)
    environment.setdefault("PYTHONUNBUFFERED", "1")  # a print() is in the journal at once
    environment["SDSUPERVISE_GENERATION"] = str(generation)
    if worker_timeout:
        environment["WATCHDOG_USEC"] = str(round(worker_timeout * 1e6))
    return environment


def become(
    order: Order, *, index: int, notify_path: str, mark: int, parent_pid: int, at_its_death: signal.Signals
) -> int:
    """Become the command, leader of a session of its own, and known by a mark; the exit status where that fails, which
    is told first.

    `at_its_death` is the signal the kernel sends us when our parent, whose pid that must still be, dies.
    """
    try:
        os.setsid()
        if not prctl.die_with_parent(parent_pid, at_its_death):
            return 1
        process_groups.bear_mark(mark)
        for number in _NOT_DEFAULT_IN_OUR_CHILDREN:
            signal.signal(number, signal.SIG_DFL)
        environment = {
            **order.environment,
            "NOTIFY_SOCKET": notify_path,
            "SDSUPERVISE_WORKER_INDEX": str(index),
            **_place_listeners(order.listeners),
        }
        if "WATCHDOG_USEC" in environment:
            environment["WATCHDOG_PID"] = str(os.getpid())
        os.execve(order.executable, order.words, environment)
    except OSError as error:
        sentence = f"Cannot execute {order.executable}: {error.strerror}."
        print(sentence, file=sys.stderr, flush=True)
        try:
            notify_client.send(notify_path, f"{notify_client.FAILED}={sentence}")
        except OSError:
            pass  # nobody is left who would want to know
        return 126 if isinstance(error, PermissionError) else 127  # as shells say


def _place_listeners(listeners: Mapping[str, socket.socket]) -> dict[str, str]:
    """Put /dev/null and the listeners where the command looks for them, close all else, and say so to it."""
    end = FIRST_LISTENER + len(listeners)
    # First out of each other's way, then to their places.
    copies = [fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, end) for listener in listeners.values()]
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    for place, copy in enumerate(copies, FIRST_LISTENER):
        os.dup2(copy, place)
    os.closerange(end, os.sysconf("SC_OPEN_MAX"))
    if not listeners:
        return {}
    return {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(listeners)),
        "LISTEN_FDNAMES": ":".join(listeners),
    }
