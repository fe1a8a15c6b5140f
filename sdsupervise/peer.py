"""The other supervisor in a reload, as one supervisor sees it: what it says, whether it lives, how to end it.

The channel's messages; `say` names each, and every one may carry more than is listed:

    born      pid; [pidfd]                      the middle process of the double fork, for the successor
    welcome   version, generation, carries …    predecessor: all that crosses, names for the descriptors beside it
    hello     version, stop_timeout, code       successor
    worker    pid; [pidfd]                      either: a worker was forked, it runs no code before this is sent
    reason    text, traceback                   successor: why it is about to fail
    yield, serving, failed, committed, stop, empty, unlocked      the takeover itself
"""

import os
import signal
from collections.abc import Mapping
from typing import NamedTuple

from .core.takeover import Event
from .errors import HandoverError
from .linux.channel import Channel, Message
from .linux.signals import send

HANDOVER_VERSION = 1

EVENTS: Mapping[str, Event] = {
    "yield": Event.PEER_ASKS_YIELD,
    "serving": Event.PEER_SERVES,
    "failed": Event.PEER_FAILED,
    "committed": Event.PEER_COMMITTED,
    "stop": Event.PEER_STOPS,
    "empty": Event.PEER_EMPTY,
}


class Peer:
    """The supervisor at the other end of a channel."""

    def __init__(self, channel: Channel, token: int, *, generation: int, stop_timeout: float) -> None:
        self.channel: Channel | None = channel
        self.generation = generation
        self.stop_timeout = stop_timeout  # seconds its workers may take to stop
        self.pid: int | None = None
        self.pidfd: int | None = None
        self.gone = False
        self.workers: dict[int, int] = {}  # pid: pidfd, of those alive as far as we know
        self.code = ""
        self.reason = ""
        self.traceback = ""
        self.token = token  # the read end of the pipe with the kill token
        self._token_is_ours = False

    @property
    def left_nothing(self) -> bool:
        """It is dead and so are its workers."""
        return self.gone and not self.workers

    def tell(self, say: str, fds: tuple[int, ...] = (), **fields: object) -> bool:
        """Send a message; False if the peer cannot take it (dead, or stuck: its pidfd or a deadline will tell)."""
        return self.channel is not None and self.channel.send(say, fds, **fields)

    def note_worker(self, message: Message) -> int | None:
        """Remember an announced worker; its pidfd, to be watched."""
        pid, fds = message.fields.get("pid"), message.fds
        if not isinstance(pid, int) or len(fds) != 1 or pid in self.workers:
            message.close_fds()
            return None
        self.workers[pid] = fds[0]
        return fds[0]

    def kill(self) -> bool:
        """SIGKILL it, if nobody took the kill token before: one byte in a pipe both supervisors hold.

        Two supervisors whose deadlines cross would kill each other otherwise, and nobody would serve.
        """
        if self.gone or self.pidfd is None:
            return False
        self._token_is_ours = self._token_is_ours or _take(self.token)
        if self._token_is_ours:
            send(self.pidfd, signal.SIGKILL)
        return self._token_is_ours

    def kill_workers(self) -> None:
        """SIGKILL every worker it announced and we have not seen dead."""
        for pidfd in self.workers.values():
            send(pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Give all descriptors back."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        for fd in (self.token, self.pidfd, *self.workers.values()):
            if fd is not None:
                os.close(fd)
        self.token, self.pidfd = -1, None
        self.workers.clear()


def _take(token: int) -> bool:
    try:
        return bool(os.read(token, 1))
    except BlockingIOError:
        return False


def make_token() -> int:
    """The read end of a pipe with the one byte in it."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.write(writer, b"k")
    os.close(writer)
    return reader


class Welcome(NamedTuple):
    """What a successor starts from."""

    channel: Channel
    generation: int
    predecessor_generation: int
    predecessor_pid: int
    stop_timeout: float
    pid_file_name: str
    fds: dict[str, int]  # predecessor (pidfd), token, lock (O_PATH), control?, worker:PID…


def send_welcome(peer: Peer, fds: Mapping[str, int], **fields: object) -> bool:
    """Tell a successor all it needs to know."""
    return peer.tell("welcome", tuple(fds.values()), version=HANDOVER_VERSION, carries=list(fds), **fields)


def receive_welcome(channel: Channel, *, timeout_seconds: float) -> Welcome:
    """Wait for the predecessor's welcome.

    Raises HandoverError if it does not come, or not in a form this release understands.
    """
    message = _wait_for_message(channel, timeout_seconds)
    fields = message.fields
    if message.kind != "welcome" or fields.get("version") != HANDOVER_VERSION:
        raise HandoverError(
            f"The predecessor's hand-over is {message.kind} in version {fields.get('version')}, this sdsupervise "
            f"understands version {HANDOVER_VERSION}: restart the service instead of reloading it."
        )
    try:
        names = fields["carries"]
        assert isinstance(names, list) and len(names) == len(message.fds)
        return Welcome(
            channel,
            generation=int(str(fields["generation"])),
            predecessor_generation=int(str(fields["predecessor_generation"])),
            predecessor_pid=int(str(fields["pid"])),
            stop_timeout=float(str(fields["stop_timeout"])),
            pid_file_name=str(fields["pid_file"]),
            fds=dict(zip(names, message.fds, strict=True)),
        )
    except (KeyError, ValueError, AssertionError) as error:
        raise HandoverError(f"The predecessor's hand-over lacks something or is malformed: {error!r}.") from error


def _wait_for_message(channel: Channel, timeout_seconds: float) -> Message:
    import select

    poller = select.poll()
    poller.register(channel.fileno(), select.POLLIN)
    if poller.poll(timeout_seconds * 1000):
        try:
            message = channel.receive()
        except EOFError:
            raise HandoverError("The predecessor is gone: it left no hand-over to start from.") from None
        if message is not None:
            return message
    raise HandoverError(f"The predecessor sent no hand-over within {timeout_seconds:g} s.")
