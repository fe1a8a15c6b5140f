"""`sdsupervise COMMAND`. What scripts call often starts at once; every other command imports what it needs."""

import gc
import sys
from collections.abc import Sequence

_INTERRUPTED = 130  # as a shell says of SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words in (["ready"], ["ping"]):
            from . import ready

            return ready.ready() if words == ["ready"] else ready.ping()
        gc.disable()  # modules are no garbage, and looking for some among them takes a tenth of the start
        from . import commands

        gc.freeze()  # nor will they ever be
        gc.enable()
        return commands.main(words)
    except KeyboardInterrupt:
        return _INTERRUPTED
