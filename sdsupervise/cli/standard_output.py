"""Standard output and error of a command, also after the reader is gone."""

import io
import os
import sys

from ..errors import CannotWrite


class _Writer(io.FileIO):
    def __init__(self, fd: int, *, goes_on: bool) -> None:
        super().__init__(fd, "w", closefd=False)
        self._goes_on = goes_on

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]  # what FileIO is given here
        try:
            return super().write(data)
        except OSError as error:
            if self._goes_on:
                return len(data)
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            raise CannotWrite(f"Cannot write to standard output: {error.strerror}.") from error


def watch() -> None:
    """A failed write to standard output raises BrokenPipeError or CannotWrite once; later output is lost."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _wrapped(sys.stdout, goes_on=False)


def outlive_reader() -> None:
    """From now on a failed write to standard output or error is ignored: the reader may be gone, or the disk full.

    A reload goes on without its reader. So must its caller, whose exit status is the verdict.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _wrapped(sys.stdout, goes_on=True)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _wrapped(sys.stderr, goes_on=True)


def _wrapped(stream: io.TextIOWrapper, *, goes_on: bool) -> io.TextIOWrapper:
    """The same stream, with "?" for what it cannot encode: a path may have any bytes, a terminal few characters."""
    stream.flush()
    raw: io.FileIO = _Writer(stream.fileno(), goes_on=goes_on)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="replace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering or stream.write_through,  # write_through is set by PYTHONUNBUFFERED
    )
