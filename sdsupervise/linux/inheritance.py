"""How this process was called, which is how its successor will be, and what a predecessor left it.

A deploy swaps a symlink such as /srv/app/current, so everything that names code is kept as it was typed: the
interpreter, the script and the working directory, all unresolved.
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
RUN_DIRECTORY_VARIABLE = "SDSUPERVISE_RUN_DIRECTORY"  # the one we made; see instances/run_directory.py
EXECUTED_ANEW_VARIABLE = "SDSUPERVISE_EXECUTED_ANEW"  # by itself, and why; see code/early_code.py

_MOST_FD = 2**31 - 1

# Set anew for each process by whoever starts it, so never inherited.
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
    directory: str  # "" = wherever the process that executes it happens to be
    environment: dict[str, str]


@functools.cache
def this_invocation() -> Invocation:
    """How this process was called: as it stood when first asked, for a --directory or the service may change it.

    From then on what only a supervisor may have is in the environment that this returns, and no longer in our own:
    whatever the service's code starts, even while it is imported, finds neither our variables nor the descriptors of
    the hand-over.
    """
    typed = sys.orig_argv[0] if sys.orig_argv else sys.executable  # empty in an embedded interpreter
    # A bare name was found in PATH (as by `#!/usr/bin/env python3`); one with a slash stays as typed, for
    # sys.executable resolves a relative one against the real directory behind a symlink.
    interpreter = typed if "/" in typed else sys.executable
    invocation = Invocation([interpreter, *sys.orig_argv[1:]], named_directory(), dict(os.environ))
    for fd in re.findall(r"\d+", os.environ.pop(HANDOVER_VARIABLE, "")):
        try:
            os.set_inheritable(int(fd), False)
        except (OSError, OverflowError):
            pass  # nobody has set this who knows what it is for; see inherited_handover
    os.environ.pop(RUN_DIRECTORY_VARIABLE, None)
    if HANDOVER_VARIABLE not in invocation.environment:  # nobody has made one for us yet; see run_directory.provide
        invocation.environment.pop(RUN_DIRECTORY_VARIABLE, None)
    return invocation


def named_directory() -> str:
    """The working directory by the name it was entered by: $PWD where that is the same place; "" if it is gone."""
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
    """Where the service's code was looked for, by name: as it stood when first asked, as with this_invocation."""
    return named_directory()


def environment_of_successor(environment: Mapping[str, str], channel_fd: int, own_stderr: int) -> dict[str, str]:
    """What a successor, which this process is about to become, gets of an environment; see inherited_handover."""
    kept = {name: value for name, value in environment.items() if name not in _NOT_INHERITED}
    kept[HANDOVER_VARIABLE] = f"{channel_fd}:{own_stderr}"
    if "WATCHDOG_USEC" in kept:
        kept["WATCHDOG_PID"] = str(os.getpid())
    return kept


def without_supervisors_own(environment: Mapping[str, str]) -> dict[str, str]:
    """What a program of another's gets of an environment: nothing that systemd, or a predecessor, says to us."""
    return {name: value for name, value in environment.items() if name not in _SUPERVISORS_OWN}


def inherited_handover(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """The channel's and the kept stderr's descriptor that a predecessor left us, by what this_invocation() knows of our
    environment; None for a first generation.

    Raises HandoverError for a variable that is not two numbers.
    """
    value = environment.get(HANDOVER_VARIABLE)
    if value is None:
        return None
    channel, _, own_stderr = value.partition(":")
    numbers = decimal(channel, _MOST_FD), decimal(own_stderr, _MOST_FD)
    if numbers[0] is None or numbers[1] is None:
        raise HandoverError(f"${HANDOVER_VARIABLE} is {value!r}, which no supervisor of ours sets; unset it.")
    return numbers[0], numbers[1]


def is_successor() -> bool:
    """This process was started for a reload."""
    return HANDOVER_VARIABLE in this_invocation().environment


def fill_standard_descriptors() -> None:
    """Where standard input, output or error was closed, put /dev/null: what we open must not get their numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def adopt_stderr(own_stderr: int) -> None:
    """Leave the predecessor's pipe for the standard error we were born with."""
    sys.stderr.flush()
    os.dup2(own_stderr, 2)
    os.close(own_stderr)
