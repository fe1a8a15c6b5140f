"""`sdsupervise ready` and `sdsupervise ping`: ready_to_take_over and ping_supervisor for scripts.

Scripts call them often, or wait for them, so this module imports nothing that takes time.
"""

import os
import select
import sys
from typing import TYPE_CHECKING

from ..errors import ExitStatus
from ..systemd import notify_client

_ANSWER_SECONDS = 10.0  # for an answer of a supervisor's event loop

if TYPE_CHECKING:
    import argparse


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define both commands for --help; main() runs them without a parser."""
    for name, function, meaning, description in (
        (
            *("ready", ready, "in a command: report that it is ready, and wait until it may serve"),
            "Report that the calling command is ready, and wait until it may serve: in an exclusive service, until "
            "the old generation is gone. Exit status 69: there is no supervisor, or it is gone.",
        ),
        (
            *("ping", ping, "in a command: send a ping, and check that the supervisor lives"),
            "Send a ping of the calling command (see --worker-timeout), and check that its supervisor lives. Exit "
            "status 69: there is no supervisor, or it is gone.",
        ),
    ):
        parser = commands.add_parser(name, help=meaning, description=description)
        parser.set_defaults(command=lambda _parsed, function=function: function())


def ready() -> int:
    """Report that this worker is ready, and wait until it may serve. Returns the exit status."""
    return _ask("READY=1", timeout_seconds=None, unanswered="it stops this worker, or it is gone")


def ping() -> int:
    """Report that this worker lives, and check that its supervisor does. Returns the exit status."""
    return _ask("WATCHDOG=1", timeout_seconds=_ANSWER_SECONDS, unanswered="it is gone, or it hangs")


def _ask(assignment: str, *, timeout_seconds: float | None, unanswered: str) -> int:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return _fail(
            "There is no supervisor: NOTIFY_SOCKET is not set. Call this in a command that 'sdsupervise "
            "run' has started."
        )
    ours, theirs = os.pipe()
    try:
        notify_client.send(path, assignment, f"{notify_client.ASKS_ANSWER}=1", fds=(theirs,))
    except OSError as error:
        return _fail(f"The supervisor is gone: nothing listens on {path} ({error.strerror}).")
    os.close(theirs)
    if select.select([ours], [], [], timeout_seconds)[0] and os.read(ours, 16) == notify_client.ANSWER:
        return ExitStatus.OK
    return _fail(f"The supervisor does not answer: {unanswered}.")


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return ExitStatus.UNAVAILABLE
