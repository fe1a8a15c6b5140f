"""The worker's end of the link: it asks one question at a time, and the supervisor answers.

This uses only the standard library.
"""

import json
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..code import own_code
from ..errors import LinkLost
from ..input.printable import fit_failure
from . import greenlets, protocol

if TYPE_CHECKING:
    import asyncio


class Link:
    """The worker's end of the socketpair. A question blocks until it is answered."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._reader = protocol.LineReader()
        self.lost = False  # an event loop has read its end
        self.asks = False  # a caller waits for an answer; beside a running event loop, this is a thread
        self.on_release: Callable[[], None] | None = None  # called for an "ok" that no caller here waits for

    def ping(self) -> None:
        """Prove that this worker lives, and that its supervisor does.

        Raises LinkLost.
        """
        if self.asks and greenlets.run_here():
            self.send_at_once(protocol.PING)  # another greenlet waits for its answer, and reads this one too
        else:
            self._ask(protocol.PING, protocol.PONG)

    def take_over(self) -> None:
        """Report that this worker is ready, and wait until it may serve. Other greenlets run meanwhile.

        Raises LinkLost.
        """
        self.tell_code()
        self._ask(protocol.TAKEOVER, protocol.OK, greenlets.wait_readable if greenlets.run_here() else None)

    def wait_for_go(self) -> int:
        """Wait until this worker is needed and the peer supervisor knows of it; return its index.

        Raises LinkLost.
        """
        lines: list[bytes] = []
        while not lines:  # a worker receives nothing else before
            try:
                data = self.socket.recv(4096)
            except OSError as error:
                raise LinkLost from error
            if not data:
                raise LinkLost
            lines = self._reader.feed(data)
        return int(lines[0].removeprefix(protocol.GO))

    def tell_failure(self, text: str) -> None:
        """Tell the supervisor why this worker is about to die. A dead supervisor is not an error."""
        self._tell(protocol.FAILED + json.dumps(fit_failure(text)).encode() + b"\n")

    def tell_code(self) -> None:
        """Tell the supervisor which of the service's modules this worker has loaded and the supervisor has not.

        A dead supervisor is not an error.
        """
        lines: list[bytes] = []
        for module in own_code.take_unreported():
            text = json.dumps(module).encode()
            if lines and len(lines[-1]) + len(text) < protocol.MAX_LINE_BYTES // 2:
                lines[-1] += b", " + text
            else:
                lines.append(text)
        for line in lines:
            self._tell(protocol.CODE + b"[" + line + b"]\n")

    def tell_wish_to_retire(self) -> None:
        """Ask to be replaced. A dead supervisor is not an error."""
        self._tell(protocol.RETIRE)

    def tell_children(self) -> None:
        """Tell the supervisor that this worker has started processes, which may outlive it."""
        self._tell(protocol.CHILDREN)

    def tell_stopping(self) -> None:
        """Report that the stop signal has arrived. Its handler calls this, so this neither waits nor raises."""
        try:
            self.send_at_once(protocol.STOPPING)
        except LinkLost:
            pass

    def send_at_once(self, line: bytes) -> None:
        """Send a line without blocking; it is lost if the supervisor has too much unread data.

        Raises LinkLost.
        """
        try:
            self.socket.send(line, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except OSError as error:
            raise LinkLost from error

    def read_at_once(self) -> None:
        """Read what has arrived, if anything has.

        Raises LinkLost.
        """
        try:
            data = self.socket.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            raise LinkLost from error
        self._take_data(data)

    def _tell(self, line: bytes) -> None:
        try:
            self.socket.sendall(line)
        except OSError:
            pass

    def _ask(self, question: bytes, answer: bytes, wait: Callable[[int], object] | None = None) -> None:
        self.asks = True
        try:
            self.socket.sendall(question)
            if wait is not None:
                wait(self.socket.fileno())
            # Nearly always the answer arrives alone and as a whole.
            while (data := self.socket.recv(4096)) != answer and answer not in self._take_data(data):
                if wait is not None:
                    wait(self.socket.fileno())
        except OSError as error:
            raise LinkLost from error
        finally:
            self.asks = False

    def _take_data(self, data: bytes) -> list[bytes]:
        if not data:
            raise LinkLost
        lines = self._reader.feed(data)
        if protocol.OK in lines and self.on_release is not None:
            self.on_release()
        return lines


class LinkInLoop:
    """A link in an event loop: coroutines wait for answers, and nothing blocks."""

    def __init__(self, link: Link, loop: "asyncio.AbstractEventLoop", *, on_loss: Callable[[], None]) -> None:
        self._link, self._loop, self._on_loss = link, loop, on_loss
        self._waiters: set[asyncio.Future[None]] = set()
        link.on_release = self._released
        loop.add_reader(link.socket, self._read)

    def ping_every(self, seconds: float) -> None:
        """Ping now and every `seconds`, by a timer of the loop: so a loop that is stuck counts as a silent worker."""
        try:
            self._link.send_at_once(protocol.PING)
        except LinkLost:
            return  # the reader notices it too
        self._loop.call_later(seconds, self.ping_every, seconds)

    async def take_over(self) -> None:
        """Report that this worker is ready, and wait until it may serve.

        Raises LinkLost.
        """
        waiter = self._loop.create_future()
        self._waiters.add(waiter)
        try:
            self._link.tell_code()
            self._link.send_at_once(protocol.TAKEOVER)
            await waiter
        finally:
            self._waiters.discard(waiter)

    def close(self) -> None:
        """Stop using the loop."""
        self._link.on_release = None
        self._loop.remove_reader(self._link.socket)

    def _read(self) -> None:
        if self._link.asks:
            return  # a thread waits for the answer, and would wait for ever if it were read here
        try:
            self._link.read_at_once()
        except LinkLost:
            self._loop.remove_reader(self._link.socket)
            self._link.lost = True
            if not self._end_waits(LinkLost()):
                self._on_loss()

    def _released(self) -> None:
        self._end_waits(None)

    def _end_waits(self, error: LinkLost | None) -> bool:
        """End all waits, with an error or without; return whether there were any."""
        waiters = [waiter for waiter in self._waiters if not waiter.done()]
        for waiter in waiters:
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
        return bool(waiters)
