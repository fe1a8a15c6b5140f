"""The peer: the supervisor at the other end of the channel. What it sends, whether it lives, how to end it.

The messages of the channel, each with its fields and [descriptors]. A message may carry more than is listed:

    spawned   pid; [pidfd]                      the middle process of the double fork: the successor's process
    welcome   version, generation, carries …    predecessor: all that crosses, with names for the descriptors
    starts    place, reload_timeout …           successor: where it will load its code, and the settings known so far
    hello     version, stop_timeout, code …     successor: its settings and its code version
    code      code                              successor: its code version after imports of its workers
    opened    files, lanes; [listener …]        successor: files of sockets it made, to remove if it fails; its sockets
                                                beside the predecessor's, with descriptors of new ones
    workers   pids; [pidfd …]                   either: workers it forked; they run no code before this message
    holders   pids; [pidfd …]                   either: each holds the lock until nothing of its worker is left
    reason    text, traceback, silent           successor: why it will fail; pid of a worker that gave no reason
    extends   seconds                           either: a worker got more time to start or to stop
    warm      ready, workers                    successor: how many of its workers are ready
    naming                                      predecessor: it now tells systemd that the successor is the main pid
    counters  counts                            predecessor: all its counts; see handover/counters.py
    reloaded  facts                             predecessor: the result of the reload, for the successor's status
    caller    [connection]                      predecessor: after its commit, a connection of the control socket
    yield, serving, checked, failed, committed, stop, empty, unlocked      events of the takeover
"""

import logging
import signal
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from ..core.takeover import Event
from ..errors import HandoverError
from ..input.checked import Unfit
from ..linux import descriptors, process_groups, processes, signals
from ..linux.channel import Channel, Message
from ..linux.event_loop import EventLoop
from ..linux.leftovers import Leftovers
from ..linux.unpatched import os
from ..settings.settings import MOST_WORKERS
from . import messages

_log = logging.getLogger("sdsupervise")

_HOOK_SECONDS = 30.0  # the default of notify_timeout
_MAX_WORKERS_PER_MESSAGE = 200  # the kernel allows 253 descriptors in one message
_MOST_PROCESSES = 3 * MOST_WORKERS  # of a peer, each with a descriptor: workers, replacements, holders
_MOST_ANNOUNCED = 100_000  # pids of a peer's workers that we remember after their death
_MOST_AT_ONCE = 64  # messages of one peer per turn of the event loop
_MOST_WAITING = 1000  # messages; more than the kernel can have buffered

EVENTS: Mapping[str, Event] = {
    "yield": Event.PEER_ASKS_YIELD,
    "serving": Event.PEER_SERVES,
    "checked": Event.PEER_CHECKED,
    "failed": Event.PEER_FAILED,
    "committed": Event.PEER_COMMITTED,
    "stop": Event.PEER_STOPS,
    "empty": Event.PEER_EMPTY,
}


class NotifySetting(NamedTuple):
    """A notify_command, and its time limit in seconds."""

    command: tuple[str, ...]
    timeout: float


class PeerOwner(Protocol):
    """What a peer reports to its owner."""

    def peer_says(self, event: Event) -> None:
        """An event of the takeover table, which the peer sent, or its death."""

    def peer_tells(self, message: Message) -> None:
        """Any other message, such as hello, naming or reloaded."""

    def peer_opened(self, message: Message) -> None:
        """A successor has opened sockets. The owner closes the message's descriptors."""

    def peer_leaves_caller(self, connection: int) -> None:
        """A connection of the control socket. The owner closes it."""

    def peer_hung_up(self) -> None:
        """The peer closed the channel. Its death follows, or it wants no successor any more."""

    def lock_may_be_free(self) -> None:
        """The peer released the lock, or a process that may have held the lock died."""


