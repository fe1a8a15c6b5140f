"""What stays as pid 1 of a container that has no init: it buries the dead, hands signals on, and ends when the service
does, with its exit status.

A reload puts another process in the supervisor's place. A supervisor that is pid 1 would take the container with it,
and its predecessors, successors and whatever else loses its parent would be zombies there for ever. So pid 1 forks
before anything begins, and the service's supervisors tell it who they are, each over the same socket, which they hand
on in a reload. It believes the kernel of the pid that says so, not the message: it may be root, and they may not. A
number can be another process's by the time it is heard. So it signals only a process of the user who spoke, by a pidfd.
"""

import struct
import time
from typing import NoReturn

from . import process_title, processes, signals
from .unpatched import os, signal, socket

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid; unix(7)
_HERE, _MAIN = b"here", b"main"
_MOST_BYTES = 64
_MOST_MESSAGES = 1000  # that are taken at a time; the kernel keeps fewer
_MOST_SUPERVISORS = 200  # that are known at a time; each costs a descriptor
_STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
_LONGEST_PATIENCE_SECONDS = 3600.0  # for the workers of a supervisor that was killed
_KILLED = 128  # and the signal's number: as shells say it


class Init:
    """A supervisor's end of the socket to pid 1."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def fileno(self) -> int:
        """The socket, for a successor."""
        return self._link.fileno()

    def say_here(self) -> None:
        """This process is a supervisor."""
        self._say(_HERE)

    def say_main(self, stop_timeout: float) -> None:
        """It is the main one, and signals are for it; should it be killed, its workers take so many seconds to stop."""
        self._say(b"%s %d" % (_MAIN, stop_timeout))

    def close_in_children(self) -> None:
        """What this process forks from now on, or what the service's code does, is no supervisor: pid 1 would wait for
        it."""
        os.register_at_fork(after_in_child=self._link.close)

    def _say(self, words: bytes) -> None:
        try:
            self._link.send(words, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass  # pid 1 never ends before us


def leave_to_init() -> Init:
    """Return in a child. This process stays behind, and never returns."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would not tell of anybody's end
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
    """Be its foreground: a Ctrl-C is for us, and must not come a second time from pid 1."""
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
        self._supervisors = {first: os.pidfd_open(first)}  # that live, each with its pidfd; the youngest at the end
        self._main = first
        self._status = 0  # a wait status: of the one that was the main one last
        self._patience = 0.0
        self._stops: dict[int, list[int]] = {}  # that each was handed

    def stay(self) -> NoReturn:
        """Until the last supervisor is gone."""
        while True:
            number = signal.sigwaitinfo(signal.valid_signals()).si_signo
            if number != signal.SIGCHLD:
                self._hand_on(number)
            else:
                self._bury()
                if not self._hear():
                    break
        if os.WIFSIGNALED(self._status):
            self._see_out()
        exit_code = os.waitstatus_to_exitcode(self._status)
        os._exit(exit_code if exit_code >= 0 else _KILLED - exit_code)

    def _bury(self) -> None:
        while True:
            self._hear()  # what the dead have said comes first
            self._forget_those_gone()
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._main and pid in self._supervisors:  # else it is another of that number
                self._status = status
            self._forget(pid)

    def _hear(self) -> bool:
        """Take in what supervisors have said; False if none is left that could say more."""
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
                    self._take_in(data, pid, uid)
        return True

    def _take_in(self, data: bytes, pid: int, uid: int) -> None:
        if pid not in self._supervisors or not _is_there(self._supervisors[pid]):
            self._forget_those_gone()
            if not self._get_to_know(pid, uid):
                return
        word, _, seconds = data.partition(b" ")
        if word == _MAIN:
            self._main = pid
            self._patience = min(float(seconds), _LONGEST_PATIENCE_SECONDS) if seconds.isdigit() else 0.0

    def _get_to_know(self, pid: int, uid: int) -> bool:
        if pid not in self._supervisors and len(self._supervisors) < _MOST_SUPERVISORS:
            pidfd = _open(pid, uid)
            if pidfd is not None:
                self._supervisors[pid] = pidfd
        return pid in self._supervisors

    def _hand_on(self, number: int) -> None:
        self._hear()
        self._forget_those_gone()
        if not self._supervisors:
            return
        pid = self._main if self._main in self._supervisors else next(reversed(self._supervisors))
        if number in _STOPS:
            self._stops.setdefault(pid, []).append(number)
        signals.send(self._supervisors[pid], number)

    def _forget_those_gone(self) -> None:
        """Somebody else than us has buried them, and knows their status. So the main one is another."""
        for pid, pidfd in [*self._supervisors.items()]:
            if self._supervisors.get(pid) == pidfd and not _is_there(pidfd):
                self._forget(pid)
                if pid == self._main and self._supervisors:
                    self._main = next(reversed(self._supervisors))

    def _forget(self, pid: int) -> None:
        if pid in self._supervisors:
            os.close(self._supervisors.pop(pid))
        for number in self._stops.pop(pid, ()):  # it may have been dead when it got them
            self._hand_on(number)

    def _see_out(self) -> None:
        """The supervisor was killed: its workers know, and stop. The kernel kills them when we end."""
        end = time.monotonic() + self._patience
        while (left := end - time.monotonic()) > 0:
            try:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    signal.sigtimedwait({signal.SIGCHLD}, left)
            except ChildProcessError:
                return


def _open(pid: int, uid: int) -> int | None:
    """A pidfd of the process that has spoken as this user; None if it is gone. Whoever has its number by now is of the
    same user, who may signal him without us."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if processes.uid_of(pid) == uid and _is_there(pidfd):  # in this order: the number is still its own
        return pidfd
    os.close(pidfd)
    return None


def _is_there(pidfd: int) -> bool:
    """It lives, or is a child of ours that we have not buried yet."""
    if not processes.is_dead(pidfd):
        return True
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
