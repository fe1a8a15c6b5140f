"""Services written as coroutines: their event loop goes on whatever the supervisor asks of them."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.processes.test_author import DAEMON
from tests.support.harness import Breakpoint, Ground, service
from tests.support.running import LIMIT_SECONDS, wait_gone

ASYNC = """
async def supervised_process(self):
    await self.ready_to_take_over()
    be_the_only_one()
    self.loop = asyncio.get_running_loop()
    self.turns = 0
    other = asyncio.create_task(self.turn())
    report("serves")
    try:
        await self.work()
    finally:
        report("finally")
async def turn(self):
    while True:
        self.turns += 1
        await asyncio.sleep(0)
async def work(self):
    await asyncio.Event().wait()
async def supervised_shutdown(self):
    before = self.turns
    await asyncio.sleep(0.01)
    report("shutdown", same_loop=self.loop is asyncio.get_running_loop(), goes_on=self.turns > before)
"""


def test_async(ground: Ground) -> None:
    """supervised_process and supervised_shutdown may be coroutines: one loop, whose tasks go on until the shutdown is
    over and are cancelled then."""
    ground.deploy(1, service(ASYNC, before="import asyncio"))
    running = ground.serving()
    running.signal(signal.SIGTERM)
    assert ground.expect("shutdown").details == {"same_loop": "True", "goes_on": "True"}
    ground.expect("finally")
    assert running.wait() == 0
    assert "Traceback" not in running.err and "never" not in running.err


def test_async_stop_before_its_turn(ground: Ground) -> None:
    """A coroutine that waits for its turn takes a stop at once."""
    text = service(
        """
        async def supervised_process(self):
            report("asks", release=self.release)
            await self.ready_to_take_over()
            report("serves")
            await asyncio.sleep(1000)
        async def supervised_shutdown(self):
            report("shutdown", release=self.release)
        """,
        before="import asyncio",
    )
    ground.deploy(1, text)
    hold = Breakpoint(ground, "STARTING_SUCCESSOR+PEER_ASKS_YIELD")
    ground.serving(environment=hold.environment)
    ground.deploy(2, text)
    ground.reload_process()
    hold.wait()
    os.kill(ground.expect("asks", release=2).pid, signal.SIGTERM)
    ground.expect("shutdown", release=2)


def test_async_error(ground: Ground) -> None:
    """error() in a coroutine warns, awaits supervised_shutdown, exits 255, and leaves no word of asyncio's."""
    ground.deploy(1, service(ASYNC + "async def work(self): self.error('tired')", before="import asyncio"))
    running = ground.start()
    ground.expect("shutdown")
    running.expect_line(r"Shutting down: tired")
    running.expect_line(r"Worker \(pid \d+\) exited with status 255$")
    assert "Traceback" not in running.err and "asyncio" not in running.err


def test_async_raises(ground: Ground) -> None:
    """An exception of a coroutine is a crash with its traceback."""
    ground.deploy(1, service(ASYNC + "async def work(self): raise ValueError('odd')", before="import asyncio"))
    running = ground.start()
    running.expect_line("^Traceback")
    running.expect_line("^ValueError: odd")
    running.expect_line("exited with status 1")


def test_async_shutdown_of_a_plain_process(ground: Ground) -> None:
    """A coroutine for supervised_shutdown is awaited also where supervised_process is none, or runs a loop itself."""
    shutdown = "async def supervised_shutdown(self):\n    await asyncio.sleep(0)\n    report('shutdown')\n"
    ground.deploy(1, service(shutdown, before="import asyncio"))
    running = ground.serving()
    running.signal(signal.SIGTERM)
    ground.expect("shutdown")
    assert running.wait() == 0
    own_loop = "def serve(self):\n    asyncio.run(asyncio.sleep(1000))"
    ground.deploy(2, service(shutdown + own_loop, before="import asyncio"))
    running = ground.serving()
    running.signal(signal.SIGTERM)
    ground.expect("shutdown")
    assert running.wait() == 0


def test_async_daemon(ground: Ground) -> None:
    """daemon_run may be a coroutine."""
    body = DAEMON.replace("def daemon_run", "async def daemon_run").replace("self.work()", "await asyncio.sleep(1000)")
    ground.deploy(1, service(body, base="Daemon", before="import asyncio"))
    running = ground.serving()
    running.signal(signal.SIGTERM)
    assert running.wait() == 4
    ground.expect("shutdown")


