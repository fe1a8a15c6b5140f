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
            "the old generation is gone. Where systemd itself supervises the command, do as 'systemd-notify --ready'. "
            "Exit status 69: there is no supervisor, or it is gone.",
        ),
        (
            *("ping", ping, "in a command: send a ping, and check that the supervisor lives"),
            "Send a ping of the calling command (see --worker-timeout), and check that its supervisor lives. Where "
            "systemd itself supervises the command, do as 'systemd-notify WATCHDOG=1'. Exit status 69: there is no "
            "supervisor, or it is gone.",
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
    if not notify_client.is_of_supervisor(path):
        return _notify_systemd(path, assignment)
    ours, theirs = os.pipe()
    try:
        notify_client.send(path, assignment, f"{notify_client.ASKS_ANSWER}=1", fds=(theirs,))
    except OSError as error:
        return _fail(f"The supervisor is gone: nothing listens on {path} ({error.strerror}).")
    os.close(theirs)
    if select.select([ours], [], [], timeout_seconds)[0] and os.read(ours, 16) == notify_client.ANSWER:
        return ExitStatus.OK
    return _fail(f"The supervisor does not answer: {unanswered}.")


def _notify_systemd(path: str, assignment: str) -> int:
    """Do as systemd-notify(1). Returns the exit status.

    systemd gives no answer, and there is no turn to wait for. The message is sent in the name of the caller if this
    process may do so, because NotifyAccess=main accepts only the main process. Then it waits until systemd has read
    the message: systemd looks up the sender's unit, and cannot when the sender is gone.
    """
    caller = os.getppid()
    is_manager = str(caller) in ("0", "1", os.environ.get("MANAGERPID"))
    try:
        try:
            notify_client.send(path, assignment, from_pid=os.getpid() if is_manager else caller)
        except PermissionError:  # this needs CAP_SYS_ADMIN
            notify_client.send(path, assignment)
    except OSError as error:
        return _fail(f"Cannot notify systemd by {path} ({error.strerror}). Does it still supervise this command?")
    ours, theirs = os.pipe()
    try:
        notify_client.send(path, "BARRIER=1", fds=(theirs,))
    except OSError:
        return ExitStatus.OK  # a container manager may read one message only
    finally:
        os.close(theirs)
    if select.select([ours], [], [], _ANSWER_SECONDS)[0]:
        return ExitStatus.OK
    return _fail(f"systemd has not read the notification within {_ANSWER_SECONDS:.0f} seconds.")


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return ExitStatus.UNAVAILABLE
