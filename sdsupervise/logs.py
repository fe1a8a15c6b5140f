"""Where log records go: to the journal with fields, or to standard error."""

import logging

from .systemd.journal import JournalHandler, stderr_is_journal

_fields: dict[str, str] = {}  # of this process, in every journal entry; a forked worker changes its own copy


def set_up(identifier: str, *, generation: int, silent: bool) -> None:
    """Send our records, and the service's if it has not configured logging itself, to where they belong.

    silent is --no-warn: nothing of ours is said.
    """
    describe("supervisor", generation)
    ours, root = logging.getLogger("sdsupervise"), logging.getLogger()
    handler: logging.Handler
    if stderr_is_journal():
        try:
            handler = JournalHandler(identifier, _fields)
        except ImportError:  # in a worker of another interpreter, which need not have it
            handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(f"{identifier}[%(process)d]: %(message)s"))
    before, ours.handlers[:] = ours.handlers[:], [handler]
    ours.propagate = False
    ours.setLevel(logging.CRITICAL + 1 if silent else logging.INFO)
    if not root.handlers or root.handlers == before:  # a successor calls this again when it has its own standard error
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)


def describe(role: str, generation: int, worker_pid: int | None = None) -> None:
    """Say in the journal's fields who speaks."""
    _fields["SDSUPERVISE_ROLE"] = role
    _fields["SDSUPERVISE_GENERATION"] = str(generation)
    if worker_pid is not None:
        _fields["SDSUPERVISE_WORKER_PID"] = str(worker_pid)
