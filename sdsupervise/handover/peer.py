"""The other supervisor in a reload, as one supervisor sees it: what it says, whether it lives, how to end it.

The channel's messages; `say` names each, and every one may carry more than is listed:

    spawned   pid; [pidfd]                      the middle process of the double fork, for the successor
    welcome   version, generation, carries …    predecessor: all that crosses, names for the descriptors beside it
    starts    place, reload_timeout …           successor: whence it is about to load its code, and what is known before
    hello     version, stop_timeout, code …     successor
    code      code                              successor: what its workers' imports have made of that
    opened    files, lanes; [listener …]        successor: the files of sockets it has made, to remove if it fails; and
                                                its sockets beside the predecessor's, with descriptors of new ones
    workers   pids; [pidfd …]                   either: workers were forked, they run no code before this is sent
    holders   pids; [pidfd …]                   either: each holds the lock until nothing of a worker is left
    reason    text, traceback, silent           successor: why it is about to fail; the worker that did not say
    extends   seconds                           either: a worker was given more time to start or to stop, so wait on
    warm      ready, workers                    successor: so many of its workers are ready
    naming                                      predecessor: systemd is being told that you are the main pid
    counters  counts                            predecessor: all it has counted until now; see handover/counters.py
    reloaded  facts                             predecessor: how the reload went, for the successor's status
    caller    [connection]                      predecessor: it has committed; a caller of the control socket
    yield, serving, checked, failed, committed, stop, empty, unlocked      the takeover itself
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

_HOOK_SECONDS = 30.0  # the setting's default
_MAX_WORKERS_PER_MESSAGE = 200  # the kernel takes 253 descriptors
_MOST_PROCESSES = 3 * MOST_WORKERS  # of a peer that we keep a descriptor of: workers, their successors, their holders
_MOST_ANNOUNCED = 100_000  # pids of workers that it has had and that we remember
_MOST_AT_ONCE = 64  # messages, before it is another's turn
_MOST_WAITING = 1000  # that the kernel can have kept for us, and more

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
    """A notify_command, and how many seconds it may take."""

    command: tuple[str, ...]
    timeout: float


class PeerOwner(Protocol):
    """What a peer says, and what becomes of it."""

    def peer_says(self, event: Event) -> None:
        """Something of the takeover table's, or it is gone."""

    def peer_tells(self, message: Message) -> None:
        """Something else: hello, naming, reloaded."""

    def peer_opened(self, message: Message) -> None:
        """A successor has sockets of its own; the message's descriptors are the owner's."""

    def peer_leaves_caller(self, connection: int) -> None:
        """A connection of the control socket, which is the owner's."""

    def peer_hung_up(self) -> None:
        """It closed the channel; its death follows, unless it wants us no more."""

    def lock_may_be_free(self) -> None:
        """It says so, or a process that may have held the lock died."""


