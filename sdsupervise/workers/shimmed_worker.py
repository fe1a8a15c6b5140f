"""A worker of an `exclusive` command: a shim stands between it and the supervisor; see shim.py."""

import logging
import os
import signal
import socket
import time

from ..child import shim
from ..input.checked import decimal
from ..input.printable import one_line
from ..linux import process_groups, processes, signals
from ..linux.event_loop import EventLoop
from ..linux.leftovers import Leftovers
from ..settings.settings import Settings
from .command_worker import CommandIdentity, NotifiedWorker
from .notify_socket import NotifySocket
from .worker import WorkerOwner, WorkerState

_log = logging.getLogger("sdsupervise")

_READ_BYTES = 65536
_SHIM_SECONDS = 5.0  # for the shim to kill all its processes; after that it hangs


class ShimmedWorker(NotifiedWorker):
    """Has the command's pid, known before the command is executed. It is gone when its shim is gone.

    A worker that must not run before its release is ready at once, and up when it sends READY=1.
    """

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        child: processes.Child,
        command: processes.Child,
        link: socket.socket,
        notify: NotifySocket,
        gate: int,
        owner: WorkerOwner,
        *,
        index: int,
        identity: CommandIdentity,
        waits: bool,
    ) -> None:
        self._link, self._command = link, command
        self._waits = waits  # it is executed only after its release
        self._up = not waits
        self._command_status: int | None = None
        self._is_killed = False
        self._unread = b""  # the incomplete last line of the shim
        super().__init__(loop, settings, child, notify, gate, owner, index=index, identity=identity)
        self.pid, self.pidfd = command.pid, command.pidfd
        link.setblocking(False)
        # A watched descriptor is also closed in each fork: a copy would hide our death from the shim.
        loop.watch(link.fileno(), self._read_link)
        if waits:
            loop.call_later(0, self._be_ready)

    @property
    def was_up(self) -> bool:
        """See Worker."""
        return super().was_up and self._up

    @property
    def waits_to_start(self) -> bool:
        """See Worker."""
        return not self._up

    @property
    def _starts(self) -> bool:
        return super()._starts or (self.state is WorkerState.SERVING and not self._up)

    @property
    def holder(self) -> processes.Child:
        """See Worker."""
        return self._child

    def facts(self) -> dict[str, object]:
        """See Worker. Adds the shim's pid."""
        facts = {**super().facts(), "shim": self._child.pid}
        return facts if self._up or self.state is not WorkerState.SERVING else {**facts, "state": "starting"}

    def kill(self) -> None:
        """See Worker. The shim kills all that the command started."""
        if self._leftovers is not None:
            self._leftovers.kill()
            return
        self._say(shim.KILL)
        self._signal(signal.SIGKILL)
        if not self._is_killed:  # a repeated call must not postpone the deadline
            self._is_killed = True
            self._expect_within(_SHIM_SECONDS, self._kill_shim)

    def _kill_shim(self) -> None:
        if self.refused:
            return  # the command lives, and the shim holds the lock for it
        signals.send(self._child.pidfd, signal.SIGKILL)

    # --------------------------------------------------------------------------------- messages in both directions

    def _send_go(self) -> None:
        if not self._waits:
            super()._send_go()

    def _send_release(self) -> None:
        if self._waits and self._gate is not None:
            super()._send_go()
            self._expect_ready()
        super()._send_release()

    def _send_stop(self) -> None:
        is_executed = self._gate is None
        if self._settings.kill_mode == "mixed":
            self._say(shim.STOP)
        self._close_gate()  # a command that still waits is never executed
        self._drop_waiters()
        if not (is_executed and self._quiet()):
            self._send_stop_signal()

    def _send_stop_signal(self) -> None:
        number = signal.Signals[self._settings.stop_signal]
        if self._settings.kill_mode == "mixed":
            self._signal(number)
            return
        self._say(shim.STOP)  # the shim signals the group
        if not signals.send(self.pidfd, 0):
            self._be_refused(number)

    def _say(self, word: bytes) -> None:
        try:
            self._link.send(word)
        except OSError:
            pass  # the shim is dead, or so slow that a deadline will end it

    def _be_ready(self) -> None:
        """Report it ready: it only waits for its release."""
        if self.state is WorkerState.STARTING:
            super()._on_ready()

    def _on_ready(self) -> None:
        if self._up or self.state is not WorkerState.SERVING:
            super()._on_ready()
        else:
            self._up = True
            self.failure = ""
            self._watch_pings()
            self._send_release()
            self._owner.worker_up(self)

    def _on_ping(self) -> None:
        if self._up:
            super()._on_ping()
        else:
            self.last_ping = time.monotonic()  # until it is up, the start deadline counts

    def _expect_ready(self) -> None:
        if not self._waits or self.state is WorkerState.SERVING:
            super()._expect_ready()

    # ------------------------------------------------------------------------------------------------- its end

    def _hear_the_rest(self) -> None:
        super()._hear_the_rest()
        self._read_link()

    def _read_link(self) -> None:
        try:
            data = self._link.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.unwatch(self._link.fileno())
        *lines, unread = (self._unread + data).split(b"\n")
        self._unread = unread[-_READ_BYTES:]
        for line in lines:
            if line.startswith(shim.LEFT):
                self._left = self._left or one_line(line.removeprefix(shim.LEFT).decode(errors="replace"))
            else:
                self._command_status = decimal(line.decode("latin-1"), 0xFFFF)

    def _may_have_left(self) -> bool:
        return self.exit_status != 0

    def _see_to_leftovers(self) -> None:
        # The kernel has killed the command by now. Its children must not serve beside the next worker: kill them too.
        _log.warning("The shim (pid %d) of worker (pid %d) %s", self._child.pid, self.pid, self.exit_in_words)
        variable = f"NOTIFY_SOCKET={self._notify.path}"
        self._leftovers = Leftovers(
            self._loop,
            self.pid,
            signal.SIGKILL,
            0.0,
            find=lambda: process_groups.remains(self.pid, variable, self._identity.mark),
            gone=self._be_gone,
        )

    def _close(self) -> None:
        if self._command_status is not None:
            self.exit_status = self._command_status
        self._loop.unwatch(self._link.fileno())
        self._link.close()
        os.close(self.pidfd)
        super()._close()
