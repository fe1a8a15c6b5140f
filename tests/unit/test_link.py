"""The worker's end of the link, blocking and in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from sdsupervise.child import protocol
from sdsupervise.child.link import Link, LinkInLoop
from sdsupervise.errors import LinkLost


@pytest.fixture
def ends() -> Iterator[tuple[Link, socket.socket]]:
    """A worker's link, and its supervisor's end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Link(ours), theirs


async def told(supervisor: socket.socket, line: bytes) -> None:
    """Wait until the worker has said this."""
    supervisor.setblocking(False)
    assert await asyncio.get_running_loop().sock_recv(supervisor, 100) == line


def no_loss() -> None:
    raise AssertionError("the link was not lost")


def test_several_tasks_wait_for_their_turn(ends: tuple[Link, socket.socket]) -> None:
    """Whoever waits is answered by one "ok", and the loop goes on until then."""
    link, supervisor = ends

    async def main() -> None:
        in_loop = LinkInLoop(link, asyncio.get_running_loop(), on_loss=no_loss)
        waiting = asyncio.gather(in_loop.take_over(), in_loop.take_over())
        await told(supervisor, protocol.TAKEOVER * 2)
        assert not waiting.done()
        supervisor.send(protocol.OK)
        await waiting

    asyncio.run(main())


def test_an_answer_is_not_taken_by_another_question(ends: tuple[Link, socket.socket]) -> None:
    """A blocking ping that reads an "ok" on its way to its "pong" passes it on to the task that waits for it."""
    link, supervisor = ends

    async def main() -> None:
        in_loop = LinkInLoop(link, asyncio.get_running_loop(), on_loss=no_loss)
        turn = asyncio.ensure_future(in_loop.take_over())
        await told(supervisor, protocol.TAKEOVER)
        supervisor.send(protocol.OK + protocol.PONG)
        link.ping()
        await turn

    asyncio.run(main())


@pytest.mark.parametrize("waits", [True, False])
def test_loss(ends: tuple[Link, socket.socket], waits: bool) -> None:
    """Who waits for an answer hears of the end of the link; if nobody does, on_loss does, once."""
    link, supervisor = ends

    async def main() -> int:
        losses: asyncio.Queue[None] = asyncio.Queue()
        in_loop = LinkInLoop(link, asyncio.get_running_loop(), on_loss=lambda: losses.put_nowait(None))
        if waits:
            asyncio.get_running_loop().call_soon(supervisor.close)
            with pytest.raises(LinkLost):
                await in_loop.take_over()
        else:
            supervisor.close()
            await losses.get()
        in_loop.ping_every(0.001)  # has nobody to reach, and that is known already
        with pytest.raises(LinkLost):
            await in_loop.take_over()
        return losses.qsize()

    assert asyncio.run(main()) == 0
    assert link.lost


def test_pings_of_a_loop_do_not_block(ends: tuple[Link, socket.socket]) -> None:
    """A supervisor that does not read holds up nobody."""
    link, supervisor = ends

    async def main() -> None:
        in_loop = LinkInLoop(link, asyncio.get_running_loop(), on_loss=no_loss)
        with contextlib.suppress(BlockingIOError):
            while True:
                link.socket.send(b"x" * 4096, socket.MSG_DONTWAIT)
        in_loop.ping_every(1000)

    asyncio.run(main())
    assert supervisor.recv(1) == b"x"


def test_close(ends: tuple[Link, socket.socket]) -> None:
    """A loop that was let go of leaves the answers to whoever asks next."""
    link, supervisor = ends

    async def main() -> None:
        LinkInLoop(link, asyncio.get_running_loop(), on_loss=no_loss).close()
        supervisor.send(protocol.PONG)
        await asyncio.sleep(0)
        link.ping()

    asyncio.run(main())


def test_retire(ends: tuple[Link, socket.socket]) -> None:
    """The wish to retire is one line; a supervisor that is gone need not hear it."""
    link, supervisor = ends
    link.tell_wish_to_retire()
    assert supervisor.recv(100) == b"retire\n"
    supervisor.close()
    link.tell_wish_to_retire()
