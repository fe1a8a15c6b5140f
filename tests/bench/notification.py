"""A stand-in for systemd's notification socket, so that supervisors load and do what they do under systemd."""

import os
import socket
import threading
from types import TracebackType
from typing import Self


class NotificationSocket:
    """Takes what it is sent and lets go of each barrier, as systemd does; nothing is looked at."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")  # the kernel finds a free abstract name
        self.address = "@" + self._socket.getsockname()[1:].decode()
        self._thread = threading.Thread(target=self._take)

    def _take(self) -> None:
        while True:
            message, fds, _, _ = socket.recv_fds(self._socket, 8192, 8)
            for fd in fds:
                os.close(fd)
            if message == b"that is all":
                return

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
