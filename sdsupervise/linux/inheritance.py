"""How this process was called, and how to call it again with today's code.

A deploy swaps a symlink such as /srv/app/current, so everything that names code is kept as it was typed: the
interpreter, the script and the working directory, all unresolved.
"""

import functools
import os
import signal
import sys
from collections.abc import Mapping
from typing import NamedTuple

from .channel import Channel
from .processes import fork

HANDOVER_VARIABLE = "SDSUPERVISE_HANDOVER"  # "CHANNEL:STDERR", two descriptor numbers

# Set anew for each process by whoever starts it, so never inherited.
_NOT_INHERITED = (HANDOVER_VARIABLE, "MAINPID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Invocation(NamedTuple):
    """A command line with its working directory and environment."""

    argv: list[str]
    directory: str  # "" = wherever the process that executes it happens to be
    environment: dict[str, str]


@functools.cache
def this_invocation() -> Invocation:
    """How this process was called: as it stood when first asked, for a --directory or the service may change it."""
    typed = sys.orig_argv[0] if sys.orig_argv else sys.executable  # empty in an embedded interpreter
    # A bare name was found in PATH (as by `#!/usr/bin/env python3`); one with a slash stays as typed, for
    # sys.executable resolves a relative one against the real directory behind a symlink.
    interpreter = typed if "/" in typed else sys.executable
    return Invocation([interpreter, *sys.orig_argv[1:]], named_directory(), dict(os.environ))


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


def bear(invocation: Invocation, channel_fd: int, stderr_fd: int) -> None:
    """Start a successor, forked twice, so that it is a child of init (systemd) before it runs a line of code.

    The middle process announces it on the channel as "born" with its pidfd, or closes the channel where it cannot.
    The successor writes to stderr_fd until it calls `adopt_stderr`, so that whatever the interpreter says of broken
    code reaches the predecessor. Both descriptors stay the caller's to close. Blocks for the two forks only.

    Raises OSError when the kernel will not fork.
    """
    middle = fork(lambda: _be_middle(invocation, channel_fd, stderr_fd))
    try:
        os.waitpid(middle.pid, 0)
    finally:
        os.close(middle.pidfd)


def _be_middle(invocation: Invocation, channel_fd: int, stderr_fd: int) -> int:
    channel = Channel.from_fd(channel_fd)
    gate, opener = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(opener)
        _be_successor(invocation, channel, stderr_fd, gate)
    os.close(gate)
    if channel.send("born", [os.pidfd_open(pid)], pid=pid):
        os.write(opener, b"g")
    return 0


def _be_successor(invocation: Invocation, channel: Channel, stderr_fd: int, gate: int) -> None:
    try:
        if os.read(gate, 1) != b"g":
            os._exit(0)  # nobody wants us any more
        os.read(gate, 1)  # end of file: the middle process is gone, we are init's child now
        if invocation.directory:
            os.chdir(invocation.directory)
        own_stderr = os.dup(2)
        os.dup2(stderr_fd, 2)
        os.set_inheritable(own_stderr, True)
        os.set_inheritable(channel.fileno(), True)
        environment = {name: value for name, value in invocation.environment.items() if name not in _NOT_INHERITED}
        environment[HANDOVER_VARIABLE] = f"{channel.fileno()}:{own_stderr}"
        if "WATCHDOG_USEC" in environment:
            environment["WATCHDOG_PID"] = str(os.getpid())
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        # SIGUSR2 stays ignored through the exec: `systemctl kill -s USR2` must not kill an interpreter starting up.
        os.execvpe(invocation.argv[0], invocation.argv, environment)
    except OSError as error:
        text = f"Cannot execute {invocation.argv[0]} in {invocation.directory or os.getcwd()}: {error.strerror}."
        channel.send("reason", text=text)
    finally:
        os._exit(69)


def inherited_handover(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """The channel's and the kept stderr's descriptor that a predecessor left us; None for a first generation.

    Raises ValueError for a variable that is not two numbers.
    """
    value = environment.get(HANDOVER_VARIABLE)
    if value is None:
        return None
    channel, _, own_stderr = value.partition(":")
    return int(channel), int(own_stderr)


def adopt_stderr(own_stderr: int) -> None:
    """Leave the predecessor's pipe for the standard error we were born with."""
    sys.stderr.flush()
    os.dup2(own_stderr, 2)
    os.close(own_stderr)
