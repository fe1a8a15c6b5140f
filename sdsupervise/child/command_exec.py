"""A worker that is any command: what a freshly forked process does until it executes it."""

import fcntl
import socket
import sys
from collections.abc import Mapping
from typing import NamedTuple

from ..linux import prctl, process_groups, processes
from ..linux.inheritance import without_supervisors_own
from ..linux.unpatched import os, signal
from ..systemd import notify_client

FIRST_LISTENER = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
# CPython ignores the first two; the others are ignored by us (processes.fork). A command gets the dispositions that a
# shell would give it. An ignored SIGUSR2 would survive the exec, and a shell script could never trap it. So `systemctl
# kill -s USR2` without --kill-whom=main reaches a command under a supervisor exactly as it does without one. Under
# systemd SIGPIPE stays ignored, as systemd ignores it in every service; nobody can see what a Python program inherited.
_NOT_DEFAULT_IN_OUR_CHILDREN = (signal.SIGPIPE, signal.SIGXFSZ, *processes.IGNORED_IN_CHILDREN)


class Order(NamedTuple):
    """What to execute."""

    executable: str  # a path
    words: tuple[str, ...]
    environment: Mapping[str, str]
    listeners: Mapping[str, socket.socket]  # they become descriptors 3, 4, ... in this order
    ignores_sigpipe: bool = False


def environment_of_commands(inherited: Mapping[str, str], *, generation: int, worker_timeout: float) -> dict[str, str]:
    """Return the environment of all commands of a generation, from the supervisor's own. `worker_timeout` is in
    seconds."""
    environment = without_supervisors_own(inherited)
    environment.setdefault("PYTHONUNBUFFERED", "1")  # a print() is in the journal at once
    environment["SDSUPERVISE_GENERATION"] = str(generation)
    if worker_timeout:
        environment["WATCHDOG_USEC"] = str(round(worker_timeout * 1e6))
    return environment


def become(
    order: Order, *, index: int, notify_path: str, mark: int, parent_pid: int, at_its_death: signal.Signals
) -> int:
    """Execute the command, as leader of a new session and with a mark. Return the exit status if that fails.

    The failure is first sent to the supervisor. `at_its_death` is the signal that the kernel sends us when our parent
    dies; its pid must still be `parent_pid`.
    """
    try:
        os.setsid()
        if not prctl.die_with_parent(parent_pid, at_its_death):
            return 1
        process_groups.set_mark(mark)
        for number in _NOT_DEFAULT_IN_OUR_CHILDREN:
            signal.signal(number, signal.SIG_DFL)
        if order.ignores_sigpipe:
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
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
            pass  # no supervisor is left
        return 126 if isinstance(error, PermissionError) else 127  # as shells do


def _place_listeners(listeners: Mapping[str, socket.socket]) -> dict[str, str]:
    """Put /dev/null and the listeners at their descriptors, close all others, and return the variables that say so."""
    end = FIRST_LISTENER + len(listeners)
    # First copy them above all their places, then put each into its place.
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
