"""How forked workers learn at once of their supervisor's death, whatever they are doing: by a signal of the kernel.

Only the supervisor holds the write end of a pipe into which no process writes. When it dies, that end closes, and the
kernel signals each process that has asked for it (fcntl(2), F_SETOWN and F_SETSIG).

prctl(PR_SET_PDEATHSIG) is the usual way. But a change of user cancels it, and Python can call it only through ctypes,
which would cost a supervisor half a megabyte.
"""

import fcntl
import functools
import os as os_of_service
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from .unpatched import os, select


class Lifeline:
    """The supervisor's end, made before its first worker."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()

    def close_in_child(self) -> None:
        """In a freshly forked worker, close its copy of the write end, which would hide the supervisor's death."""
        os.close(self._writer)


class Tie:
    """A worker's tie to its supervisor."""

    def __init__(self, reader: int, number: signal.Signals) -> None:
        """Ask the kernel for this signal when the supervisor dies. If it is dead already, only `is_cut` shows it.

        `reader`, a descriptor of ours, is closed. Raises OSError if there is no /proc.
        """
        # The owner of the signal belongs to the open file description, which all workers share. So the pipe is opened
        # anew.
        self._end = os.open(f"/proc/self/fd/{reader}", os.O_RDONLY | os.O_NONBLOCK)
        self._pid, self._inode = os.getpid(), os.fstat(self._end).st_ino
        os.close(reader)
        fcntl.fcntl(self._end, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._end, fcntl.F_SETSIG, number)
        fcntl.fcntl(self._end, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)

    def outlast_exec(self) -> None:
        """Keep the tie for a program that this process executes by os.exec*, so that it is signalled too.

        Otherwise the descriptor would have to be inheritable, and children that do not need it would get it.
        """
        for name in ("execv", "execve"):  # all other os.exec* functions call these
            setattr(os_of_service, name, self._kept_by(getattr(os_of_service, name)))

    def _kept_by(self, execute: Callable[..., NoReturn]) -> Callable[..., NoReturn]:
        @functools.wraps(execute)
        def execute_and_keep(*arguments: Any, **keywords: Any) -> NoReturn:  # noqa: ANN401
            keeps = os.getpid() == self._pid and self._is_open()
            try:
                if keeps:
                    os.set_inheritable(self._end, True)
                execute(*arguments, **keywords)
            finally:  # only if that has failed
                if keeps:
                    os.set_inheritable(self._end, False)

        return execute_and_keep

    def _is_open(self) -> bool:
        """Return whether the descriptor is still the pipe. The service's code may have closed it, and reused its
        number."""
        try:
            return self._end >= 0 and os.fstat(self._end).st_ino == self._inode
        except OSError:
            return False

    @property
    def is_cut(self) -> bool:
        """Whether the supervisor is dead. A signal handler may ask."""
        if self._end < 0:
            return True
        poller = select.poll()
        poller.register(self._end, 0)
        # POLLNVAL, if the service has closed it, does not count
        return any(happened & select.POLLHUP for _, happened in poller.poll(0))

    def close(self) -> None:
        """Close the tie, once it is known to be cut. Otherwise each further worker that ends would cause a signal."""
        if self._is_open():
            os.close(self._end)
        self._end = -1
