"""Why there is no service: to whoever reads standard error, to systemd, and from a successor to its predecessor."""

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
    """Call it; what it returns, or the exit status of its error, of which one sentence is said."""
    try:
        return run()
    except SdsuperviseError as error:
        return say_failure(error)


def say_failure(error: SdsuperviseError, channel: Channel | None = None) -> int:
    """Tell people and systemd why there is no service; the exit status.

    A successor tells its predecessor instead: systemd would not listen to it.
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
            pass  # who reads standard error has been told why
    return error.exit_status


def or_tell_reason(channel: Channel, attempt: Callable[[], _Made]) -> _Made:
    """In a successor: what this attempt makes; where it fails, the predecessor gets the reason."""
    try:
        return attempt()
    except Exception as error:
        tell_reason(error, channel)
        raise


def tell_uncaught() -> None:
    """In a successor, before its service's code is loaded: an exception that this does not catch is the reason, though
    what runs at the interpreter's exit writes more."""
    before, pid = sys.excepthook, os.getpid()

    def tell(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if os.getpid() == pid:  # and not a child's
            tell_reason(error)
        before(kind, error, where)

    sys.excepthook = tell
