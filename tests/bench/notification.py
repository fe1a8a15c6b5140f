"""A stand-in for systemd's notification socket, so that supervisors load and do what they do under systemd."""

import os
import queue
import socket
import threading
import time
from types import TracebackType
from typing import Self

from .ground import DEADLINE_SECONDS, BenchError


class NotificationSocket:
    """Takes what it is sent and lets go of each barrier, as systemd does; only READY=1 is looked at."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")  # the kernel finds a free abstract name
        self.address = "@" + self._socket.getsockname()[1:].decode()
        self._ready: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._take)

    def _take(self) -> None:
        while True:
            message, fds, _, _ = socket.recv_fds(self._socket, 8192, 8)
            for fd in fds:
                os.close(fd)
            if b"READY=1" in message.splitlines():
                self._ready.put(time.monotonic_ns())
            if message == b"that is all":
                return

    def wait_until_ready(self) -> int:
        """When READY=1 came, each time once.

        Raises BenchError when it does not come.
        """
        try:
            return self._ready.get(timeout=DEADLINE_SECONDS)
        except queue.Empty:
            raise BenchError("The service does not say that it is ready.") from None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"that is all", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
