"""A process that stays as pid 1 of a container that has no init. It reaps children, passes signals on, and exits with
the service, with the same exit status.

A reload puts another process in the supervisor's place. If a supervisor were pid 1, its end would end the container,
and its predecessors, successors and all other orphans would stay as zombies. So pid 1 forks before the service starts.
The service's supervisors report themselves to it, each over the same socket, which a reload hands over.

Pid 1 may be root, and the supervisors may not be. So it takes the sender's pid from the kernel, not from the message.
That number may belong to another process by the time the message is read. So it signals only a process of the sender's
user, through a pidfd.
"""

import struct
import time
from typing import NoReturn

from . import process_title, processes, signals
from .unpatched import os, signal, socket

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid; unix(7)
_HERE, _MAIN = b"here", b"main"
_MOST_BYTES = 64
_MOST_MESSAGES = 1000  # read at a time; the kernel keeps fewer
_MOST_SUPERVISORS = 200  # known at a time; each costs a descriptor
_STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
_LONGEST_PATIENCE_SECONDS = 3600.0  # for the workers of a supervisor that was killed
_KILLED = 128  # plus the signal's number, as shells report it


class Init:
    """A supervisor's end of the socket to pid 1."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def fileno(self) -> int:
        """The descriptor of the socket, for a successor."""
        return self._link.fileno()

    def say_here(self) -> None:
        """Tell pid 1 that this process is a supervisor."""
        self._say(_HERE)

    def say_main(self, stop_timeout: float) -> None:
        """Tell pid 1 that this is the main supervisor, which gets the signals.

        If it is killed, pid 1 waits up to `stop_timeout` seconds for its workers.
        """
        self._say(b"%s %d" % (_MAIN, stop_timeout))

    def close_in_children(self) -> None:
        """Close the socket in every later child of this process, also those of the service's code: they are no
        supervisors.

        Otherwise pid 1 would wait for them.
        """
        os.register_at_fork(after_in_child=self._link.close)

    def _say(self, words: bytes) -> None:
        try:
            self._link.send(words, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass  # pid 1 never ends before us


def leave_to_init() -> Init:
    """Fork. Return in the child; the parent stays as pid 1 and never returns."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, the kernel reports no child's end
    processes.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = os.fork()
    if pid:
        theirs.close()
        process_title.show("init")
        _PidOne(ours, pid).stay()
    ours.close()
    _take_terminal()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Init(theirs)


def _take_terminal() -> None:
    """Become the terminal's foreground group: then Ctrl-C reaches us directly, and pid 1 does not pass it on again."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpid())
    except OSError:
        pass
    finally:
        os.close(terminal)


class _PidOne:
    def __init__(self, link: socket.socket, first: int) -> None:
        self._link = link
        self._supervisors = {first: os.pidfd_open(first)}  # the living ones, each with its pidfd; the youngest is last
        self._main = first
        self._status = 0  # a wait status: of the supervisor that was the main one last
        self._patience = 0.0
        self._stops: dict[int, list[int]] = {}  # the stop signals that each supervisor got

    def stay(self) -> NoReturn:
        """Run until the last supervisor is gone, then exit."""
        while True:
            number = signal.sigwaitinfo(signal.valid_signals()).si_signo
            if number != signal.SIGCHLD:
                self._pass_on(number)
            else:
                self._reap()
                if not self._read_messages():
                    break
        if os.WIFSIGNALED(self._status):
            self._wait_for_workers()
        exit_code = os.waitstatus_to_exitcode(self._status)
        os._exit(exit_code if exit_code >= 0 else _KILLED - exit_code)

    def _reap(self) -> None:
        while True:
            self._read_messages()  # first read what the dead processes have sent
            self._forget_those_gone()
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._main and pid in self._supervisors:  # else it is another process with that number
                self._status = status
            self._forget(pid)

    def _read_messages(self) -> bool:
        """Read what supervisors have sent; return False if no supervisor is left to send more."""
        for _ in range(_MOST_MESSAGES):
            try:
                data, ancillary, _, _ = self._link.recvmsg(
                    _MOST_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size), socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return True
            if not data:
                return False
            for level, kind, credentials in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid, uid, _ = _CREDENTIALS.unpack(credentials)
                    self._handle_message(data, pid, uid)
        return True

    def _handle_message(self, data: bytes, pid: int, uid: int) -> None:
        if pid not in self._supervisors or not _is_there(self._supervisors[pid]):
            self._forget_those_gone()
            if not self._add_supervisor(pid, uid):
                return
        word, _, seconds = data.partition(b" ")
        if word == _MAIN:
            self._main = pid
            self._patience = min(float(seconds), _LONGEST_PATIENCE_SECONDS) if seconds.isdigit() else 0.0

    def _add_supervisor(self, pid: int, uid: int) -> bool:
        if pid not in self._supervisors and len(self._supervisors) < _MOST_SUPERVISORS:
            pidfd = _open(pid, uid)
            if pidfd is not None:
                self._supervisors[pid] = pidfd
        return pid in self._supervisors

    def _pass_on(self, number: int) -> None:
        self._read_messages()
        self._forget_those_gone()
        if not self._supervisors:
            return
        pid = self._main if self._main in self._supervisors else next(reversed(self._supervisors))
        if number in _STOPS:
            self._stops.setdefault(pid, []).append(number)
        signals.send(self._supervisors[pid], number)

    def _forget_those_gone(self) -> None:
        """Forget the supervisors whose end another process has waited for. The main supervisor is then another one."""
        for pid, pidfd in [*self._supervisors.items()]:
            if self._supervisors.get(pid) == pidfd and not _is_there(pidfd):
                self._forget(pid)
                if pid == self._main and self._supervisors:
                    self._main = next(reversed(self._supervisors))

    def _forget(self, pid: int) -> None:
        if pid in self._supervisors:
            os.close(self._supervisors.pop(pid))
        for number in self._stops.pop(pid, ()):  # it may have been dead already when it got them
            self._pass_on(number)

    def _wait_for_workers(self) -> None:
        """Wait for the workers of a supervisor that was killed: they notice, and stop. The kernel kills the rest when
        we exit."""
        end = time.monotonic() + self._patience
        while (left := end - time.monotonic()) > 0:
            try:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    signal.sigtimedwait({signal.SIGCHLD}, left)
            except ChildProcessError:
                return


def _open(pid: int, uid: int) -> int | None:
    """Return a pidfd of the process that sent a message as this user; None if it is gone.

    If the pid was reused, the new process belongs to the same user, who may signal it anyway.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if processes.uid_of(pid) == uid and _is_there(pidfd):  # in this order, because the pid must still be its own
        return pidfd
    os.close(pidfd)
    return None


def _is_there(pidfd: int) -> bool:
    """Return whether the process lives, or is a child of ours that we have not waited for yet."""
    if not processes.is_dead(pidfd):
        return True
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
