"""A worker that is a command, and reports its state by sd_notify(3)."""

import logging
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from ..core.respawn import starts_again
from ..errors import ProtocolError
from ..input.checked import decimal
from ..input.printable import one_line
from ..linux import process_groups, processes, signals
from ..linux.channel import Sender
from ..linux.descriptors import is_pipe_to_write
from ..linux.event_loop import EventLoop, Timer
from ..linux.leftovers import Leftovers
from ..linux.unpatched import os
from ..settings.settings import Settings
from ..systemd.catalog import CatalogEntry, entry_fields
from ..systemd.notify_client import ANSWER, ASKS_ANSWER, FAILED
from .notify_socket import Notification, NotifySocket, may_speak
from .worker import Worker, WorkerOwner, WorkerState

_log = logging.getLogger("sdsupervise")

LONGEST_EXTENSION = 86400.0  # seconds; the most that one EXTEND_TIMEOUT_USEC= can give, and a worker may ask again
_MOST_AT_ONCE = 64  # notifications of one worker per turn of the event loop
_MOST_AT_ITS_END = 1000  # read after its death: net.unix.max_dgram_qlen is 10, and 512 under systemd
_MOST_WAITERS = 4  # that wait for the worker's release
_BETWEEN_REQUESTS_SECONDS = 0.1  # between two requests for more time
_MOST_MICROSECONDS = 2**64 - 1
_FAILED, _ASKS_ANSWER = FAILED.encode(), ASKS_ANSWER.encode()
_SHOWN_CHARACTERS = 1000
_ENDED_BY_US = ("hung", "start timeout")
_GRACE_SECONDS = 5.0  # for what a dead command left behind to stop; a stop has its own, longer deadline


class CommandIdentity(NamedTuple):
    """What identifies one running command."""

    program: str  # its absolute path
    mark: int  # inherited by all that it starts; see process_groups.py