def test_signal_while_asyncio_sets_itself_up(ground: Ground) -> None:
    """A signal that comes while asyncio holds the lock of its setting up waits until that is done."""
    before = """
    import asyncio
    lock = threading.Lock()
    os.environ.setdefault("INTERRUPTED", "")
    def new_event_loop(original=asyncio.new_event_loop):
        with lock:
            if not os.environ["INTERRUPTED"]:
                os.environ["INTERRUPTED"] = "yes"
                os.kill(os.getpid(), signal.SIGTERM)
            return original()
    asyncio.new_event_loop = asyncio.events.new_event_loop = new_event_loop
    """
    ground.deploy(1, service("async def supervised_shutdown(self):\n    report('shutdown')", before=before))
    running = ground.start()
    worker = ground.expect("shutdown").pid
    running.expect_line(rf"Worker \(pid {worker}\) exited with status 0")


# ------------------------------------------------------------------------------------------------- waiting for its turn


def test_event_loop_goes_on_while_it_waits(ground: Ground) -> None:
    """Other tasks go on while a coroutine awaits its turn, and so they do once it has it."""
    text = service(
        """
        async def supervised_process(self):
            asyncio.create_task(self.count())
            report("asks", release=self.release)
            await self.ready_to_take_over()
            be_the_only_one()
            report("serves", release=self.release)
            await asyncio.Event().wait()
        async def count(self):
            while True:
                await asyncio.sleep(0.01)
                report("turns", release=self.release)
        """,
        before="import asyncio",
    )
    ground.deploy(1, text)
    hold = Breakpoint(ground, "STARTING_SUCCESSOR+PEER_ASKS_YIELD")
    ground.serving(environment=hold.environment)
    ground.deploy(2, text)
    reload = ground.reload_process()
    hold.wait()
    ground.expect("asks", release=2)
    for _ in range(3):
        ground.expect("turns", release=2)
    hold.release()
    assert reload.wait() == 0
    ground.expect("serves", release=2)


@pytest.mark.parametrize(
    "how",
    [
        "await asyncio.gather(self.ready_to_take_over(), asyncio.sleep(0))",
        "await asyncio.wait_for(self.ready_to_take_over(), 1000)",
        "await asyncio.create_task(self.ready_to_take_over())",
        "await self.ready_to_take_over(); await self.ready_to_take_over(); self.ready_to_take_over()",
        "await self.ready_to_take_over(); await self.ping_supervisor(); self.ping_supervisor()",
        "await asyncio.to_thread(self.ready_to_take_over)",
    ],
)
def test_ways_to_wait(ground: Ground, how: str) -> None:
    """What can be done with a coroutine can be done with this one; once its turn has come, it has it for good."""
    body = f"async def supervised_process(self):\n    {how}\n    report('serves')\n    await asyncio.sleep(1000)"
    ground.deploy(1, service(body, before="import asyncio"))
    running = ground.start()
    ground.expect("serves")
    assert ground.status()["state"] == "serving"
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_loop_of_its_own(ground: Ground) -> None:
    """A service that is no coroutine but runs an event loop awaits its turn in that; it can block elsewhere later."""
    body = """
    def supervised_process(self):
        asyncio.run(self.begin())
        self.ping_supervisor()
        report("serves")
        self.draining.wait()
    async def begin(self):
        await self.ready_to_take_over()
        self.ping_supervisor()
    """
    ground.deploy(1, service(body, before="import asyncio"))
    running = ground.start()
    ground.expect("serves")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


@pytest.mark.parametrize(
    "how",
    [
        "self.ready_to_take_over()\n    report('out of turn')",
        "turn = self.ready_to_take_over()\n    await asyncio.sleep(0)\n    await asyncio.sleep(0)\n"
        "    await asyncio.sleep(0)\n    report('out of turn')",
        "x = [self.ready_to_take_over()]\n    x.clear()\n    report('out of turn')",
    ],
    ids=["dropped", "kept", "dropped later"],
)
def test_forgotten_await(ground: Ground, how: str) -> None:
    """A coroutine that does not await its turn would serve beside the old code: it is ended before it gets there, the
    reload fails, and the reason says in which line."""
    ground.serving()
    body = f"async def supervised_process(self):\n    report('asks')\n    {how}"
    path = ground.deploy(2, service(body, before="import asyncio"))
    failed = ground.reload()
    ground.expect("asks")
    line = 1 + next(number for number, text in enumerate(path.read_text().splitlines()) if "ready_to" in text)
    assert failed.returncode == 1
    assert f"NOT RELOADED: ready_to_take_over() in service.py, line {line}, was not awaited" in failed.stderr
    assert "await self.ready_to_take_over()" in failed.stderr
    assert not ground.seen("out of turn")
    assert ground.status()["generation"] == 1