class Peer:
    """The supervisor at the other end of a channel, watched from our event loop."""

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
        self._workers: dict[int, int] = {}  # pid: pidfd, of those alive as far as we know, and of holders
        self._announced: set[int] = set()  # the pids of all workers there ever were
        self._leftovers: dict[int, Leftovers] = {}  # of workers that died after it
        self._holders: set[int] = set()  # each leaves when it has seen to the end of its worker, or hangs
        self._kills_holders = False
        self.token = token  # the read end of the pipe with the kill token
        self.generation = generation
        self.stop_timeout = stop_timeout  # seconds its workers may take to stop
        self.pid: int | None = None
        self.gone = False
        self.listens = False  # it has come as far as its event loop; before that it has no worker and no lock
        self.overlaps = False  # its service lets the old workers serve on until the new ones do
        # Seconds. A successor's settings are the newer ones, and say how it wants to be tried before the commit.
        self.check_timeout = 0.0  # its before_commit may take; 0: it has none
        self.start_allowance = 0.0  # its workers may take from their release until they serve
        self.probation = 0.0
        self.reload_timeout = 0.0  # it may take to get ready, from the reload's beginning
        self.barrier_timeout = 0.0  # a predecessor's: how long its commit may take
        self.notify_setting: NotifySetting | None = None  # a successor's, which may be the first code that has one
        self.code = ""
        self.ready = 0  # of a successor's workers
        self.reason = ""
        self.traceback = ""
        self._complained = False
        loop.watch(channel.fileno(), self._hear_some)

    @property
    def has_workers(self) -> bool:
        """One that it announced lives, as far as we know, or has left something behind that does."""
        return bool(self._workers or self._leftovers)

    @property
    def worker_pids(self) -> list[int]:
        """Of its workers that live, as far as we know."""
        return [pid for pid in self._workers if pid not in self._holders]

    def passed_fds(self) -> dict[str, int]:
        """The descriptors by which a successor of ours knows it."""
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
        """It is dead and so are its workers."""
        return self.gone and not self.has_workers

    def meet(self, pid: int, pidfd: int) -> None:
        """This is its process."""
        self.pid, self._pidfd = pid, pidfd
        self._loop.watch(pidfd, self._died)

    def note_notify_setting(self, message: Message) -> None:
        """What it says of its notify_command, if it is one to say what we are to run: who has our rights, or all."""
        words = message.fields.get("notify_command")
        if words and message.sender is not None and message.sender.uid in (0, os.geteuid()):
            self.notify_setting = NotifySetting(tuple(words), message.fields.get("notify_timeout", _HOOK_SECONDS))

    def knows_worker(self, pid: int) -> bool:
        """It has announced one of this pid, be it dead by now."""
        return pid in self._announced

    def note_worker(self, pid: int, pidfd: int) -> None:
        """This is a worker of its."""
        if pid in self._workers or len(self._workers) >= _MOST_PROCESSES:
            os.close(pidfd)
            return
        if len(self._announced) < _MOST_ANNOUNCED:
            self._announced.add(pid)
        self._workers[pid] = pidfd
        self._loop.watch(pidfd, lambda: self._worker_died(pid))

    def note_holder(self, pid: int, pidfd: int) -> None:
        """This holds the lock for a worker of its."""
        self._holders.add(pid)
        self.note_worker(pid, pidfd)

    def tell(self, say: str, fds: tuple[int, ...] = (), **fields: object) -> bool:
        """Send a message; False if the peer cannot take it (dead, or stuck: its pidfd or a deadline will tell)."""
        return self._channel is not None and self._channel.send(say, fds, **fields)

    def tell_workers(self, workers: Mapping[int, int], holders: Mapping[int, int]) -> None:
        """Announce workers and those who hold the lock for them, pid to pidfd, in as few messages as may carry their
        descriptors."""
        for say, pidfds in (("workers", workers), ("holders", holders)):
            pids = list(pidfds)
            for start in range(0, len(pids), _MAX_WORKERS_PER_MESSAGE):
                some = pids[start : start + _MAX_WORKERS_PER_MESSAGE]
                self.tell(say, tuple(pidfds[pid] for pid in some), pids=some)

    def hear(self) -> None:
        """Take in all it has said."""
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
        """Once: whoever says such a thing may say it again and again."""
        if not self._complained:
            self._complained = True
            _log.error("Generation %d sent an invalid message %r: %s; ignoring it", self.generation, kind, error)

    def look(self) -> None:
        """Take in what it has said and whether it lives, now: before something is believed of it."""
        if self._pidfd is not None and processes.is_dead(self._pidfd):
            self._died()
        else:
            self.hear()

    def kill(self) -> bool:
        """SIGKILL it, if nobody took the kill token before: one byte in a pipe both supervisors hold.

        Two supervisors whose deadlines cross would kill each other otherwise, and nobody would serve. One that is not
        born yet is given up: whoever was to bear it cannot say so any more, and lets it go no further.
        """
        if self.gone:
            return False
        if self._pidfd is None and self._channel is not None:
            self._channel.refuse_more()  # it is born and we have heard it, or it never is
            self.hear()
        if self._pidfd is None:
            self._be_gone()
            return False
        self._token_is_ours = self._token_is_ours or _take(self.token)
        if self._token_is_ours and not signals.send(self._pidfd, signal.SIGKILL):
            # A successor born as root that has not dropped its privileges yet. It cannot serve without the lock, it
            # cannot kill us without the token, and it leaves when it finds the channel closed.
            _log.error("No permission to kill the supervisor of generation %d (pid %s)", self.generation, self.pid)
            self._be_gone()
        return self._token_is_ours

    def kill_workers(self) -> None:
        """SIGKILL every worker it announced and we have not seen dead; not those of a peer that was spared for want of
        the token: it kills us, and they are the ones to serve."""
        if not self.gone and not self._token_is_ours:
            return
        for pid, pidfd in self._workers.items():
            if pid not in self._holders or self._kills_holders:
                signals.send(pidfd, signal.SIGKILL)
        self._kills_holders = self.gone  # one that is stopped would keep the lock for ever

    def pass_on(self, number: int) -> list[int]:
        """A signal to those of its workers that have a handler for it; their pids."""
        return signals.pass_on({pid: fd for pid, fd in self._workers.items() if pid not in self._holders}, number)

    def fails_for(self, reason: str, traceback: str = "") -> None:
        """This is why its reload fails; what comes after the first reason only follows from it."""
        if not self.reason:
            self.reason, self.traceback = reason, traceback

    def forget(self) -> None:
        """Listen and watch no more, and give all descriptors back."""
        for fd in (self._pidfd, *self._workers.values()):
            if fd is not None:
                self._loop.unwatch(fd)
        if self._channel is not None:
            self._loop.unwatch(self._channel.fileno())
        self.close_in_child()
        self._channel, self._pidfd = None, None
        self._workers.clear()

    def close_in_child(self) -> None:
        """In a forked worker, its copies: a held end of the channel would hide its end."""
        if self._channel is not None:
            self._channel.close()
        for fd in (self.token, self._pidfd, *self._workers.values()):
            if fd is not None:
                os.close(fd)

    def _take_in(self, message: Message) -> None:
        """Of its fields and descriptors is known what they are."""
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
            self.hear()  # what it said before it died comes first
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
        """Its supervisor, which would have done so, is dead, and nobody serves until that is done."""

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
        # Whether it blocks is a property that the other supervisor can change.
        return descriptors.is_readable(token) and bool(os.read(token, 1))
    except BlockingIOError:
        return False


def make_token() -> int:
    """The read end of a pipe with the one byte in it."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.write(writer, b"k")
    os.close(writer)
    return reader
