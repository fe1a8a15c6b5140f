"""`self.draining` by itself: asked, waited for, awaited and selected, before and after it begins."""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import threading

import pytest

from sdsupervise.child.draining import Draining


def is_readable(draining: Draining) -> bool:
    return bool(select.select([draining], [], [], 0)[0])


def test_it_begins_once_and_for_good() -> None:
    """False before, true ever after; it can be asked for as often as one likes."""
    draining = Draining()
    assert not draining and repr(draining) == "<Draining: not begun>"
    for _ in range(2):
        draining.begin()
        assert draining and repr(draining) == "<Draining: begun>"


def test_it_costs_nothing_until_it_is_used() -> None:
    """No descriptor is taken before one is asked for, also when it begins."""
    before = len(os.listdir("/proc/self/fd"))
    draining = Draining()
    draining.begin()
    assert bool(draining) and len(os.listdir("/proc/self/fd")) == before


def test_it_can_be_selected() -> None:
    """One descriptor, readable from the beginning on, not inherited by what is executed; however late it is asked
    for."""
    early, late = Draining(), Draining()
    assert not is_readable(early) and not os.get_inheritable(early.fileno())
    with selectors.DefaultSelector() as selector:
        selector.register(early, selectors.EVENT_READ)
        assert selector.select(0) == []
        for draining in (early, late):
            draining.begin()
        assert [key.fileobj for key, _ in selector.select(0)] == [early]
    for draining in (early, late):
        assert is_readable(draining) and is_readable(draining)
        assert draining.fileno() == draining.fileno()
        os.close(draining.fileno())
        draining.begin()  # a descriptor that the service has closed is none of a signal handler's trouble


def test_wait() -> None:
    """wait() blocks until it begins, in as many threads as there are, or for as long as it was told to."""
    draining = Draining()
    assert draining.wait(0) is False and draining.wait(-1) is False and draining.wait(0.01) is False
    waiting = [threading.Thread(target=draining.wait, args=limit) for limit in ((), (None,), (1e12,))]
    for thread in waiting:
        thread.start()
    draining.begin()
    for thread in waiting:
        thread.join()
    assert draining.wait() is True


def test_several_tasks_can_await_it() -> None:
    """Each of them wakes, those that come late at once; one that was cancelled does not matter to the others."""

    async def main() -> None:
        draining = Draining()
        tasks = [asyncio.ensure_future(draining) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        draining.begin()
        await asyncio.gather(tasks[0], tasks[2])
        await draining
        assert tasks[1].cancelled()

    asyncio.run(main())


def test_event_loops_of_several_threads() -> None:
    """It wakes tasks in whatever event loop they wait, and is not harmed by one that was closed."""
    draining = Draining()
    begun = threading.Barrier(3)

    async def wait() -> None:
        task = asyncio.ensure_future(draining)
        await asyncio.sleep(0)
        begun.wait()
        await task

    threads = [threading.Thread(target=asyncio.run, args=(wait(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    closed = asyncio.new_event_loop()
    left_behind = closed.create_task(asyncio.wait_for(draining, None))
    closed.call_soon(closed.stop)
    closed.run_forever()
    closed.close()
    begun.wait()
    draining.begin()
    for thread in threads:
        thread.join()
    assert not left_behind.done()
    left_behind._log_destroy_pending = False  # type: ignore[attr-defined]


def test_it_does_not_block_an_event_loop() -> None:
    """wait() in a coroutine, where `await` was meant, is an error and says what to write."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"write 'await self\.draining'"):
            Draining().wait()

    asyncio.run(main())


def test_each_worker_has_its_own() -> None:
    """What was asked for before a fork is readable in the process that drains, and in no other."""
    draining = Draining()
    number = draining.fileno()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        draining.renew_in_worker()
        draining.begin()
        os.write(tell, b"yes" if draining.fileno() == number and is_readable(draining) else b"no")
        os._exit(0)
    assert os.read(told, 10) == b"yes"
    os.waitpid(child, 0)
    assert not is_readable(draining)
    os.close(told)
    os.close(tell)
