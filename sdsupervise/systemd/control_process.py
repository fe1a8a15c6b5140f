"""The control process of our unit: the process that systemd runs for ExecReload= now. It may start a successor.

A worker has the uid of its supervisor, and can repeat what it reads in its environment. A successor gets the listeners
and the lock. So a caller that wants to start the successor must be root, or be the control process according to
systemd.
"""

import signal
from collections.abc import Callable

from ..input.checked import MOST_PID, decimal
from ..linux import processes, signals
from ..linux.event_loop import EventLoop
from ..linux.inheritance import without_supervisors_own
from ..linux.unpatched import os
from . import manager
from .own_programs import program, search_path
from .units import unit_of

_SECONDS = 5.0  # systemd answers at once, unless a daemon-reload keeps it busy
_MOST_BYTES = 64


def ask_control_pid(loop: EventLoop, on_answer: Callable[[int], None]) -> None:
    """Ask systemd for the pid of the control process, by `systemctl show --property=ControlPID`.

    `on_answer` gets the pid later; 0 if there is no control process, or if systemd does not answer within 5 seconds.
    """
    _Question(loop, on_answer)


class _Question:
    def __init__(self, loop: EventLoop, on_answer: Callable[[int], None]) -> None:
        self._loop, self._on_answer = loop, on_answer
        unit, of_user = unit_of(os.getpid())
        words = manager.systemctl("show", "--property=ControlPID", "--value", "--", unit, of_user=of_user)
        words[0] = program(words[0])
        self._reader, writer = os.pipe()
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            pid = os.posix_spawnp(
                words[0],
                words,
                {**without_supervisors_own(os.environ), **search_path()},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, fd, as_fd) for fd, as_fd in ((nowhere, 0), (writer, 1), (nowhere, 2))
                ],
                setsigmask=(),
                setsigdef=[signal.SIGPIPE, *processes.IGNORED_IN_CHILDREN],
            )
        except OSError:  # there is no systemctl
            os.close(self._reader)
            loop.call_later(0, lambda: on_answer(0))
            return
        finally:
            os.close(writer)
            os.close(nowhere)
        self._child = processes.Child(pid, os.pidfd_open(pid))
        self._timer = loop.call_later(_SECONDS, self._end)
        loop.watch(self._child.pidfd, self._reap)

    def _end(self) -> None:
        signals.send(self._child.pidfd, signal.SIGKILL)

    def _reap(self) -> None:
        status = processes.reap(self._child)
        if status is None:
            return
        os.set_blocking(self._reader, False)
        try:
            said = os.read(self._reader, _MOST_BYTES).strip()
        except BlockingIOError:
            said = b""
        self._timer.cancel()
        self._loop.unwatch(self._child.pidfd)
        os.close(self._child.pidfd)
        os.close(self._reader)
        self._on_answer(decimal(said.decode("latin-1"), MOST_PID) or 0 if status == 0 else 0)
