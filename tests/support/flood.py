"""A stranger who wants a service to die: `python flood.py CONTROL-SOCKET HOW`, until it is killed.

It runs in a process, and as a user, of its own; see test_strangers.py.
"""

import contextlib
import select
import socket
import sys

CONNECTIONS = 62
CALL = b'{"method": "io.sdsupervise.Status"}\0'
ASKS = CALL * 1872  # as much as one read of 64 KiB takes in
SENDS = {
    "asks": ASKS,
    "asks and does not read": ASKS,
    "asks and leaves": ASKS,
    "begins to ask": CALL[:-1] + b" " * 50_000,
    "speaks nonsense": b"[" * 50_000 + b"\0",
    "wants to reload": b'{"method": "io.sdsupervise.Reload", "more": true}\0' * 1000,
}


class Flood:
    """Many connections at a time; one that is hung up on comes anew."""

    def __init__(self, path: str, how: str) -> None:
        self._path, self._how, self._poller = path, how, select.epoll()
        self._callers: dict[int, tuple[socket.socket, bytes]] = {}

    def begin(self) -> None:
        """Fill all places that there are."""
        while len(self._callers) < CONNECTIONS and self._connect():
            pass

    def go_on(self) -> None:
        """Send and read what can be sent and read now."""
        for fd, events in self._poller.poll(0.01):
            caller, left = self._callers[fd]
            try:
                if events & select.EPOLLIN and self._how != "asks and does not read" and not caller.recv(65536):
                    raise ConnectionError
                if events & select.EPOLLOUT:
                    left = left or SENDS[self._how]
                    left = left[caller.send(left) :]
                    self._callers[fd] = caller, left
                    if self._how == "asks and leaves":
                        raise ConnectionError
                if events & (select.EPOLLHUP | select.EPOLLERR):
                    raise ConnectionError
            except BlockingIOError:
                pass
            except ConnectionError:
                self._leave(fd)

    def _connect(self) -> bool:
        caller = socket.socket(socket.AF_UNIX)
        caller.setblocking(False)
        try:
            caller.connect(self._path)
        except OSError:  # its queue is full
            caller.close()
            return False
        self._callers[caller.fileno()] = caller, b""
        self._poller.register(caller.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return True

    def _leave(self, fd: int) -> None:
        caller, _ = self._callers.pop(fd)
        self._poller.unregister(fd)
        caller.close()


def main() -> None:
    """Flood."""
    flood, told = Flood(sys.argv[1], sys.argv[2]), False
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            flood.begin()
            flood.go_on()
            if not told:
                told = True
                print("it floods", flush=True)


if __name__ == "__main__":
    main()
