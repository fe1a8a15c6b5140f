"""The process between a supervisor and an `exclusive` command, which holds the lock until nothing of the command is
left.

A command cannot be trusted with the lock's descriptor: it may close unknown descriptors, or pass them to a process that
lives for ever. So a small process of ours, the command's parent, keeps the lock. It adopts the command's orphans
(PR_SET_CHILD_SUBREAPER), so that daemons and the children of a killed pool cannot escape it, and exits when the last of
them is dead.

    supervisor                          shim
                                        the command's pid, with its pidfd
    s   the command is being stopped
    k   kill all that is left
                                        the command's wait status, when it is dead
                                        LEFT with a process that it left behind, in words
    end of file: the supervisor is dead; the shim stops the command, and kills it after stop_timeout

The shim takes no orders by signals, because a terminal or `systemctl kill` sends those to every process. The takeover's
KILL_PEER_WORKERS kills the command, never the shim.
"""

import logging
import socket
from collections.abc import Callable

from ..errors import ExitStatus
from ..linux import prctl, process_groups, process_title, processes, signals
from ..linux.event_loop import EventLoop, Timer
from ..linux.leftovers import Leftovers
from ..linux.unpatched import os, signal
from ..settings.settings import Settings

_log = logging.getLogger("sdsupervise")

STOP, KILL = b"s", b"k"
LEFT = b"left "
GRACE_SECONDS = 5.0  # for processes left by a command that was not asked to stop
# These are for the command. What signals every process of a unit, or of a terminal, does not mean the shim.
_NOT_OURS = signals.DEADLY | {signal.SIGPIPE}


def run(settings: Settings, link: socket.socket, gate: tuple[int, int], become: Callable[[], int]) -> int:
    """Run the shim in a freshly forked process; return its exit status, 0 when nothing of the command is left.

    Its child waits until a byte comes through the gate, a pipe of the supervisor, and then calls `become`.
    """

    def be_command() -> int:
        link.close()
        os.close(gate[1])
        process_title.show("worker")  # until the command is executed
        return become() if signals.wait_at(gate[0]) else 1  # 1: the supervisor no longer wants the command

    prctl.adopt_orphans()
    try:
        command = processes.fork(be_command)
    except OSError as error:
        _log.warning("Cannot fork a command: %s", error.strerror)
        return ExitStatus.UNAVAILABLE
    for end in gate:
        os.close(end)
    for number in _NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    _Shim(settings, link, command).run()
    return ExitStatus.OK


class _Shim:
    def __init__(self, settings: Settings, link: socket.socket, command: processes.Child) -> None:
        self._settings, self._link, self._command = settings, link, command
        self._loop = EventLoop()
        self._children = signals.SignalReceiver({signal.SIGCHLD})
        self._stop_signal = signal.Signals[settings.stop_signal]
        self._timer: Timer | None = None
        self._leftovers: Leftovers | None = None
        self._lives = True  # the command itself
        self._stops = self._kills = False
        self._orphaned = False  # the supervisor is dead

    def run(self) -> None:
        link, command = self._link, self._command
        link.setblocking(False)
        try:
            socket.send_fds(link, [b"%d\n" % command.pid], [command.pidfd])
        except OSError:
            pass  # the supervisor is dead; the end of the link shows it
        self._loop.watch(link.fileno(), self._read_link)
        self._loop.watch(self._children.fileno(), self._reap)
        self._loop.call_later(0, self._reap)  # children that died before the loop watched
        self._loop.run()

    def _read_link(self) -> None:
        try:
            words = self._link.recv(64)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        if not words:
            self._loop.unwatch(self._link.fileno())
            self._supervisor_died()
        if STOP in words:
            self._stops = True
            if self._settings.kill_mode == "group" and self._lives:
                processes.signal_group(self._command, self._stop_signal)
        if KILL in words:
            self._kill()

    def _supervisor_died(self) -> None:
        self._orphaned = True
        if not self._lives:
            self._kill()
        elif not self._kills:
            _log.warning("The supervisor is gone, stopping the command (pid %d)", self._command.pid)
            if self._settings.kill_mode == "group":
                processes.signal_group(self._command, self._stop_signal)
            else:
                signals.send(self._command.pidfd, self._stop_signal)
            self._timer = self._loop.expect_within(self._settings.stop_timeout, self._kill)

    def _kill(self) -> None:
        self._kills = True
        if self._leftovers is not None:
            self._leftovers.kill()
        elif self._lives:
            processes.signal_group(self._command, signal.SIGKILL)

    def _reap(self) -> None:
        """Reap dead children, and stop the loop when none is left."""
        self._children.read()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._loop.stop()
                return
            if not pid:
                return
            if pid == self._command.pid:
                self._command_died(status)

    def _command_died(self, status: int) -> None:
        self._lives = False
        try:
            self._link.send(b"%d\n" % status)
        except OSError:
            pass
        self._end_leftovers()  # it starts in the next round, which never comes if nothing is left

    def _end_leftovers(self) -> None:
        me = os.getpid()
        self._leftovers = Leftovers(
            self._loop,
            self._command.pid,
            self._stop_signal,
            None if self._stops else min(GRACE_SECONDS, self._settings.stop_timeout),
            find=lambda: process_groups.children(me),
            gone=self._leftovers_gone,
            found=self._tell_leftover,
        )
        if self._kills or self._orphaned:
            self._leftovers.kill()

    def _tell_leftover(self, process: process_groups.Found) -> None:
        try:
            self._link.send(b"%s%s\n" % (LEFT, str(process).encode()))
        except OSError:
            pass

    def _leftovers_gone(self) -> None:
        self._end_leftovers()  # processes that were adopted after the last look
        self._reap()
