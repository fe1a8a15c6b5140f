"""Where the workers of a service class come from: each is a fork of the supervisor, which has imported the code."""

import os
import socket
from collections.abc import Callable

from . import logs
from .config import Settings
from .linux import processes
from .linux.event_loop import EventLoop
from .workers import python_worker
from .workers.link import Link
from .workers.linked_worker import LinkedWorker
from .workers.worker import WorkerListener


class ClassWorkers:
    """Forks workers. `let_go` is called in each, and closes what is the supervisor's."""

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        service: python_worker.Service,
        *,
        generation: int,
        let_go: Callable[[], None],
    ) -> None:
        self._loop, self._settings, self._service = loop, settings, service
        self._generation, self._let_go = generation, let_go

    def start(self, listener: WorkerListener, *, index: int, spare: bool, wait_for_go: bool) -> LinkedWorker:
        """Fork one. A spare, and one that is to `wait_for_go`, runs no service code before Worker.let_go.

        Raises OSError when the kernel will not fork.
        """
        ours, theirs = socket.socketpair()
        supervisor_pid = os.getpid()

        def be_worker() -> int:
            ours.close()
            self._let_go()
            logs.describe("worker", self._generation, os.getpid())
            return python_worker.run(
                self._service,
                Link(theirs),
                supervisor_pid=supervisor_pid,
                stop_timeout=self._settings.stop_timeout,
                wait_for_go=spare or wait_for_go,
                generation=self._generation,
                index=index,
            )

        with theirs:
            try:
                child = processes.fork(be_worker)
            except OSError:
                ours.close()
                raise
        return LinkedWorker(self._loop, self._settings, child, ours, listener, index=index, spare=spare)
