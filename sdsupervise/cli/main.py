"""`sdsupervise COMMAND`. What scripts call often starts at once; every other command imports what it needs."""

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
        from . import commands

        return commands.main(words)
    except KeyboardInterrupt:
        return _INTERRUPTED