class Peer:
    """The supervisor at the other end of a channel, watched by the event loop."""

    def __init__(
        self,
        loop: EventLoop,
        channel: Channel,
        token: int,
        owner: PeerOwner,
        *,
        generation: int,
        stop_timeout: float,
    ) -> None:
        self._loop, self.owner = loop, owner
        self._channel: Channel | None = channel
        self._pidfd: int | None = None
        self._token_is_ours = False
        self._workers: dict[int, int] = {}  # pid to pidfd of living workers and holders
        self._announced: set[int] = set()  # pids of all its workers, dead ones too
        self._leftovers: dict[int, Leftovers] = {}  # left by workers that died after their supervisor
        self._holders: set[int] = set()  # a holder exits when its worker is gone
        self._kills_holders = False
        self.token = token  # the read end of the pipe with the kill token
        self.generation = generation
        self.stop_timeout = stop_timeout  # seconds its workers may take to stop
        self.pid: int | None = None
        self.gone = False
        self.listens = False  # it runs its event loop; before that it has no worker and no lock
        self.overlaps = False  # its service lets old workers serve until new ones do
        # In seconds. A successor's settings are newer, and define its trial before the commit.
        self.check_timeout = 0.0  # the limit of its before_commit; 0 if it has none
        self.start_allowance = 0.0  # for its workers, from their release until they serve
        self.probation = 0.0
        self.reload_timeout = 0.0  # for it to get ready, from the reload's beginning
        self.barrier_timeout = 0.0  # the limit of a predecessor's commit
        self.notify_setting: NotifySetting | None = None  # a successor's; the predecessor may have none
        self.code = ""
        self.ready = 0  # the number of a successor's workers that are ready
        self.reason = ""
        self.traceback = ""
        self._complained = False
        loop.watch(channel.fileno(), self._hear_some)

    @property
    def has_workers(self) -> bool:
        """Whether a worker that it announced lives, or processes that such a worker left behind."""
        return bool(self._workers or self._leftovers)

    @property
    def worker_pids(self) -> list[int]:
        """The pids of its living workers."""
        return [pid for pid in self._workers if pid not in self._holders]

    def passed_fds(self) -> dict[str, int]:
        """The descriptors that a successor of ours needs to watch this peer, by name."""
        fds = {"token": self.token}
        for pid, pidfd in self._workers.items():
            fds[f"holder:{pid}" if pid in self._holders else f"worker:{pid}"] = pidfd
        if self._pidfd is not None:
            fds["pidfd"] = self._pidfd
        if self._channel is not None:
            fds["channel"] = self._channel.fileno()
        return fds

    @property
    def left_nothing(self) -> bool:
        """Whether the peer and all its workers are dead."""
        return self.gone and not self.has_workers

    def meet(self, pid: int, pidfd: int) -> None:
        """Set the peer's process, and watch its pidfd."""
        self.pid, self._pidfd = pid, pidfd
        self._loop.watch(pidfd, self._died)

    def note_notify_setting(self, message: Message) -> None:
        """Keep its notify_command, if the sender is root or our own user: we may execute it."""
        words = message.fields.get("notify_command")
        if words and message.sender is not None and message.sender.uid in (0, os.geteuid()):
            self.notify_setting = NotifySetting(tuple(words), message.fields.get("notify_timeout", _HOOK_SECONDS))

    def knows_worker(self, pid: int) -> bool:
        """Whether it has announced a worker of this pid, living or dead."""
        return pid in self._announced

    def note_worker(self, pid: int, pidfd: int) -> None:
        """Add a worker of this peer; its pidfd is ours to close."""
        if pid in self._workers or len(self._workers) >= _MOST_PROCESSES:
            os.close(pidfd)
            return
        if len(self._announced) < _MOST_ANNOUNCED:
            self._announced.add(pid)
        self._workers[pid] = pidfd
        self._loop.watch(pidfd, lambda: self._worker_died(pid))

    def note_holder(self, pid: int, pidfd: int) -> None:
        """Add a process that holds the lock for a worker of this peer."""
        self._holders.add(pid)
        self.note_worker(pid, pidfd)

    def tell(self, say: str, fds: tuple[int, ...] = (), **fields: object) -> bool:
        """Send a message. Returns False if the peer cannot take it: it is dead or hangs, which is noticed elsewhere."""
        return self._channel is not None and self._channel.send(say, fds, **fields)

    def tell_workers(self, workers: Mapping[int, int], holders: Mapping[int, int]) -> None:
        """Announce workers, and the holders of their lock, as pid to pidfd, in as few messages as possible."""
        for say, pidfds in (("workers", workers), ("holders", holders)):
            pids = list(pidfds)
            for start in range(0, len(pids), _MAX_WORKERS_PER_MESSAGE):
                some = pids[start : start + _MAX_WORKERS_PER_MESSAGE]
                self.tell(say, tuple(pidfds[pid] for pid in some), pids=some)

    def hear(self) -> None:
        """Handle all messages that wait in the channel."""
        self._hear(_MOST_WAITING)

    def _hear_some(self) -> None:
        self._hear(_MOST_AT_ONCE)

    def _hear(self, most: int) -> None:
        for _ in range(most):
            if self._channel is None:
                return
            try:
                message = self._channel.receive()
            except EOFError:
                self._end_channel()
                return
            except HandoverError as error:
                _log.error("%s Not reading from generation %d any more", error, self.generation)
                self._end_channel()
                return
            if message is None:
                return
            try:
                fields = messages.read(message)
            except Unfit as error:
                message.close_fds()
                self._complain(message.kind, error)
            else:
                self._take_in(message._replace(fields=fields))

    def _complain(self, kind: str, error: Unfit) -> None:
        """Log the first such message only: the peer may repeat it without end."""
        if not self._complained:
            self._complained = True
            _log.error("Generation %d sent an invalid message %r: %s; ignoring it", self.generation, kind, error)

    def look(self) -> None:
        """Handle its waiting messages and its death now, before a decision that depends on them."""
        if self._pidfd is not None and processes.is_dead(self._pidfd):
            self._died()
        else:
            self.hear()

    def kill(self) -> bool:
        """SIGKILL the peer, unless it has taken the kill token: one byte in a pipe that both supervisors hold.

        Without the token, two supervisors whose deadlines coincide would kill each other. A successor without a process
        yet is given up: the process that spawns it cannot announce it any more, and stops it.

        Returns whether the token is ours.
        """
        if self.gone:
            return False
        if self._pidfd is None and self._channel is not None:
            self._channel.refuse_more()  # either its process is already announced, or it never starts
            self.hear()
        if self._pidfd is None:
            self._be_gone()
            return False
        self._token_is_ours = self._token_is_ours or _take(self.token)
        if self._token_is_ours and not signals.send(self._pidfd, signal.SIGKILL):
            # A successor that was started as root and has not dropped its privileges yet. It cannot serve without the
            # lock, cannot kill us without the token, and exits when it finds the channel closed.
            _log.error("No permission to kill the supervisor of generation %d (pid %s)", self.generation, self.pid)
            self._be_gone()
        return self._token_is_ours

    def kill_workers(self) -> None:
        """SIGKILL every living worker that it announced.

        If the peer has the kill token, its workers are spared: it kills this process, and its workers are to serve.
        """
        if not self.gone and not self._token_is_ours:
            return
        for pid, pidfd in self._workers.items():
            if (pid not in self._holders or self._kills_holders) and not signals.send(pidfd, signal.SIGKILL):
                _log.error("No permission to kill worker (pid %d) of generation %d", pid, self.generation)
        self._kills_holders = self.gone  # a holder that is stopped would keep the lock for ever

    def pass_on(self, number: int) -> list[int]:
        """Pass a signal on to those of its workers that have a handler for it. Returns their pids."""
        return signals.pass_on({pid: fd for pid, fd in self._workers.items() if pid not in self._holders}, number)

    def fails_for(self, reason: str, traceback: str = "") -> None:
        """Set the failure reason of the reload. Only the first one counts; later ones are consequences."""
        if not self.reason:
            self.reason, self.traceback = reason, traceback

    def forget(self) -> None:
        """Stop watching the peer, and close all its descriptors."""
        for fd in (self._pidfd, *self._workers.values()):
            if fd is not None:
                self._loop.unwatch(fd)
        if self._channel is not None:
            self._loop.unwatch(self._channel.fileno())
        self.close_in_child()
        self._channel, self._pidfd = None, None
        self._workers.clear()

    def close_in_child(self) -> None:
        """Close a forked worker's copies. An open copy of the channel would hide its end from the peer."""
        if self._channel is not None:
            self._channel.close()
        for fd in (self.token, self._pidfd, *self._workers.values()):
            if fd is not None:
                os.close(fd)

    def _take_in(self, message: Message) -> None:
        """Handle a message whose fields and descriptors are checked."""
        fields, kind = message.fields, message.kind
        match kind:
            case "spawned" if self._pidfd is None:
                self.meet(fields["pid"], message.fds[0])
            case "workers" | "holders":
                note = self.note_worker if kind == "workers" else self.note_holder
                for pid, pidfd in zip(fields["pids"], message.fds, strict=True):
                    note(pid, pidfd)
            case "caller":
                self.owner.peer_leaves_caller(message.fds[0])
            case "opened":
                self.owner.peer_opened(message)
            case _:
                message.close_fds()
                self._take_in_word(message)

    def _take_in_word(self, message: Message) -> None:
        match message.kind:
            case "reason":
                if not self.reason:
                    self.fails_for(message.fields["text"], message.fields.get("traceback", ""))
                    self.owner.peer_tells(message)
            case "unlocked":
                self.owner.lock_may_be_free()
            case kind if kind in EVENTS:
                self.owner.peer_says(EVENTS[kind])
            case _:
                self.owner.peer_tells(message)

    def _end_channel(self) -> None:
        if self._channel is not None:
            self._loop.unwatch(self._channel.fileno())
            self._channel.close()
            self._channel = None
            if self._pidfd is None:
                self._be_gone()
            elif not self.gone:
                self.owner.peer_hung_up()

    def _died(self) -> None:
        if not self.gone:
            self.hear()  # its last messages come first
            self._be_gone()

    def _be_gone(self) -> None:
        if self.gone:
            return
        self.gone = True
        self._end_channel()
        if self._pidfd is not None:
            self._loop.unwatch(self._pidfd)
        self.owner.peer_says(Event.PEER_GONE)
        self.owner.lock_may_be_free()

    def _worker_died(self, pid: int) -> None:
        pidfd = self._workers.pop(pid, None)
        if pidfd is not None:
            self._loop.unwatch(pidfd)
            os.close(pidfd)
            if self.gone and pid not in self._holders and processes.group_lives(pid):
                self._end_what_is_left_of(pid)
            self.owner.lock_may_be_free()

    def _end_what_is_left_of(self, worker_pid: int) -> None:
        """Kill what a dead worker left behind: its own supervisor is dead, and the next generation waits for that."""

        def gone() -> None:
            self._leftovers.pop(worker_pid, None)
            self.owner.lock_may_be_free()

        self._leftovers[worker_pid] = Leftovers(
            self._loop,
            worker_pid,
            signal.SIGKILL,
            0.0,
            find=lambda: process_groups.of_worker(worker_pid, None),
            gone=gone,
        )


def _take(token: int) -> bool:
    try:
        # poll() first: the peer can change whether this pipe blocks.
        return descriptors.is_readable(token) and bool(os.read(token, 1))
    except BlockingIOError:
        return False


def make_token() -> int:
    """The read end of a pipe that contains one byte, the kill token."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.write(writer, b"k")
    os.close(writer)
    return reader
