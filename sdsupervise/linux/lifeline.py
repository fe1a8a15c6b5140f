"""How forked workers learn of their supervisor's death at once, whatever they are doing: the kernel signals them.

Of a pipe that nobody writes to the supervisor alone holds the writing end. However it dies, that end closes, and the
kernel signals each process that has asked for it (fcntl(2), F_SETOWN and F_SETSIG).

prctl(PR_SET_PDEATHSIG) is the usual way, but a change of user undoes it, and Python can only call it by ctypes, which
would cost a supervisor half a megabyte.
"""

import fcntl
import signal

from ..unpatched import os, select


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
        os.close(reader)
        os.set_inheritable(self._end, True)  # what this process executes in its place is to be signalled, too
        fcntl.fcntl(self._end, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._end, fcntl.F_SETSIG, number)
        fcntl.fcntl(self._end, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)

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
        end, self._end = self._end, -1
        if end >= 0:
            os.close(end)
