"""Why a successor fails: it says so to its predecessor, which tells whoever waits for the reload."""

import traceback

from ..errors import HandoverError, SdsuperviseError
from ..input.printable import MOST_OF_REASON, fit, fit_failure
from ..linux import inheritance
from ..linux.channel import Channel


def tell_reason(error: BaseException, channel: Channel | None = None) -> None:
    """In a successor: its predecessor hears over the channel why it fails, whatever else is written at its end. Before
    start() it finds the channel itself."""
    tell_why(*in_words(error), channel)


def tell_why(text: str, traceback_text: str, channel: Channel | None = None) -> None:
    """The same of what is words already."""
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
        pass  # nobody is there any more who would want to know


def in_words(error: BaseException) -> tuple[str, str]:
    """What it says, and the traceback of the service's own code, if there is one."""
    if isinstance(error, SdsuperviseError):
        return str(error), getattr(error, "traceback_text", "")
    first_line, _, _ = "".join(traceback.format_exception_only(error)).strip().partition("\n")
    return first_line, "".join(traceback.format_exception(error))
