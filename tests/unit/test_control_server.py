"""The control socket's server in an event loop: what it takes in a turn, from whom, and what it keeps of whom."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from sdsupervise.control.server import Call, ControlServer
from sdsupervise.linux.event_loop import EventLoop
from sdsupervise.linux.time_share import TimeShare

STATUS = b'{"method": "io.sdsupervise.Status"}\0'
EVERYBODY_IS_A_STRANGER: tuple[int, ...] = ()


class Served:
    """A server and its callers in one loop; each call is answered by `answer`."""

    def __init__(self, *, privileged: tuple[int, ...]) -> None:
        self.loop = EventLoop()
        self.calls: list[Call] = []
        self.answer: Callable[[Call], None] = lambda call: call.reply({})
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("")
        self._listener.listen(1000)
        self._listener.setblocking(False)
        self.server = ControlServer(self.loop, self._listener, on_call=self._take, privileged=privileged)
        self.server.accept_calls()
        self._stack = contextlib.ExitStack()

    def _take(self, call: Call) -> None:
        self.calls.append(call)
        self.answer(call)

    def caller(self) -> socket.socket:
        caller = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        caller.connect(self._listener.getsockname())
        caller.setblocking(False)
        return caller

    def turn(self) -> None:
        """One turn of the loop, which waits for whatever may come."""
        self.loop.call_later(0, self.loop.stop)
        self.loop.run()

    def turns(self, until: Callable[[], bool]) -> None:
        while not until():
            self.turn()

    def until_calls(self, number: int) -> None:
        self.turns(lambda: len(self.calls) == number)

    def until_connections(self, number: int) -> None:
        self.turns(lambda: len(self.server._connections) == number)

    def close(self) -> None:
        self._stack.close()
        self.server.close()
        self.loop.close()


@pytest.fixture(params=[(os.geteuid(),), EVERYBODY_IS_A_STRANGER], ids=["privileged", "strangers"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    served = Served(privileged=request.param)
    yield served
    served.close()


@pytest.fixture
def strangers() -> Iterator[Served]:
    served = Served(privileged=EVERYBODY_IS_A_STRANGER)
    yield served
    served.close()


def messages(caller: socket.socket) -> list[dict[str, object]]:
    """All that has come."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while more := caller.recv(65536):
            data += more
    return [json.loads(text) for text in data.split(b"\0") if text]


def is_at_its_end(caller: socket.socket) -> bool:
    try:
        while caller.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


def test_one_call_in_a_turn(served: Served) -> None:
    """However much many callers have sent, and whoever they are, one call is taken in a turn: timers, signals and
    workers have theirs in between. All are answered in the end, and none is always first."""
    callers = [served.caller() for _ in range(8)]
    served.until_connections(8)
    for caller in callers:
        caller.send(STATUS * 40)
    answered = dict.fromkeys(callers, 0)
    while sum(answered.values()) < 8 * 40:
        before = len(served.calls)
        served.turn()
        assert len(served.calls) - before <= 1
        for caller in callers:
            answered[caller] += len(messages(caller))
        assert max(answered.values()) - min(answered.values()) <= 2


def test_a_call_at_a_time(served: Served) -> None:
    """While a call is open nothing more is read from its connection: answers come in the order of the calls."""
    served.answer = lambda call: None
    caller = served.caller()
    caller.send(STATUS * 3)
    served.until_calls(1)
    for _ in range(20):
        served.turn()
    assert len(served.calls) == 1
    for number in range(3):
        served.calls[number].reply({"number": number})
        served.until_calls(min(number + 2, 3))
    assert [message["parameters"] for message in messages(caller)] == [{"number": number} for number in range(3)]


def test_nothing_is_run_for_a_connection_that_is_closed(served: Served) -> None:
    """A caller that is hung up on, or that hangs up, has no more of its calls run."""
    served.answer = lambda call: call.hang_up()
    caller = served.caller()
    caller.send(STATUS * 100)
    served.turns(lambda: is_at_its_end(caller))
    assert len(served.calls) == 1
    served.answer = lambda call: call.reply({})
    caller = served.caller()
    caller.send(STATUS * 100)
    served.turn()
    caller.close()
    served.until_connections(0)
    assert len(served.calls) <= 3


def test_an_answer_that_is_not_read(served: Served) -> None:
    """Nothing more is read from a caller that leaves an answer unread; when it reads, it gets all of it."""
    served.answer = lambda call: call.reply({"text": "x" * 500_000})
    caller = served.caller()
    caller.send(STATUS * 5)
    served.turns(lambda: bool(served.calls))
    for _ in range(20):
        served.turn()
    assert len(served.calls) == 1
    data = b""
    while data.count(b"\0") < 5:
        served.turn()
        with contextlib.suppress(BlockingIOError):
            data += caller.recv(1 << 20)
    assert {len(json.loads(text)["parameters"]["text"]) for text in data.split(b"\0")[:5]} == {500_000}


