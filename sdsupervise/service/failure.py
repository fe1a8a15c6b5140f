"""Reports why there is no service: on standard error, to systemd, and from a successor to its predecessor."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from ..errors import LibraryMissing, SdsuperviseError
from ..handover.failure_reason import tell_reason
from ..input.printable import printable
from ..linux.channel import Channel
from ..linux.inheritance import is_successor
from ..linux.unpatched import os
from ..systemd import logs
from ..systemd.notify import Notifier, status

_Made = TypeVar("_Made")


def exit_status_of(run: Callable[[], int]) -> int:
    """Call `run` and return its value; for an SdsuperviseError print one sentence and return its exit status."""
    try:
        return run()
    except SdsuperviseError as error:
        return say_failure(error)


def say_failure(error: SdsuperviseError, channel: Channel | None = None) -> int:
    """Report on standard error, and to systemd, why there is no service. Returns the exit status.

    A successor reports to its predecessor instead of systemd, which would ignore it.
    """
    sentence = printable(str(error))  # which may quote the service's own exception
    print(sentence, file=sys.stderr)
    logs.finish(within_seconds=1.0)
    if is_successor():
        tell_reason(error, channel)
    else:
        try:
            Notifier().send(status(sentence))
        except LibraryMissing:
            pass  # the sentence is on standard error
    return error.exit_status


def or_tell_reason(channel: Channel, attempt: Callable[[], _Made]) -> _Made:
    """The value of `attempt`. If it raises, the predecessor gets the reason. For a successor."""
    try:
        return attempt()
    except Exception as error:
        tell_reason(error, channel)
        raise


def tell_uncaught() -> None:
    """Send an uncaught exception to the predecessor, in a successor whose code is not loaded yet.

    Else the last output of the interpreter's exit would become the reason.
    """
    before, pid = sys.excepthook, os.getpid()

    def tell(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if os.getpid() == pid:  # not in a child
            tell_reason(error)
        before(kind, error, where)

    sys.excepthook = tell
