"""The client of one instance: it connects anew for each question, all the time, and remembers who answered."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import NamedTuple

PAUSE_SECONDS = 0.04
PATIENCE_SECONDS = 20.0  # a way back on a busy machine takes seconds, and clients wait in the backlog


class Reply(NamedTuple):
    """How one question went: by whom it was answered, or why it was not."""

    asked_at: float  # time.monotonic()
    release: int = 0
    pid: int = 0
    failure: str = ""  # "refused": nobody listens. "dropped": who had accepted hung up. "late": no answer in time


class Client:
    """Asks until it is closed. Of a failure it tells once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._changed = threading.Condition()
        self._last = Reply(0.0)
        self._failures: list[Reply] = []
        self._ends = False
        self.questions = 0
        self._thread = threading.Thread(target=self._ask_on, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ends = True
        self._thread.join()

    def take_failures(self) -> list[Reply]:
        """Those since the last time."""
        with self._changed:
            failures, self._failures = self._failures, []
        return failures

    def fail(self, reply: Reply) -> None:
        """As if this had happened."""
        with self._changed:
            self._failures.append(reply)

    def wait_for_reply(self, seconds: float) -> Reply | None:
        """The next one to a question that is asked from now on; None if there is none in time."""
        now = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._last.asked_at >= now, seconds)
            return self._last if self._last.asked_at >= now else None

    def _ask_on(self) -> None:
        while not self._ends:
            reply = ask(self._port)
            with self._changed:
                self.questions += 1
                self._last = reply
                if reply.failure:
                    self._failures.append(reply)
                self._changed.notify_all()
            time.sleep(PAUSE_SECONDS)  # the load is to be light: it is not waited for anything


def ask(port: int) -> Reply:
    """One question."""
    at = time.monotonic()
    with socket.socket(socket.AF_INET) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        try:
            connection.connect(("127.0.0.1", port))
            words = connection.recv(100).split()
        except ConnectionRefusedError:
            return Reply(at, failure="refused")
        except TimeoutError:
            return Reply(at, failure="late")
        except OSError as error:
            return Reply(at, failure=f"dropped ({os.strerror(error.errno or 0)})")
    return Reply(at, int(words[0]), int(words[1])) if len(words) == 2 else Reply(at, failure="dropped")
