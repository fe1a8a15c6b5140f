"""How this process was called, which is how its successor is called, and what a predecessor passed to it.

A deploy swaps a symlink such as /srv/app/current. So every path to code stays as it was typed, with its symlinks: the
interpreter, the script and the working directory.
"""

import functools
import re
import sys
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import HandoverError
from ..input.checked import decimal
from .unpatched import os

HANDOVER_VARIABLE = "SDSUPERVISE_HANDOVER"  # "CHANNEL:STDERR", two descriptor numbers
RUN_DIRECTORY_VARIABLE = "SDSUPERVISE_RUN_DIRECTORY"  # the directory that we made; see instances/run_directory.py
# this process executed itself again; the value says for which change, see code/early_code.py
EXECUTED_ANEW_VARIABLE = "SDSUPERVISE_EXECUTED_ANEW"

_MOST_FD = 2**31 - 1

# Set for each process by the process that starts it, so never inherited.
_NOT_INHERITED = (
    *(HANDOVER_VARIABLE, EXECUTED_ANEW_VARIABLE),
    *("MAINPID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"),
)

_SUPERVISORS_OWN = (
    *_NOT_INHERITED,
    *("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE"),
    RUN_DIRECTORY_VARIABLE,
)


class Invocation(NamedTuple):
    """A command line with its working directory and environment."""

    argv: list[str]
    directory: str  # "": the directory in which the executing process is
    environment: dict[str, str]


@functools.cache
def this_invocation() -> Invocation:
    """Return how this process was called. The first call fixes the answer, because a --directory or the service may
    change it.

    After that, the variables for supervisors are only in the returned environment, not in our own. So programs that the
    service's code starts, even during its import, get neither our variables nor the descriptors of the handover.
    """
    typed = sys.orig_argv[0] if sys.orig_argv else sys.executable  # empty in an embedded interpreter
    # A bare name was found in PATH (as by `#!/usr/bin/env python3`). A name with a slash stays as typed, because
    # sys.executable resolves a relative one against the real directory behind a symlink.
    interpreter = typed if "/" in typed else sys.executable
    invocation = Invocation([interpreter, *sys.orig_argv[1:]], named_directory(), dict(os.environ))
    for fd in re.findall(r"\d+", os.environ.pop(HANDOVER_VARIABLE, "")):
        try:
            os.set_inheritable(int(fd), False)
        except (OSError, OverflowError):
            pass  # no supervisor has set this; see inherited_handover
    os.environ.pop(RUN_DIRECTORY_VARIABLE, None)
    # no supervisor has made a directory for us yet; see run_directory.provide
    if HANDOVER_VARIABLE not in invocation.environment:
        invocation.environment.pop(RUN_DIRECTORY_VARIABLE, None)
    return invocation


def named_directory() -> str:
    """Return the working directory as it was entered: $PWD if it is the same directory; "" if it was removed."""
    name = os.environ.get("PWD", "")
    try:
        here = os.getcwd()
    except FileNotFoundError:
        return ""
    try:
        return name if name and os.path.samefile(name, here) else here
    except OSError:
        return here


@functools.cache
def directory_of_code() -> str:
    """Return where the service's code is looked up. The first call fixes the answer, as in this_invocation."""
    return named_directory()


def environment_of_successor(environment: Mapping[str, str], channel_fd: int, own_stderr: int) -> dict[str, str]:
    """Return the environment for the successor that this process is about to become; see inherited_handover."""
    kept = {name: value for name, value in environment.items() if name not in _NOT_INHERITED}
    kept[HANDOVER_VARIABLE] = f"{channel_fd}:{own_stderr}"
    if "WATCHDOG_USEC" in kept:
        kept["WATCHDOG_PID"] = str(os.getpid())
    return kept


def without_supervisors_own(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that is not ours: without the messages of systemd, or of a predecessor, to
    us."""
    return {name: value for name, value in environment.items() if name not in _SUPERVISORS_OWN}


def inherited_handover(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the descriptors that a predecessor passed: the channel, and the original standard error.

    `environment` is that of this_invocation(). Returns None in a first generation. Raises HandoverError for a variable
    that is not two numbers.
    """
    value = environment.get(HANDOVER_VARIABLE)
    if value is None:
        return None
    channel, _, own_stderr = value.partition(":")
    numbers = decimal(channel, _MOST_FD), decimal(own_stderr, _MOST_FD)
    if numbers[0] is None or numbers[1] is None:
        raise HandoverError(f"${HANDOVER_VARIABLE} is {value!r}, which no supervisor sets; unset it.")
    return numbers[0], numbers[1]


def is_successor() -> bool:
    """Return whether this process was started for a reload."""
    return HANDOVER_VARIABLE in this_invocation().environment


def fill_standard_descriptors() -> None:
    """Open /dev/null for each closed descriptor of 0, 1 and 2, so that later files do not get these numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def adopt_stderr(own_stderr: int) -> None:
    """Replace the predecessor's pipe by the standard error that this process started with."""
    sys.stderr.flush()
    os.dup2(own_stderr, 2)
    os.close(own_stderr)
