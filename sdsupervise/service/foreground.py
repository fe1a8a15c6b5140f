"""A service in the foreground of a terminal, as another user than the terminal's.

A process can type into its controlling terminal (TIOCSTI, ioctl_tty(2)), and so into the caller's shell. Therefore the
service gets a session of its own, and the process that was called (the keeper) stays in the terminal.
"""

from types import FrameType
from typing import NoReturn

from ..linux import process_title, processes
from ..linux.lifeline import Lifeline, Tie
from ..linux.signals import send
from ..linux.unpatched import os, signal

_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ties: list[Tie] = []


def leave_to_keeper() -> None:
    """Return in a child that has no controlling terminal and cannot read from one.

    The keeper stays in the terminal, passes signals on, and ends as the child does. If the keeper is killed, the child
    gets SIGTERM.
    """
    processes.flush()
    lifeline = Lifeline()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDED_ON)
    pid = os.fork()
    if pid:
        os.close(lifeline.reader)
        process_title.show("keeper")
        _keep(processes.Child(pid, os.pidfd_open(pid)))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    lifeline.close_in_child()
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    for fd in (1, 2):
        if os.isatty(fd):  # usually open for reading, too
            only_to_write = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
            os.dup2(only_to_write, fd)
            os.close(only_to_write)
    _ties.append(Tie(lifeline.reader, signal.SIGTERM))


def _keep(child: processes.Child) -> NoReturn:
    def hand_on(number: int, _frame: FrameType | None) -> None:
        # SIGHUP: the terminal is gone. It means something else to the child, which has none; see supervisor/requests.py
        send(child.pidfd, signal.SIGTERM if number == signal.SIGHUP else signal.Signals(number))

    for number in _HANDED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDED_ON)
    _, status = os.waitpid(child.pid, 0)
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
