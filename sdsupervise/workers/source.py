"""What creates workers for a supervisor: one source forks a class's workers, another executes a command."""

import socket
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from ..code.code_version import CodeVersion
from ..linux.event_loop import EventLoop
from ..settings.settings import Settings
from .worker import Worker, WorkerOwner


class SourceOwner(Protocol):
    """What a source needs from its supervisor in a freshly forked process."""

    def close_in_child(self) -> None:
        """Close all descriptors of the supervisor."""

    def lock_in_child(self) -> int | None:
        """The descriptor of the lock; None if a worker does not keep it."""


class WorkerContext(NamedTuple):
    """What a generation gives to its workers."""

    loop: EventLoop
    settings: Settings
    generation: int
    owner: SourceOwner
    listeners: Mapping[str, socket.socket]
    code_version: CodeVersion  # workers add their modules to it


class Source(Protocol):
    """Creates the workers of one generation."""

    @property
    def forks(self) -> bool:
        """Whether a worker is a fork of the supervisor, and can be forked ahead; else it is executed from disk."""

    def start(self, owner: WorkerOwner, *, index: int, spare: bool, wait_for_go: bool, may_serve: bool) -> Worker:
        """Start a worker for slot `index`.

        A spare, and a worker with `wait_for_go`, runs no code of the service before Worker.let_go. With `may_serve` the
        generation holds the lock, and releases the worker as soon as it is ready.

        Raises OSError if the kernel refuses to fork.
        """

    def close(self) -> None:
        """Clean up: the last worker is gone, and no other will be started."""
