"""Where the workers of a service class come from: each is a fork of the supervisor, which has imported the code."""

import os
from contextlib import ExitStack

from ..child import class_main
from ..child.class_main import Beginning
from ..child.link import Link
from ..child.process_end import forget_what_is_inherited
from ..linux import process_title, processes
from ..linux.lifeline import Lifeline
from ..linux.unpatched import socket
from ..systemd import logs
from .class_worker import Kin, LinkedWorker
from .source import WorkerContext
from .worker import WorkerOwner


class ClassWorkers:
    """Forks workers."""

    forks = True

    def __init__(self, context: WorkerContext, service: class_main.Service) -> None:
        self._context, self._service = context, service
        self._lifeline, self._kin = Lifeline(), Kin()

    def start(self, owner: WorkerOwner, *, index: int, spare: bool, wait_for_go: bool, may_serve: bool) -> LinkedWorker:
        """As Source."""
        loop, settings, generation, supervisor, _, code_version = self._context
        ours, theirs = socket.socketpair()
        names = process_title.names_of("spare worker" if spare else "worker", index)

        def be_worker() -> int:
            os.setsid()  # by which its children are known when it is dead; and it has no business at a terminal
            ours.close()
            os.close(reader)
            self._lifeline.close_in_child()
            supervisor.let_go_in_child()
            forget_what_is_inherited()
            logs.describe("worker", generation, os.getpid())
            process_title.show_forked(names, index)
            waits, mark = spare or wait_for_go, self._kin.mark_of(os.getpid())
            beginning = Beginning(
                self._lifeline.reader, settings.stop_timeout, waits, generation, index, mark, traces, spare
            )
            return self._be_worker(theirs, beginning)

        with ExitStack() as undo, theirs:
            undo.callback(ours.close)
            reader, traces = os.pipe()
            undo.callback(os.close, reader)
            try:
                child = processes.fork(be_worker)
            finally:
                os.close(traces)
            undo.pop_all()
        return LinkedWorker(
            loop, settings, child, ours, reader, owner, code_version, kin=self._kin, index=index, spare=spare
        )

    def _be_worker(self, link: socket.socket, beginning: Beginning) -> int:
        """In the freshly forked process, which has let go of what is the supervisor's; the exit status."""
        return class_main.run(self._service, Link(link), beginning)

    def close(self) -> None:
        """As Source: nothing is left."""