def test_lost_while_it_waits(ground: Ground) -> None:
    """A supervisor that dies while a coroutine awaits its turn is error("Failed to take over"), also where the worker
    has SIGTERM blocked; and one shutdown."""
    body = """
    async def supervised_process(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        report("asks")
        await self.ready_to_take_over()
    """
    ground.deploy(1, service(body))
    hold = Breakpoint(ground, "OPENING+WORKER_READY")
    running = ground.start(environment=hold.environment)
    worker = ground.expect("asks").pid
    os.kill(hold.wait(), signal.SIGKILL)
    running.expect_line(r"^Service\[\d+\]: Shutting down: Failed to take over$")
    ground.expect("shutdown")
    wait_gone(worker)
    assert len(ground.seen("shutdown")) == 1


# ------------------------------------------------------------------------------------------------------------ draining

DRAINS = """
stop_timeout = 20.0
async def supervised_process(self):
    await self.ready_to_take_over()
    be_the_only_one()
    self.loop = asyncio.get_running_loop()
    self.answered = asyncio.Event()
    server = await asyncio.start_unix_server(self.answer, os.environ["GROUND"] + "/listener")
    other = asyncio.create_task(self.tell())
    report("serves")
    await self.draining
    server.close()
    await self.answered.wait()
    await other
    report("returns")
async def tell(self):
    await self.draining
    report("draining")
async def answer(self, reader, writer):
    writer.write(b"begun")
    writer.write(b"done" + await reader.read(10))
    await writer.drain()
    writer.close()
    self.answered.set()
async def supervised_shutdown(self):
    await asyncio.sleep(0)
    report("shutdown", same_loop=self.loop is asyncio.get_running_loop())
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_request_in_hand(ground: Ground, end: signal.Signals) -> None:
    """Every task that awaits `draining` wakes when the worker is told to stop, or its supervisor is killed; the request
    in hand is answered, then supervised_shutdown runs in the same loop. A second signal changes nothing."""
    ground.deploy(1, service(DRAINS, before="import asyncio"))
    running = ground.serving()
    worker = ground.worker_pids()[0]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_SECONDS)
        client.connect(str(ground.directory / "listener"))
        assert client.recv(10) == b"begun"
        running.signal(end)
        ground.expect("draining")
        os.kill(worker, signal.SIGTERM)
        client.sendall(b"!")
        assert client.recv(10) == b"done!"
    assert ground.expect("shutdown").said("same_loop") == "True"
    assert running.wait() == (0 if end is signal.SIGTERM else -signal.SIGKILL)
    ground.expect_nothing_left()
    assert [report.word for report in ground.history][-2:] == ["returns", "shutdown"]
    assert "Killing" not in running.err and "Traceback" not in running.err


LATE = """
stop_timeout = 0.5
async def supervised_process(self):
    await self.ready_to_take_over()
    report("serves", promises=bool(self.draining))
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        report("cancelled")
        REACTION
    finally:
        await asyncio.sleep(0)
        report("finally")
async def supervised_shutdown(self):
    await asyncio.sleep(0)
    report("shutdown")
