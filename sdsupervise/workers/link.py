"""The worker's end of the link: one question at a time, answered by the supervisor.

Standard library only.
"""

import json
import socket

from .. import protocol
from ..errors import LinkLost


class Link:
    """The worker's end of the socketpair."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._reader = protocol.LineReader()

    def ping(self) -> None:
        """Prove that this worker lives, and that its supervisor does.

        Raises LinkLost.
        """
        self._ask(protocol.PING, protocol.PONG)

    def take_over(self) -> None:
        """Say that this worker is ready and wait until it may serve.

        Raises LinkLost.
        """
        self._ask(protocol.TAKEOVER, protocol.OK)

    def wait_for_go(self) -> None:
        """Wait until the other supervisor knows this worker.

        Raises LinkLost.
        """
        self._wait_for(protocol.GO)

    def tell_failure(self, text: str) -> None:
        """Leave word why this worker is about to die; a supervisor that is gone need not know."""
        try:
            self.socket.sendall(protocol.FAILED + json.dumps(text[-protocol.MAX_FAILURE_CHARACTERS :]).encode() + b"\n")
        except OSError:
            pass

    def _ask(self, question: bytes, answer: bytes) -> None:
        try:
            self.socket.sendall(question)
        except OSError as error:
            raise LinkLost from error
        self._wait_for(answer)

    def _wait_for(self, answer: bytes) -> None:
        while True:
            try:
                data = self.socket.recv(4096)
            except OSError as error:
                raise LinkLost from error
            if not data:
                raise LinkLost
            if data == answer or answer in self._reader.feed(data):  # nearly always it comes alone and whole
                return
