"""Away from the terminal that a daemon was started in."""

from ..errors import ExitStatus
from ..linux import processes
from ..linux.privileges import Identity
from ..linux.unpatched import os
from ..systemd import logs


def is_on_terminal_of_another(identity: Identity | None) -> bool:
    """This process has a terminal, and is to become another user than the one whose terminal it is."""
    if identity is None or identity.uid == os.geteuid() or os.geteuid() != 0:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def go_to_background() -> int:
    """Detach from the terminal. The process that was called waits until the daemon closes the descriptor that is
    returned there (its pid is in the file by then), and ends."""
    processes.flush()
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.read(reader, 1)
        os._exit(ExitStatus.OK)  # exit functions that the service's code has registered are the daemon's
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
