"""The open-loop client of tests/load, seen from here."""

import json
import queue
import sys
import threading
import time
from pathlib import Path

from tests.load import client

from .ground import DEADLINE_SECONDS, BenchError, Process, clean_environment

RATE = 500  # requests per second


class Load(Process):
    """Requests at the clock's pace, from its creation to result()."""

    def __init__(self, address: str, mode: str) -> None:
        arguments = [address, "--mode", mode, "--rate", str(RATE)]
        super().__init__([sys.executable, "-I", str(Path(client.__file__)), *arguments], clean_environment())
        self._heard: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen)  # so that each line is known by when it was said
        self._listener.start()

    def _listen(self) -> None:
        try:
            while True:
                line = self.line()
                self._heard.put((time.monotonic_ns(), line))
        except BenchError:
            return

    def new_answer(self) -> int:
        """Wait for an answer other than all before: when it came.

        Raises BenchError when it does not come.
        """
        when, line = self._next()
        if not line.startswith("first "):
            raise BenchError(f"{self.name} ended before it was told to: {line}")
        return when

    def result(self) -> client.Result:
        """Let it end: what became of its requests."""
        self.close_input()
        while True:
            _, line = self._next()
            if line.startswith("{"):
                return client.Result(**json.loads(line))

    def _next(self) -> tuple[int, str]:
        try:
            return self._heard.get(timeout=DEADLINE_SECONDS)
        except queue.Empty:
            raise BenchError(f"{self.name} says nothing. {self.last_words()}") from None

    def end(self) -> None:
        """Stop it."""
        self.close_input()
        self._listener.join()
        super().end()
