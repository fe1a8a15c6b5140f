"""Checks of descriptors that another process has sent, before they are used."""

import fcntl
import stat

from .unpatched import os, select, signal, socket


def is_pidfd_of(fd: int, pid: int) -> bool:
    """Return whether this is a pidfd of the process with this pid, in any pid namespace, or of a dead process."""
    try:
        with open(f"/proc/self/fdinfo/{fd}") as file:
            facts = dict(line.split(":", 1) for line in file.read(4096).splitlines() if ":" in line)
    except OSError:
        return _can_be_signalled(fd)  # there is no /proc
    pids = {*facts.get("Pid", "").split(), *facts.get("NSpid", "").split()}
    return bool(pids & {str(pid), "-1"})


def is_pipe_to_read(fd: int) -> bool:
    """Return whether this is the read end of a pipe. Raises OSError."""
    return stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def is_pipe_to_write(fd: int) -> bool:
    """Return whether this is the write end of a pipe. Raises OSError."""
    return stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY


def is_place_of_file(fd: int) -> bool:
    """Return whether this is an O_PATH descriptor of a regular file. Raises OSError."""
    return stat.S_ISREG(os.fstat(fd).st_mode) and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH)


def is_socket(fd: int) -> bool:
    """Return whether this is a socket of any kind. Raises OSError."""
    return stat.S_ISSOCK(os.fstat(fd).st_mode)


def is_listener(fd: int) -> bool:
    """Return whether this is a listening stream socket. Raises OSError."""
    return _is(fd, socket.SOCK_STREAM) and _option(fd, socket.SO_ACCEPTCONN) == 1


def is_control_listener(fd: int) -> bool:
    """Return whether this is a listening UNIX stream socket. Raises OSError."""
    return _is(fd, socket.SOCK_STREAM, socket.AF_UNIX) and _option(fd, socket.SO_ACCEPTCONN) == 1


def is_connection(fd: int) -> bool:
    """Return whether this is a UNIX stream socket that does not listen. Raises OSError."""
    return _is(fd, socket.SOCK_STREAM, socket.AF_UNIX) and _option(fd, socket.SO_ACCEPTCONN) == 0


def is_channel(fd: int) -> bool:
    """Return whether this is a UNIX socket of type SOCK_SEQPACKET. Raises OSError."""
    return _is(fd, socket.SOCK_SEQPACKET, socket.AF_UNIX)


def is_readable(fd: int) -> bool:
    """Return whether data, or the end, can be read without blocking."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))


def _is(fd: int, kind: int, family: int | None = None) -> bool:
    return is_socket(fd) and _option(fd, socket.SO_TYPE) == kind and family in (None, _option(fd, socket.SO_DOMAIN))


def _option(fd: int, option: int) -> int:
    end = socket.socket(fileno=fd)
    try:
        return end.getsockopt(socket.SOL_SOCKET, option)
    finally:
        end.detach()


def _can_be_signalled(fd: int) -> bool:
    try:
        signal.pidfd_send_signal(fd, 0)
    except ProcessLookupError:
        return True
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