def test_answers_that_are_never_read(served: Served) -> None:
    """A caller that reads none of many answers to one call is hung up on, before they fill our memory."""

    def answer(call: Call) -> None:
        for _ in range(100):
            call.progress({"text": "x" * 50_000})

    served.answer = answer
    caller = served.caller()
    caller.send(b'{"method": "io.sdsupervise.Reload", "more": true}\0')
    served.turns(lambda: not served.server._connections and bool(served.calls))


def test_a_call_that_is_too_long(served: Served) -> None:
    """A message that does not end is cut off, whatever it begins with."""
    caller = served.caller()
    sent = 0
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while not is_at_its_end(caller):
            with contextlib.suppress(BlockingIOError):
                sent += caller.send(b'{"method": "' + b"x" * 10_000)
            served.turn()
    assert sent < 1_000_000 and not served.calls


def test_places(strangers: Served) -> None:
    """One user who is a stranger has 8 places. Whoever comes then takes that of the connection that has said and heard
    nothing whole for longest, also if half a call has come from there again and again."""
    dripping = strangers.caller()
    dripping.send(b'{"method": ')
    strangers.until_connections(1)
    for number in range(7):
        strangers.caller().send(STATUS)
        strangers.until_calls(number + 1)
    dripping.send(b'"io.sdsup')
    for _ in range(5):
        strangers.turn()
    newest = strangers.caller()
    newest.send(STATUS)
    strangers.until_calls(8)
    assert is_at_its_end(dripping)
    assert messages(newest) and len(strangers.server._connections) == 8


def test_whose_connection_waits_for_a_verdict_keeps_its_place(strangers: Served) -> None:
    """A call that is open is the last to be hung up on."""
    strangers.answer = lambda call: None if call.method.endswith("Reload") else call.reply({})
    waits = strangers.caller()
    waits.send(b'{"method": "io.sdsupervise.Reload"}\0')
    strangers.until_calls(1)
    for number in range(20):
        strangers.caller().send(STATUS)
        strangers.until_calls(number + 2)
    strangers.calls[0].reply({})
    assert messages(waits) == [{"parameters": {}}]


def test_calls_that_are_in_the_queue_go_to_a_successor_whole(served: Served) -> None:
    """What comes behind the call that is answered has not been read: whoever goes on with the connection reads it."""
    caller = served.caller()
    caller.send(STATUS * 2 + STATUS[:7])
    served.until_calls(1)
    taken: list[int] = []

    def take(fd: int) -> bool:
        taken.append(os.dup(fd))
        return True

    served.server.leave_idle_callers(take)
    (fd,) = taken
    with socket.socket(fileno=fd) as successor:
        assert successor.recv(65536) == STATUS + STATUS[:7]


def test_no_descriptor_is_left(served: Served) -> None:
    """Of callers that come and go, in the middle of a call or behind it."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        caller = served.caller()
        caller.send(STATUS[:-1] if number % 2 else STATUS)
        served.turn()
        caller.close()
    served.until_connections(0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_descriptor_left_for_the_privileged() -> None:
    """Where no descriptor is left, a stranger's is taken for whoever comes."""
    import resource

    served = Served(privileged=EVERYBODY_IS_A_STRANGER)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        first = served.caller()
        served.until_connections(1)
        second = served.caller()
        second.send(STATUS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
        spare = []
        with contextlib.suppress(OSError):
            while True:
                spare.append(os.open(os.devnull, os.O_RDONLY))
        served.turns(lambda: bool(served.calls))
        assert is_at_its_end(first)
    finally:
        for fd in spare:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        served.close()


def test_a_share_of_the_time() -> None:
    """What has a tenth of the time waits nine times as long as it has worked; what has all of it does not wait."""
    import time

    loop = EventLoop()
    reader, writer = os.pipe()
    os.write(writer, b"x")
    spent, served = 0.0, 0

    def work() -> None:
        nonlocal spent, served
        began = time.thread_time()
        while time.thread_time() < began + 0.005:
            pass
        spent += time.thread_time() - began
        served += 1
        if served == 6:
            loop.stop()

    share = TimeShare(loop, 0.1)
    share.watch(reader, work)
    began = time.monotonic()
    loop.run()
    # The last one has not been waited for yet.
    assert time.monotonic() - began >= 9 * spent * 5 / 6
    share.close()
    loop.close()
    os.close(reader)
    os.close(writer)
