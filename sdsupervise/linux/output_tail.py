"""The end of what is written to a pipe, read without waiting for more."""

from collections.abc import Callable

from .event_loop import EventLoop
from .unpatched import os

_KEPT_BYTES = 16 * 1024
_MOST_READS_AT_THE_END = 32  # of 64 KiB each; a pipe of a user who is not root holds at most 1 MiB; pipe(7)


def _ignore(_data: bytes) -> None:
    pass


class OutputTail:
    """Reads all that comes through a pipe, keeps the last 16 KiB, and closes it. `pass_on` gets all data, if given."""

    def __init__(self, loop: EventLoop, reader: int, *, pass_on: Callable[[bytes], None] = _ignore) -> None:
        self._loop, self._reader, self._pass_on = loop, reader, pass_on
        self._kept = b""
        os.set_blocking(reader, False)
        loop.watch(reader, self._take)

    def text(self) -> str:
        """Return the kept end as text, after what is in the pipe has been read.

        This reads no more than a pipe can hold, because a child of a dead process may keep the pipe open and write for
        ever.
        """
        for _ in range(_MOST_READS_AT_THE_END):
            if not self._read():
                break
        return self._kept.decode(errors="replace").strip()

    def close(self) -> None:
        """Stop reading and close the pipe."""
        if self._reader >= 0:
            self._loop.unwatch(self._reader)
            os.close(self._reader)
            self._reader = -1

    def close_in_child(self) -> None:
        """In a forked child, close its copy of the pipe."""
        if self._reader >= 0:
            os.close(self._reader)

    def _take(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Read once; return False if there was nothing."""
        if self._reader < 0:
            return False
        try:
            data = os.read(self._reader, 65536)
        except BlockingIOError:
            return False
        if data:
            self._kept = (self._kept + data)[-_KEPT_BYTES:]
            self._pass_on(data)
        else:
            self.close()
        return bool(data)
