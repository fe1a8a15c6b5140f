"""The first message of a hand-over: all that a successor needs, with the descriptors for it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import HandoverError
from ..input.checked import Unfit
from ..linux.channel import Channel, Message
from ..linux.patience import readable_within
from . import messages
from .messages import HANDOVER_VERSION
from .peer import Peer


class Welcome(NamedTuple):
    """What a successor gets from its predecessor."""

    channel: Channel
    generation: int
    predecessor_generation: int
    predecessor_pid: int
    predecessor_uid: int | None  # from SCM_CREDENTIALS, if the kernel sent it
    stop_timeout: float
    pid_file_name: str
    overlaps: bool  # the predecessor's service lets old workers serve until new ones do
    barrier_timeout: float
    listeners: Sequence[Mapping[str, Any]]  # facts of each, in the order of their descriptors; see sockets/listeners.py
    pool: Mapping[str, Any] | None  # the predecessor's number of workers, configured and now; see supervisor/scaling.py
    draining: Sequence[Mapping[str, Any]]  # the generations before it that still drain; see draining_generations.py
    fds: dict[str, int]  # predecessor (pidfd), token, lock (O_PATH), control?, listener:…, draining:…


def send_welcome(peer: Peer, fds: Mapping[str, int], **fields: object) -> bool:
    """Send a successor all it needs. Returns False if the channel does not take it."""
    return peer.tell("welcome", tuple(fds.values()), version=HANDOVER_VERSION, carries=list(fds), **fields)


def receive_welcome(channel: Channel, *, timeout_seconds: float) -> Welcome:
    """Wait this many seconds at most for the predecessor's welcome.

    Raises HandoverError if it does not arrive, or has a form that this release does not understand.
    """
    message = _wait_for_message(channel, timeout_seconds)
    try:
        version = message.fields.get("version")
        if message.kind != "welcome" or version != HANDOVER_VERSION:
            known = version if isinstance(version, int) and 0 <= version < 1000 else "?"
            raise HandoverError(
                f"The predecessor's hand-over is {message.kind!r} in version {known}, this sdsupervise understands "
                f"version {HANDOVER_VERSION}: restart the service instead of reloading it."
            )
        fields = messages.read(message)
        fds = messages.carried(fields, message.fds)
    except Unfit as error:
        message.close_fds()
        raise HandoverError(f"The predecessor's hand-over lacks something or is malformed: {error}.") from None
    except HandoverError:
        message.close_fds()
        raise
    return Welcome(
        channel,
        generation=fields["generation"],
        predecessor_generation=fields["predecessor_generation"],
        predecessor_pid=fields["pid"],
        predecessor_uid=message.sender.uid if message.sender is not None else None,
        stop_timeout=fields["stop_timeout"],
        pid_file_name=fields["pid_file"],
        overlaps=fields.get("overlaps", False),
        barrier_timeout=fields["barrier_timeout"],
        listeners=fields.get("listeners", ()),
        pool=fields.get("pool"),
        draining=fields.get("draining", ()),
        fds=fds,
    )


def _wait_for_message(channel: Channel, timeout_seconds: float) -> Message:
    if readable_within(channel, timeout_seconds):
        try:
            message = channel.receive()
        except EOFError:
            raise HandoverError("The predecessor is gone and sent no hand-over.") from None
        except HandoverError as error:
            raise HandoverError(f"This hand-over cannot be read; restart the service instead. {error}") from None
        if message is not None:
            return message
    raise HandoverError(f"The predecessor sent no hand-over within {timeout_seconds:g} s.")
