"""Sends the reason of a failure from a successor to its predecessor, which passes it on to the caller of the reload."""

import traceback

from ..errors import HandoverError, SdsuperviseError
from ..input.printable import MOST_OF_REASON, fit, fit_failure
from ..linux import inheritance
from ..linux.channel import Channel


def tell_reason(error: BaseException, channel: Channel | None = None) -> None:
    """Send the failure reason over the channel, in a successor. Before start() this finds the channel by itself."""
    tell_why(*in_words(error), channel)


def tell_why(text: str, traceback_text: str, channel: Channel | None = None) -> None:
    """Send a reason that is already a text; see tell_reason."""
    try:
        handed = inheritance.this_invocation().environment
        inherited = inheritance.inherited_handover(handed) if channel is None else None
        if inherited is not None:
            channel = Channel.from_fd(inherited[0])
        if channel is not None:
            channel.send("reason", text=fit(text, MOST_OF_REASON), traceback=fit_failure(traceback_text))
            if inherited is not None:
                channel.detach()
    except (HandoverError, OSError):
        pass  # the predecessor is gone, so no process waits for the reason


def in_words(error: BaseException) -> tuple[str, str]:
    """The error as one sentence, and the traceback of the service's own code, "" if there is none."""
    if isinstance(error, SdsuperviseError):
        return str(error), getattr(error, "traceback_text", "")
    first_line, _, _ = "".join(traceback.format_exception_only(error)).strip().partition("\n")
    return first_line, "".join(traceback.format_exception(error))
