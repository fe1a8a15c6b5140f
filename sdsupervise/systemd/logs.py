"""Where log records go: to the journal with fields, or to standard error. A supervisor never waits for either."""

import logging
import os
import time

from ..linux.backlog import Backlog, WritableLoop
from ..linux.unwaiting import Streams
from .journal import Journal, JournalHandler, stderr_is_journal

_fields: dict[str, str] = {}  # of this process, in every journal entry; a forked worker changes its own copy


class _Outputs:
    """The outputs of this process that must not wait for their readers. A forked worker changes its own copy."""

    def __init__(self) -> None:
        self.streams: Streams | None = None
        self.journal: Journal | None = None

    @property
    def backlogs(self) -> list[Backlog]:
        """The backlogs of all outputs."""
        found = self.streams.backlogs if self.streams is not None else []
        return [*found, self.journal.backlog] if self.journal is not None else found


_outputs = _Outputs()


def set_up(identifier: str, *, generation: int, silent: bool, waits: bool = True) -> None:
    """Send our log records to the journal or to standard error, and the service's records if it has not configured
    logging.

    `silent` is --no-warn: our records are dropped. Without `waits`, neither log records nor other writes to standard
    output and error wait for their readers, until `describe` is called in a worker.
    """
    describe("supervisor", generation)
    follow()
    if not waits and _outputs.streams is None:
        _outputs.streams = Streams(lambda name, lines: _notice(identifier, name, lines))
    ours, root = logging.getLogger("sdsupervise"), logging.getLogger()
    handler: logging.Handler
    if stderr_is_journal():
        _outputs.journal = Journal(waits=waits)
        handler = JournalHandler(_outputs.journal, identifier, _fields)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(_outputs.streams.error if _outputs.streams is not None else None)
        handler.setFormatter(logging.Formatter(f"{identifier}[%(process)d]: %(message)s"))
    before, ours.handlers[:] = ours.handlers[:], [handler]
    ours.propagate = False
    ours.setLevel(logging.CRITICAL + 1 if silent else logging.INFO)
    if not root.handlers or root.handlers == before:  # a successor calls this again when it has its own standard error
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)


def follow() -> None:
    """Use the present standard output and error, after they were redirected."""
    if _outputs.streams is not None:
        _outputs.streams.follow()


def describe(role: str, generation: int, worker_pid: int | None = None) -> None:
    """Set the journal's fields for the role of this process. A worker, given `worker_pid`, waits for the readers of its
    output."""
    _fields["SDSUPERVISE_ROLE"] = role
    _fields["SDSUPERVISE_GENERATION"] = str(generation)
    if worker_pid is not None:
        _fields["SDSUPERVISE_WORKER_PID"] = str(worker_pid)
        if _outputs.streams is not None:
            _outputs.streams.become_workers()
        if _outputs.journal is not None:
            _outputs.journal.waits = True


def attach(loop: WritableLoop) -> None:
    """Send what waits as soon as there is room for it, and not only with the next record."""
    for backlog in _outputs.backlogs:
        backlog.attach(loop)


def pass_on(data: bytes) -> None:
    """Write to standard error what another process has written."""
    if _outputs.streams is not None:
        _outputs.streams.pass_on(data)


def close_in_child() -> None:
    """In a forked child, drop what waits: the parent sends it."""
    if _outputs.streams is not None:
        _outputs.streams.close_in_child()
    if _outputs.journal is not None:
        _outputs.journal.backlog.forget()


def finish(within_seconds: float) -> None:
    """Before the exit, send what waits, for at most `within_seconds`."""
    end = time.monotonic() + within_seconds
    for backlog in _outputs.backlogs:
        backlog.finish(end)


def _notice(identifier: str, name: str, lines: int) -> bytes:
    text = f"{identifier}[{os.getpid()}]: {lines} line{'s' * (lines != 1)} dropped, because nobody read {name}\n"
    return text.encode(errors="backslashreplace")
