"""The example in units/example is one to copy: it starts in every way, and goes on where it left off."""

from __future__ import annotations

import signal
import socket
import struct

import pytest

from tests.demo.ground import EXAMPLE
from tests.support.harness import PYTHON, SDSUPERVISE, Ground
from tests.support.machine import Machine
from tests.support.running import LIMIT_SECONDS, Running

WAYS = {
    "script": [PYTHON, "{current}/counter.py", "--no-fork"],
    "file": [SDSUPERVISE, "run", "{current}/counter.py:Counter"],
    "file in a directory": [SDSUPERVISE, "run", "--directory", "{current}", "counter.py:Counter"],
    "module": [SDSUPERVISE, "run", "--directory", "{current}", "counter:Counter"],
}


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def start(ground: Ground, port: int, way: str = "file") -> Running:
    """The example, already serving."""
    ground.deploy(1, counter=(EXAMPLE / "counter.py").read_text())
    command = [word.format(current=ground.current) for word in WAYS[way]]
    options = ("--port", port, "--state", ground.directory / "last", "--pid-file", ground.pid_file)
    running = ground.run(*command, *options)
    running.expect_line("release 1 serves, ", stream="out")
    return running


def ask(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_SECONDS) as service:
        return service.makefile().readline()


@pytest.mark.parametrize("way", WAYS)
def test_it_starts_in_every_way_and_goes_on_where_it_left_off(ground: Ground, port: int, way: str) -> None:
    """Stopped and started again it hands out the next number, whichever way it was started."""
    for answer in ("release 1 says 1\n", "release 1 says 2\n"):
        running = start(ground, port, way)
        assert ask(port) == answer
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
        assert running.out.endswith("release 1 stops\n")
    ground.expect_nothing_left()


def test_a_client_that_hangs_up_harms_nobody(ground: Ground, port: int) -> None:
    """The worker outlives clients that reset their connection, and the next one is served."""
    start(ground, port)
    workers = ground.worker_pids()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset at close
    assert int(ask(port).split()[-1]) <= 21
    assert ground.worker_pids() == workers


def test_its_unit_is_well_formed(machine: Machine) -> None:
    """`systemd-analyze verify` has nothing to say about the unit."""
    machine.write("/etc/systemd/system/counter.service", (EXAMPLE / "counter.service").read_text())
    verified = machine.run("systemd-analyze", "verify", "/etc/systemd/system/counter.service")
    assert verified.stdout + verified.stderr == ""
