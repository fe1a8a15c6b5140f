"""What makes workers, as a supervisor sees it: it forks a class's own, or executes any command."""

import socket
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from ..code.code_version import CodeVersion
from ..linux.event_loop import EventLoop
from ..settings.settings import Settings
from .worker import Worker, WorkerOwner


class SourceOwner(Protocol):
    """What a source asks in a freshly forked process."""

    def let_go_in_child(self) -> None:
        """Close what is the supervisor's."""

    def lock_in_child(self) -> int | None:
        """The descriptor of the lock, where a worker is to keep it."""


class WorkerContext(NamedTuple):
    """What a generation has for its workers."""

    loop: EventLoop
    settings: Settings
    generation: int
    owner: SourceOwner
    listeners: Mapping[str, socket.socket]
    code_version: CodeVersion  # to which workers add


class Source(Protocol):
    """Makes the workers of one generation."""

    @property
    def forks(self) -> bool:
        """A worker is a fork of the supervisor, so that one can be forked ahead; else it is executed from disk."""

    def start(self, owner: WorkerOwner, *, index: int, spare: bool, wait_for_go: bool, may_serve: bool) -> Worker:
        """Start one. A spare, and one that is to `wait_for_go`, runs no service code before Worker.let_go. Where it
        `may_serve` the generation holds the lock, and the release will come as soon as the worker is ready.

        Raises OSError when the kernel will not fork.
        """

    def close(self) -> None:
        """The last worker is gone, and no other will be started."""
