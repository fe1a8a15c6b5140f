"""Starts a successor: a process that runs today's code, and is a child of init instead of ours."""

from typing import NoReturn

from ..errors import BeginsHere
from ..linux import limits
from ..linux.channel import Channel
from ..linux.inheritance import Invocation, environment_of_successor
from ..linux.processes import fork
from ..linux.signals import PASSED_ON
from ..linux.unpatched import os, signal


def spawn(invocation: Invocation, channel_fd: int, stderr_fd: int, *, executes: bool = True) -> None:
    """Start a successor with a double fork, so that it is a child of init (systemd) before it runs any code.

    The middle process announces it on the channel by "spawned" with its pidfd, or closes the channel if it cannot.
    The successor writes to stderr_fd until it calls `adopt_stderr`, so the predecessor gets what the interpreter prints
    about broken code. The caller closes both descriptors. This blocks for the two forks only.

    Raises OSError if the kernel refuses to fork. If the successor executes nothing, this raises BeginsHere in it.
    """
    middle = fork(lambda: _be_middle(invocation, channel_fd, stderr_fd, executes=executes))
    try:
        os.waitpid(middle.pid, 0)
    finally:
        os.close(middle.pidfd)


def _be_middle(invocation: Invocation, channel_fd: int, stderr_fd: int, *, executes: bool) -> int:
    channel = Channel.from_fd(channel_fd)
    gate, opener = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(opener)
        _be_successor(invocation, channel, stderr_fd, gate, executes=executes)
    os.close(gate)
    if channel.send("spawned", [os.pidfd_open(pid)], pid=pid):
        os.write(opener, b"g")
    return 0


def _be_successor(invocation: Invocation, channel: Channel, stderr_fd: int, gate: int, *, executes: bool) -> NoReturn:
    try:
        environment = _prepare(invocation, channel, stderr_fd, gate)
        if executes:
            os.execvpe(invocation.argv[0], invocation.argv, environment)
        channel.detach()  # the successor opens it again, by its number
    except OSError as error:
        text = f"Cannot execute {invocation.argv[0]} in {invocation.directory or os.getcwd()}: {error.strerror}."
        channel.send("reason", text=text)
        os._exit(69)
    except BaseException:
        os._exit(69)
    raise BeginsHere(invocation.argv, environment)


def _prepare(invocation: Invocation, channel: Channel, stderr_fd: int, gate: int) -> dict[str, str]:
    """Wait until the middle process is gone, and prepare the exec. Returns the environment."""
    if os.read(gate, 1) != b"g":
        os._exit(0)  # the predecessor gave this successor up
    os.read(gate, 1)  # end of file: the middle process is gone, and this is a child of init
    os.close(gate)
    if invocation.directory:
        os.chdir(invocation.directory)
    handed = os.dup(channel.fileno())  # the caller of spawn() closes the number that it has
    own_stderr = os.dup(2)
    os.dup2(stderr_fd, 2)
    os.set_inheritable(own_stderr, True)
    os.set_inheritable(handed, True)
    limits.restore_in_child()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # `systemctl kill` for a whole unit, as logrotate does, must not kill a starting interpreter. SIGUSR2 stays
    # ignored through the exec, and these signals stay blocked until the supervisor handles them.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    return environment_of_successor(invocation.environment, handed, own_stderr)