class NotifiedWorker(Worker):
    """Leads a process group, and is gone when no process of the group is left.

    With kill_mode "mixed" a stop signal goes to the first process only. It stops its own children: some programs lose
    work otherwise. For example, a child in celery's pool drops its task at SIGTERM, while its parent would wait for the
    task. The processes that remain when the first one is dead were not cared for, as under a shell without `exec`. They
    get the signal then, and the rest of the time limit.
    """

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        child: processes.Child,
        notify: NotifySocket,
        gate: int | None,
        owner: WorkerOwner,
        *,
        index: int,
        identity: CommandIdentity,
    ) -> None:
        self._notify, self._gate, self._identity = notify, gate, identity
        self._wait_for_release: list[int] = []  # write ends of pipes
        self._leaves = False  # it has announced by STOPPING=1 that it leaves by itself
        self._warned = False
        self._asked: Timer | None = None  # limits how often a request for time is passed on
        self._asks_until = 0.0  # monotonic time, from the last request that was not passed on yet
        self._leftovers: Leftovers | None = None
        self._left = ""  # describes a process that it left behind
        self._was_ready = False
        super().__init__(loop, settings, child, owner, index=index, spare=False)
        loop.watch(notify.fileno(), self._hear_some)
        if gate is not None:
            loop.watch(gate, self._close_gate)  # the reader is gone

    @property
    def crashed(self) -> bool:
        """See Worker. A worker that sent STOPPING=1 did not crash, whatever its exit status. A worker that ended before
        it was ready did crash."""
        return not self._leaves and (super().crashed or self._starts)

    @property
    def hopeless(self) -> bool:
        """See Worker. A command that goes to the background is hopeless."""
        return bool(self._advice())

    @property
    def is_final(self) -> bool:
        """See Worker.

        A command that is to send READY=1 cannot end well before that. One that we have ended starts again.
        """
        by_itself = self.exit_status is not None and self.state is not WorkerState.STOPPING
        if not by_itself or self._ended_for in _ENDED_BY_US:
            return False
        settings = self._settings
        if not self.was_up and (not settings.ready_after or self._ended_for):
            return self.end > 0 and self.end in settings.restart_prevent
        return not starts_again(self.end, settings.restart, settings.restart_prevent)

    def kill(self) -> None:
        """SIGKILL the whole process group."""
        if self._leftovers is not None:
            self._leftovers.kill()
            return  # the kernel may have given the number to another process
        processes.signal_group(self._child, signal.SIGKILL)
        self._signal(signal.SIGKILL)  # the group may have a process that we may signal, beside one that we may not

    # --------------------------------------------------------------------------------- what the supervisor sends

    def _send_go(self) -> None:
        if self._gate is not None:
            try:
                os.write(self._gate, b"g")
            except OSError:
                pass  # it is dead
            self._close_gate()

    def _close_gate(self) -> None:
        if self._gate is not None:
            self._loop.unwatch(self._gate)
            os.close(self._gate)
            self._gate = None

    def _send_release(self) -> None:
        for waiter in self._take_waiters():
            _answer(waiter)

    def _send_stop(self) -> None:
        is_executed = self._gate is None
        self._send_go()  # a command that is not executed yet must not wait for ever
        self._drop_waiters()
        if not (is_executed and self._quiet()):
            self._send_stop_signal()

    def _quiet(self) -> bool:
        """Send quiet_signal, and stop_signal later. Returns False if there is none, or the command does not handle
        it."""
        settings = self._settings
        if settings.quiet_signal == "none":
            return False
        number = signal.Signals[settings.quiet_signal]
        if not signals.handles(self.pid, number):  # it would die of the signal, or be suspended
            _log.warning("Worker (pid %d) has no handler for quiet_signal (%s)", self.pid, number.name)
            return False
        self._signal(number)
        if self.refused:
            return False
        _log.info(
            "Worker (pid %d) got %s; %s follows in %g s",
            *(self.pid, number.name, settings.stop_signal, settings.quiet_timeout),
        )
        self._expect_within(settings.quiet_timeout, self._send_stop_signal)
        return True

    def _send_stop_signal(self) -> None:
        number = signal.Signals[self._settings.stop_signal]
        if self._settings.kill_mode == "mixed":
            self._signal(number)
        elif not processes.signal_group(self._child, number):
            self._be_refused(number)

    def _take_waiters(self) -> list[int]:
        waiters, self._wait_for_release = self._wait_for_release, []
        return waiters

    def _drop_waiters(self) -> None:
        for waiter in self._take_waiters():
            os.close(waiter)

    # ------------------------------------------------------------------------------------- what the worker sends

    def _hear_some(self) -> None:
        self._hear(_MOST_AT_ONCE)

    def _hear_the_rest(self) -> None:
        self._hear(_MOST_AT_ITS_END)  # a limit, because a process that it left running may write without end

    def _hear(self, most: int) -> None:
        """Handle at most this many notifications."""
        for _ in range(most):
            try:
                notification = self._notify.receive()
            except ProtocolError as error:
                self._warn(f"{error} Ignoring it")
                continue
            if notification is None:
                return
            try:
                if may_speak(notification.sender, self.pid, self._identity.mark):
                    self._take_in(notification)
                else:
                    self._warn(_refusal(notification.sender))
            finally:
                notification.close_fds()

    def _take_in(self, notification: Notification) -> None:
        # The answer to BARRIER=1 is that we close its descriptor, after all earlier notifications. FDSTORE=1 is handled
        # in the same way: we store nothing. What is not named here (MAINPIDFD=1, ...) is for systemd only.
        status, failure = notification.value(b"STATUS"), notification.value(_FAILED)
        if status is not None:
            self._take_in_status(status)
        if failure is not None:
            self.failure = _shown(failure.decode(errors="replace"))
        main_pid = notification.value(b"MAINPID")
        if main_pid is not None and main_pid != b"%d" % self.pid:
            said = _shown(main_pid.decode(errors="replace"))
            self._warn(f"It sent MAINPID={said}. A worker stays the process that the supervisor started; ignoring it")
        self._take_in_extension(notification.value(b"EXTEND_TIMEOUT_USEC"))
        asks_answer = notification.value(_ASKS_ANSWER) is not None and len(notification.fds) > 0
        stops = notification.says(b"STOPPING=1")
        self.reloading = self.reloading or notification.says(b"RELOADING=1")
        if notification.says(b"READY=1") and not stops:
            if asks_answer:
                self._keep_waiter(notification.fds.pop())
            if self.reloading:
                self.reloading = False
                self.on_reloaded(self)
            self._on_ready()
        elif asks_answer:
            _answer(notification.fds.pop())
        watchdog = notification.value(b"WATCHDOG")
        if watchdog == b"1":
            self._on_ping()
        elif watchdog == b"trigger" and self._ended_for != "hung":
            self._ended_for = "hung"
            extra = entry_fields(CatalogEntry.WORKER_HUNG, worker=self)
            _log.warning("Worker (pid %d) says that it hangs, ending it", self.pid, extra=extra)
            self.failure = "The worker said WATCHDOG=trigger."
            self._abort()
        if stops and self.state is not WorkerState.STOPPING:
            self._leave()

    def _take_in_status(self, said: bytes) -> None:
        try:
            self.status = _shown(said.decode())
        except UnicodeDecodeError:
            self.status = ""
            self._warn("It sent a STATUS= that is not in UTF-8. Ignoring it")

    def _take_in_extension(self, said: bytes | None) -> None:
        if said is None:
            return
        microseconds = decimal(said.decode("latin-1").strip(), _MOST_MICROSECONDS)
        if microseconds is None:
            shown = _shown(said[:40].decode(errors="replace"))
            self._warn(f"It sent EXTEND_TIMEOUT_USEC={shown}, which is no number of 64 bits. Ignoring it")
        else:
            self._extend(min(microseconds / 1e6, LONGEST_EXTENSION))

    def _keep_waiter(self, waiter: int) -> None:
        """Keep a descriptor to answer when this worker may serve; close it at once if there are too many of them."""
        if self.state is WorkerState.STOPPING or len(self._wait_for_release) >= _MOST_WAITERS:
            os.close(waiter)
        else:
            self._wait_for_release.append(waiter)

    def _warn(self, sentence: str) -> None:
        """Log one such warning per worker: a program that repeats a mistake would fill the log."""
        if not self._warned:
            self._warned = True
            _log.warning("Worker (pid %d): %s", self.pid, sentence)

    def _leave(self) -> None:
        """The worker stops by itself; give it as much time as after a stop request."""
        if not self._leaves:
            self._leaves = True
            _log.info("Worker (pid %d) leaves by itself", self.pid)
            self._expect_within(self._settings.stop_timeout, self.kill)

    def _extend(self, seconds: float) -> None:
        """Extend a start or a stop to this many seconds from now, if that is later than the present deadline."""
        if self.state is WorkerState.STOPPING:
            self._ask_for_time(seconds)
        elif self._leaves:
            self._put_off(seconds, self.kill)
        elif self._starts and not self._settings.ready_after:
            self._put_off(seconds, self._never_ready)
            self._ask_for_time(seconds)

    def _ask_for_time(self, seconds: float) -> None:
        """Pass the request on to all that wait for this worker. Many requests in a short time become one."""
        if self._asked is None or not self._asked.pending:
            self._asks_until = 0.0
            self._asked = self._loop.call_later(_BETWEEN_REQUESTS_SECONDS, self._ask_again)
            self._owner.worker_extends(self, seconds)
        else:
            self._asks_until = time.monotonic() + seconds

    def _ask_again(self) -> None:
        seconds = self._asks_until - time.monotonic()
        if seconds > 0 and self.exit_status is None:
            self._ask_for_time(seconds)

    @property
    def _starts(self) -> bool:
        """Whether it has not sent READY=1 yet."""
        return self.state is WorkerState.STARTING

    def _put_off(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None and self._timer.seconds_left < seconds:
            self._expect_within(seconds, then)

    def _on_ready(self) -> None:
        self._was_ready = True
        super()._on_ready()

    # ------------------------------------------------------------------------------------------- its deadlines

    def _expect_ready(self) -> None:
        limit, waited_for = self._settings.start_timeout, self._never_ready
        if self._settings.ready_after:
            limit, waited_for = self._settings.ready_after, self._on_ready
        if limit:
            self._expect_within(limit, waited_for)

    def _never_ready(self) -> None:
        waited = self._settings.start_timeout
        self.failure = (
            f"The command sent no READY=1 within {waited:g} s; if it cannot, use --ready-after (it is ready after so "
            f"many seconds)."
        )
        self._ended_for = "start timeout"
        extra = entry_fields(CatalogEntry.WORKER_LATE, worker=self, seconds=waited)
        _log.warning("Worker (pid %d): %s Ending it", self.pid, self.failure, extra=extra)
        self._signal(signal.Signals[self._settings.stop_signal])
        self._set_timer(_GRACE_SECONDS, self.kill)

    def _ask_for_traceback(self) -> None:
        self._abort()  # an arbitrary program has no traceback, only a core dump

    # ------------------------------------------------------------------------------------------------- its end

    def _may_have_left(self) -> bool:
        """Whether some of its processes may be left now that the first one is dead."""
        return processes.group_lives(self.pid) or self._may_hide

    @property
    def _may_be_in_background(self) -> bool:
        """Whether it ended with status 0 and much too early: without a stop, before or soon after it was ready."""
        if self.exit_status != 0 or self.state is WorkerState.STOPPING or self._leaves:
            return False
        return self._starts or self.lived < self._settings.respawn_forgiven_after

    @property
    def _may_hide(self) -> bool:
        """Whether its remaining processes may be in a session of their own: it went to the background, or was stopped
        while it did so."""
        return self._may_be_in_background or not self._was_ready

    def _find_leftovers(self) -> list[process_groups.Found]:
        if self._may_hide:
            return process_groups.remains(self.pid, f"NOTIFY_SOCKET={self._notify.path}", self._identity.mark)
        return process_groups.members(self.pid)

    def _note_leftover(self, process: process_groups.Found) -> None:
        self._left = self._left or str(process)

    def _see_to_leftovers(self) -> None:
        self._leftovers = Leftovers(
            self._loop,
            self.pid,
            signal.Signals[self._settings.stop_signal],
            None if self.state is WorkerState.STOPPING else min(_GRACE_SECONDS, self._settings.stop_timeout),
            find=self._find_leftovers,
            gone=self._be_gone,
            found=self._note_leftover,
        )

    def _advice(self) -> str:
        """What to do about a command that went to the background, as daemons do by default: it ended with status 0 and
        left another process in its place. "" for any other command."""
        if not self._may_be_in_background:
            return ""
        from ..settings import background_programs  # imported here because it is rarely needed

        if not self._left and not (self._starts and background_programs.goes_to_background(self._identity.program)):
            return ""
        left = f" and left {one_line(self._left)} running" if self._left else ""
        return (
            f"The command went to the background: it exited with status 0{left}. Run it in the foreground"
            f"{background_programs.in_foreground(self._identity.program)}."
        )

    def _be_gone(self) -> None:
        if self._leftovers is None and self._may_have_left():
            self._see_to_leftovers()
            return
        self._close()
        if advice := self._advice():
            self.failure, self._ended_for = advice, "background"
            _log.error("Worker (pid %d): %s", self.pid, advice)
        super()._be_gone()

    def _close(self) -> None:
        """Close the socket and the pipes to the worker."""
        self._loop.unwatch(self._notify.fileno())
        self._notify.close()
        self._drop_waiters()
        self._close_gate()


def _refusal(sender: Sender | None) -> str:
    whose = f"Pid {sender.pid} of uid {sender.uid}" if sender is not None else "A process without credentials"
    return f"{whose} sent a notification, and is not known as a process of this worker. Ignoring it"


def _shown(text: str) -> str:
    """The text as one line of limited length, for a log or a terminal."""
    return one_line(text, _SHOWN_CHARACTERS)


def _answer(waiter: int) -> None:
    try:
        if is_pipe_to_write(waiter):
            os.set_blocking(waiter, False)  # the write must not block the supervisor
            os.write(waiter, ANSWER)
    except OSError:
        pass  # the reader is gone
    os.close(waiter)
