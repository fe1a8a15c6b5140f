"""`sdsupervise COMMAND`. What scripts call often starts at once; every other command imports what it needs."""

import io
import os
import sys
from collections.abc import Sequence

from ..errors import CannotWrite, ExitStatus


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words in (["ready"], ["ping"]):
            from . import ready

            return ready.ready() if words == ["ready"] else ready.ping()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout = _watched(sys.stdout)
        elif sys.stdout is None and words[:1] != ["run"]:  # closed, by a caller who does not want to know
            sys.stdout = io.StringIO()
        from . import commands

        return commands.main(words)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        return ExitStatus.OK  # whoever read our output has seen enough


class _Output(io.FileIO):
    """Standard output. That it cannot be written to is raised once; what is still to be written then goes nowhere."""

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]  # what FileIO is given here
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            raise CannotWrite(f"Cannot write to standard output: {error.strerror}.") from error


def _watched(stdout: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same; and a path is of any bytes, and not every terminal has our characters: a "?" stands for what cannot be
    written."""
    raw: io.FileIO = _Output(stdout.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stdout.encoding,
        errors="replace" if stdout.errors == "strict" else stdout.errors,
        line_buffering=stdout.line_buffering or stdout.write_through,  # the latter with PYTHONUNBUFFERED
    )
