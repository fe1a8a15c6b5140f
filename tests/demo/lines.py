"""What a process writes, line by line, and a way to wait for a line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import IO


class NoSuchLine(Exception):
    """What was waited for was not said before the deadline; the message tells what was said last."""


class Lines:
    """Lines of a stream, read by a thread of its own so that the writer never blocks."""

    def __init__(self, stream: IO[str], what: str) -> None:
        self.said: list[str] = []
        self.ended = False
        self._what = what
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._news:
                    self.said.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self.ended = True
            self._news.notify_all()

    def wait_for(self, wanted: Callable[[str], bool], *, after: int, timeout_seconds: float) -> str:
        """The first line for which this is true, `after` lines from the beginning."""
        deadline = time.monotonic() + timeout_seconds
        with self._news:
            while True:
                for line in self.said[after:]:
                    if wanted(line):
                        return line
                after = len(self.said)
                if self.ended or not self._news.wait(deadline - time.monotonic()):
                    last = "\n  ".join(self.said[-10:]) or "nothing"
                    raise NoSuchLine(f"The {self._what} did not say what it should have; it said last:\n  {last}")

    def wait_for_end(self, *, timeout_seconds: float) -> bool:
        """Wait until nobody holds the stream's other end any more; False if somebody still does."""
        self._reader.join(timeout_seconds)
        return not self._reader.is_alive()
