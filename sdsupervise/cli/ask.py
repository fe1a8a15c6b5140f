"""Supervisors asked side by side: one that hangs costs the others nothing, and is shown for what it is."""

import os
import threading
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ..control.client import Client
from ..errors import HandoverError, NotPermitted, NotRunning, SdsuperviseError
from ..linux.channel import Sender

# Of an instance that does not answer; "" of one that does.
Condition = Literal["", "stopped", "failed", "dead", "hangs", "forbidden", "strange"]
_NOBODY = -1
TIMEOUT_SECONDS = 3.0  # a supervisor's event loop answers at once, or hangs


class Asked(NamedTuple):
    """One instance and what came of asking it."""

    name: str
    path: str  # of its control socket
    facts: Mapping[str, Any] | None  # what Status answered
    condition: Condition = ""  # why there are none
    sentence: str = ""  # the same as a sentence
    error: Exception | None = None
    sender: Sender | None = None  # who answered

    @property
    def uid(self) -> int:
        """Of the process that has answered."""
        return self.sender.uid if self.sender is not None else _NOBODY


def ask(name: str, path: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Asked:
    """Its status, or why there is none."""
    try:
        connection = Client.connect(path, timeout_seconds=timeout_seconds)
        try:
            answer = connection.status()
        finally:
            connection.close()
        return Asked(name or answer.parameters["name"], path, answer.parameters, sender=answer.sender)
    except NotRunning as error:
        return Asked(name, path, None, "dead" if os.path.exists(path) else "stopped", str(error), error)
    except NotPermitted as error:
        return Asked(name, path, None, "forbidden", str(error), error)
    except HandoverError as error:
        return Asked(name, path, None, "hangs", str(error), error)
    except SdsuperviseError as error:
        return Asked(name, path, None, "strange", str(error), error)


def ask_all(paths: Mapping[str, str], *, timeout_seconds: float = TIMEOUT_SECONDS) -> list[Asked]:
    """Ask all of them at once, control sockets by name."""
    found: dict[str, Asked] = {}

    def ask_one(name: str, path: str) -> None:
        found[name] = ask(name, path, timeout_seconds=timeout_seconds)

    # Threads rather than an event loop: the client is a blocking one, and each answer has a deadline.
    threads = [threading.Thread(target=ask_one, args=item, daemon=True) for item in paths.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[name] for name in paths]
