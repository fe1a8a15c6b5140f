"""`sdsupervise COMMAND`. Commands that scripts call often start fast; every other command imports what it needs."""

import io
import sys
from collections.abc import Sequence

from ..errors import BeginsHere, ExitStatus


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _main(words)
    except BeginsHere as successor:
        from . import begins_here

        words = begins_here.begin(successor)
    return _main(words)  # its errors have nothing to do with the process of ExecReload= that it was


def _main(words: list[str]) -> int:
    try:
        if words in (["ready"], ["ping"]):
            from . import ready

            return ready.ready() if words == ["ready"] else ready.ping()
        if sys.stdout is None and words[:1] != ["run"]:  # closed by the caller
            sys.stdout = io.StringIO()
        if words[:1] not in (["run"], ["check"], ["config"]):  # which may load a service's code, or look for it
            from ..service.isolation import isolate

            isolate()
        from . import commands, standard_output

        standard_output.watch()
        return commands.main(words)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        return ExitStatus.OK  # the reader has closed the pipe
