"""Asks several supervisors at once. One that hangs does not delay the others, and appears as hanging."""

import os
import threading
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ..control.client import Client
from ..errors import HandoverError, NotPermitted, NotRunning, SdsuperviseError
from ..linux.channel import Sender

# Why an instance has no status; "" if it has one.
Condition = Literal["", "stopped", "failed", "dead", "hangs", "forbidden", "strange"]
_NOBODY = -1
TIMEOUT_SECONDS = 3.0  # for an answer of a supervisor's event loop


class Asked(NamedTuple):
    """One instance, and its answer."""

    name: str
    path: str  # the path of its control socket
    facts: Mapping[str, Any] | None  # the answer to Status; None if there is none
    condition: Condition = ""  # why `facts` is None
    sentence: str = ""  # the condition as a sentence
    error: Exception | None = None
    sender: Sender | None = None  # the process that answered

    @property
    def uid(self) -> int:
        """The uid of the process that answered."""
        return self.sender.uid if self.sender is not None else _NOBODY


def ask(name: str, path: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Asked:
    """Ask one instance for its status."""
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
    """Ask all instances at once; `paths` gives their control sockets by name."""
    found: dict[str, Asked] = {}

    def ask_one(name: str, path: str) -> None:
        found[name] = ask(name, path, timeout_seconds=timeout_seconds)

    # Threads instead of an event loop, because the client blocks; each answer has a deadline.
    threads = [threading.Thread(target=ask_one, args=item, daemon=True) for item in paths.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[name] for name in paths]
