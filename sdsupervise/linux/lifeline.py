"""How forked workers learn of their supervisor's death at once, whatever they are doing: the kernel signals them.

Of a pipe that nobody writes to the supervisor alone holds the writing end. However it dies, that end closes, and the
kernel signals each process that has asked for it (fcntl(2), F_SETOWN and F_SETSIG).

prctl(PR_SET_PDEATHSIG) is the usual way, but a change of user undoes it, and Python can only call it by ctypes, which
would cost a supervisor half a megabyte.
"""

import fcntl
import functools
import os as os_of_service
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from .unpatched import os, select


class Lifeline:
    """A supervisor's, made before its first worker."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()

    def close_in_child(self) -> None:
        """In a freshly forked worker: from now on it does not keep others from knowing."""
        os.close(self._writer)


class Tie:
    """A worker's, to the supervisor at the other end."""

    def __init__(self, reader: int, number: signal.Signals) -> None:
        """Have the kernel send us this signal when the supervisor dies. If it is dead already, only `is_cut` tells.

        `reader`, a descriptor of ours, is closed. Raises OSError where there is no /proc.
        """
        # Opened anew: whom to signal belongs to what was opened, which all workers would else share.
        self._end = os.open(f"/proc/self/fd/{reader}", os.O_RDONLY | os.O_NONBLOCK)
        self._pid, self._inode = os.getpid(), os.fstat(self._end).st_ino
        os.close(reader)
        fcntl.fcntl(self._end, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._end, fcntl.F_SETSIG, number)
        fcntl.fcntl(self._end, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)

    def outlast_exec(self) -> None:
        """A program that this process executes in its place, by os.exec*, is signalled, too. Without this the
        descriptor would have to be inheritable, and children that have no use for it would get it."""
        for name in ("execv", "execve"):  # which all others call
            setattr(os_of_service, name, self._kept_by(getattr(os_of_service, name)))

    def _kept_by(self, execute: Callable[..., NoReturn]) -> Callable[..., NoReturn]:
        @functools.wraps(execute)
        def execute_and_keep(*arguments: Any, **keywords: Any) -> NoReturn:  # noqa: ANN401
            keeps = os.getpid() == self._pid and self._is_open()
            try:
                if keeps:
                    os.set_inheritable(self._end, True)
                execute(*arguments, **keywords)
            finally:  # where that has failed
                if keeps:
                    os.set_inheritable(self._end, False)

        return execute_and_keep

    def _is_open(self) -> bool:
        """The service's code has not closed it; a file of its own may have the number by now."""
        try:
            return self._end >= 0 and os.fstat(self._end).st_ino == self._inode
        except OSError:
            return False

    @property
    def is_cut(self) -> bool:
        """The supervisor is dead. May be asked in a signal handler."""
        if self._end < 0:
            return True
        poller = select.poll()
        poller.register(self._end, 0)
        return any(happened & select.POLLHUP for _, happened in poller.poll(0))  # not where the service has closed it

    def let_go(self) -> None:
        """It is cut, and we know: no signal more, where there would be one for each other worker that ends."""
        if self._is_open():
            os.close(self._end)
        self._end = -1