"""


@pytest.mark.parametrize("reaction", ["raise", "return"])
def test_async_time_limit(ground: Ground, reaction: str) -> None:
    """When its time is up, a coroutine that goes on is cancelled and comes to its end, then supervised_shutdown runs;
    a clean exit."""
    ground.deploy(1, service(LATE.replace("REACTION", reaction), before="import asyncio"))
    running = ground.serving()
    os.kill(ground.worker_pids()[0], signal.SIGTERM)  # not by its supervisor, whose patience would end when ours does
    ground.expect("shutdown")
    running.expect_line("exited with status 0")
    words = [report.word for report in ground.history]
    assert words[words.index("cancelled") :][:3] == ["cancelled", "finally", "shutdown"]
    assert "Traceback" not in running.err


def test_time_limit_in_a_loop_of_its_own(ground: Ground) -> None:
    """A service that runs an event loop itself is taken out of that when its time is up, and shut down then."""
    body = """
    stop_timeout = 0.5
    def serve(self):
        asyncio.run(self.work())
    async def work(self):
        report("works", promises=bool(self.draining))
        try:
            await asyncio.sleep(1000)
        finally:
            report("finally")
    """
    ground.deploy(1, service(body, before="import asyncio"))
    running = ground.start()
    os.kill(ground.expect("works").pid, signal.SIGTERM)
    ground.expect("finally")
    ground.expect("shutdown")
    running.expect_line("exited with status 0")
    assert [report.word for report in ground.history][3:5] == ["finally", "shutdown"]


@pytest.mark.parametrize("reaction", ["await asyncio.sleep(1000)", "time.sleep(1000)"])
def test_async_that_will_not_be_cancelled(ground: Ground, reaction: str) -> None:
    """A coroutine that goes on all the same, or holds up its loop, is killed at the end of stop_timeout."""
    ground.deploy(1, service(LATE.replace("REACTION", reaction), before="import asyncio"))
    running = ground.serving()
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert "Killing worker 0" in running.err
    ground.expect_nothing_left()


def test_signal_then_error(ground: Ground) -> None:
    """error() right after a signal that has not ended the event loop yet: one shutdown, and the status of error()."""
    body = "async def work(self):\n    os.kill(os.getpid(), signal.SIGTERM)\n    self.error('just then')"
    ground.deploy(1, service(ASYNC + body, before="import asyncio"))
    running = ground.start()
    ground.expect("shutdown")
    running.expect_line("Shutting down: just then")
    running.expect_line("exited with status 255")


def test_signal_at_the_end(ground: Ground) -> None:
    """A signal that comes as supervised_process returns shuts the service down, once."""
    body = "async def work(self):\n    os.kill(os.getpid(), signal.SIGTERM)"
    ground.deploy(1, service(ASYNC + body, before="import asyncio"))
    running = ground.start()
    worker = ground.expect("shutdown").pid
    running.expect_line(rf"Worker \(pid {worker}\) exited with status 0")
    ground.expect("serves")
    ground.expect("serves")
    assert [report.pid for report in ground.seen("shutdown")].count(worker) == 1


# ------------------------------------------------------------------------------------------------------------ liveness


PINGS = """
worker_timeout = 0.5
stuck = not os.path.exists(os.environ["GROUND"] + "/tried")
async def supervised_process(self):
    await self.ready_to_take_over()
    report("serves")
    await asyncio.sleep(1.5)
    report("lives")
    if self.stuck:
        open(os.environ["GROUND"] + "/tried", "w").close()
        self.hang()
    await asyncio.sleep(1000)
def hang(self):
    time.sleep(1000)
"""


def test_loop_pings_by_itself(ground: Ground) -> None:
    """With worker_timeout the event loop pings, unasked: one that goes on is left alone, however long its tasks wait;
    one that is stuck shows where, and is replaced."""
    ground.deploy(1, service(PINGS, before="import asyncio"))
    running = ground.start()
    worker = ground.expect("lives").pid
    running.expect_line(rf"Worker \(pid {worker}\) sent no ping for 0\.5 s, ending it")
    running.expect_line("in hang")
    running.expect_line(rf"Worker \(pid {worker}\) was killed by SIGABRT")
    assert ground.expect("lives").pid != worker
    assert ground.status()["crashes"] == 1


def test_stuck_from_the_start(ground: Ground) -> None:
    """A coroutine that blocks its loop before anything else, without asking for its turn, is found out as well."""
    body = PINGS.replace("    await self.ready_to_take_over()\n", "    self.hang()\n")
    body += "def supervised_shutdown(self):\n    pass\n"
    ground.deploy(1, service(body, before="import asyncio", base="SupervisedDaemon"))
    running = ground.start()
    running.expect_line("sent no ping for 0.5 s, ending it")
    running.expect_line("in hang")


@pytest.mark.parametrize("body", [ASYNC, DRAINS], ids=["shut down", "drains"])
def test_async_worker_whose_supervisor_is_killed(ground: Ground, body: str) -> None:
    """The end of the link tells a coroutine's worker that its supervisor is dead, also where the kernel's signal does
    not because the service has blocked it."""
    deafen = """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    self.answered = asyncio.Event()
    self.answered.set()
    report("serves")"""
    ground.deploy(1, service(body.replace('\n    report("serves")', deafen), before="import asyncio"))
    running = ground.serving()
    running.signal(signal.SIGKILL)
    running.expect_line("Shutting down: the supervisor is gone")
    ground.expect("shutdown")
    ground.expect_nothing_left()
    assert bool(ground.seen("returns")) == ("draining" in body)
