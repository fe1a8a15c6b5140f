"""The source of a class's workers: each one is a fork of the supervisor, which has already imported the code."""

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
from .class_worker import LinkedWorker, WorkerMarks
from .source import WorkerContext
from .worker import WorkerOwner


class ClassWorkers:
    """A Source that forks the supervisor."""

    forks = True

    def __init__(self, context: WorkerContext, service: class_main.Service) -> None:
        self._context, self._service = context, service
        self._lifeline, self._marks = Lifeline(), WorkerMarks()

    def start(self, owner: WorkerOwner, *, index: int, spare: bool, wait_for_go: bool, may_serve: bool) -> LinkedWorker:
        """See Source."""
        loop, settings, generation, supervisor, _, code_version = self._context
        ours, theirs = socket.socketpair()
        names = process_title.names_of("spare worker" if spare else "worker", index)

        def be_worker() -> int:
            os.setsid()  # the session identifies its children after its death, and detaches it from a terminal
            ours.close()
            os.close(reader)
            self._lifeline.close_in_child()
            supervisor.close_in_child()
            forget_what_is_inherited()
            logs.describe("worker", generation, os.getpid())
            process_title.show_forked(names, index)
            waits, mark = spare or wait_for_go, self._marks.mark_of(os.getpid())
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
            loop, settings, child, ours, reader, owner, code_version, marks=self._marks, index=index, spare=spare
        )

    def _be_worker(self, link: socket.socket, beginning: Beginning) -> int:
        """Run the service in the freshly forked process, after it closed the supervisor's descriptors.

        Returns the exit status.
        """
        return class_main.run(self._service, Link(link), beginning)

    def close(self) -> None:
        """See Source. There is nothing to close."""
