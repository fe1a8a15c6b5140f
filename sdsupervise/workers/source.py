"""What makes workers, as a supervisor sees it: it forks a class's own, or executes any command."""

import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from ..code.code_version import CodeVersion
from ..linux.event_loop import EventLoop
from ..settings.settings import Settings
from .worker import Worker, WorkerListener


class Surroundings(NamedTuple):
    """What a generation has for its workers."""

    loop: EventLoop
    settings: Settings
    generation: int
    let_go: Callable[[], None]  # in a freshly forked process: close what is the supervisor's
    listeners: Mapping[str, socket.socket]
    lock: Callable[[], int | None]  # in a freshly forked process: the descriptor to keep, where there is one
    code_version: CodeVersion  # to which workers add


class Source(Protocol):
    """Makes the workers of one generation."""

    @property
    def forks(self) -> bool:
        """A worker is a fork of the supervisor, so that one can be forked ahead; else it is executed from disk."""

    def start(self, listener: WorkerListener, *, index: int, spare: bool, wait_for_go: bool, may_serve: bool) -> Worker:
        """Start one. A spare, and one that is to `wait_for_go`, runs no service code before Worker.let_go. Where it
        `may_serve` the generation holds the lock, and the release will come as soon as the worker is ready.

        Raises OSError when the kernel will not fork.
        """

    def close(self) -> None:
        """The last worker is gone, and no other will be started."""
