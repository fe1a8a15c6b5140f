"""Detaches a daemon from the terminal that it was started in."""

from ..errors import ExitStatus
from ..linux import processes
from ..linux.privileges import Identity
from ..linux.unpatched import os
from ..systemd import logs


def is_on_terminal_of_another(identity: Identity | None) -> bool:
    """Whether this process has a terminal, and will become another user than the terminal's."""
    if identity is None or identity.uid == os.geteuid() or os.geteuid() != 0:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def go_to_background() -> int:
    """Detach from the terminal, and return in the daemon.

    The process that was called waits until the daemon closes the returned descriptor, then exits with status 0. The
    pid file names the daemon by then.
    """
    processes.flush()
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.read(reader, 1)
        os._exit(ExitStatus.OK)  # skips exit functions of the service's code: they belong to the daemon
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)
    logs.follow()
    return writer
