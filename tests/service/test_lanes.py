"""Two lanes of one address: each generation has its own, and the kernel sends clients to the one that serves."""

from __future__ import annotations

import os
import socket

import pytest

from sdsupervise.config import check_settings
from sdsupervise.errors import ConfigError
from sdsupervise.linux import lanes
from sdsupervise.listen import check
from tests.service.harness import Ground
from tests.service.test_sockets import ask, connect, echo, host, port

__all__ = ["host", "port"]  # fixtures

_OVERLAP = """
handover = "overlap"
def supervised_process(self):
    self.warm_up()
    self.ready_to_take_over()
    report("serves", release=self.release)
    self.serve()
"""


@pytest.fixture
def listen(host: str, port: int) -> dict[str, object]:
    """What the service listens on."""
    return {"a": {"address": f"{host}:{port}", "lanes": True}}


def test_clients_go_to_the_generation_that_serves(
    ground: Ground, listen: dict[str, object], host: str, port: int
) -> None:
    """From the verdict on every client is served by the new release, though the old one has not been told to stop yet
    and would still accept; and after a rollback every one by the old."""
    ground.deploy(1, echo(listen, _OVERLAP))
    ground.serving()
    for release in range(2, 6):
        ground.deploy(release, echo(listen, _OVERLAP))
        assert ground.reload().returncode == 0
        assert [ask((host, port))[0] for _ in range(10)] == [f"{release}"] * 10
        ground.deploy("broken", echo(listen, _OVERLAP + "def warm_up(self):\n    raise OSError('no')\n"))
        assert ground.reload().returncode == 1
        assert [ask((host, port))[0] for _ in range(10)] == [f"{release}"] * 10


def test_clients_of_the_old_lane_are_served(ground: Ground, listen: dict[str, object], host: str, port: int) -> None:
    """Who has connected before the commit is in the old generation's lane, and is served there after it: the old
    workers are told to stop only when nobody waits there any more."""
    ground.deploy(1, echo(listen, _OVERLAP + waits_for(ground)))
    ground.serving()
    clients = [connect((host, port)) for _ in range(5)]
    ground.deploy(2, echo(listen, _OVERLAP))
    assert ground.reload().returncode == 0
    assert ask((host, port))[0] == "2"
    (ground.directory / "fifo").write_text("go on")
    for client in clients:
        with client:
            assert client.recv(100).split()[0] == b"1"


def waits_for(ground: Ground) -> str:
    """Statements of a service that accepts nothing until somebody writes into this FIFO."""
    os.mkfifo(ground.directory / "fifo")
    return f"""
accepting = serve
def serve(self):
    open({str(ground.directory / "fifo")!r}).read()
    self.accepting()
"""


def test_lane_of_a_killed_predecessor(ground: Ground, listen: dict[str, object], host: str, port: int) -> None:
    """Who waits in the lane of a generation that is killed is hung up on, and not left waiting for nobody."""
    ground.deploy(1, echo(listen, _OVERLAP + waits_for(ground)))
    running = ground.serving()
    ground.deploy(2, echo(listen, f"{_OVERLAP}\ndef warm_up(self):\n    os.kill({running.pid}, signal.SIGKILL)\n"))
    with connect((host, port)) as client:
        ground.reload_process()
        ground.expect("serves", release="2")
        assert client.recv(100) == b""
    assert ask((host, port))[0] == "2"


def test_where_lanes_make_no_sense() -> None:
    """UNIX sockets have none, and exclusive services neither: their clients wait in one queue."""
    for address in "/run/x", "@x":
        with pytest.raises(ConfigError, match=r"listen .a. has lanes, but .+ is a UNIX socket"):
            check({"a": {"address": address, "lanes": True}})
    lanes_of_an_exclusive_service = {"listen": {"a": {"address": "80", "lanes": True}}}
    with pytest.raises(ConfigError, match="Service: listen has lanes, which are for handover overlap"):
        check_settings("Service", lanes_of_an_exclusive_service)
    check_settings("Service", {**lanes_of_an_exclusive_service, "handover": "overlap"})


def test_the_kernel_is_steered() -> None:
    """Of two sockets on one address all connections go to the one that was last said, and can be counted there."""
    with socket.socket() as first, socket.socket() as second:
        for each in first, second:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("127.0.0.1", 0))
        first.listen(64)
        lanes.steer(first, 0)
        second.bind(first.getsockname())
        second.listen(64)
        expected = [0, 0]
        for lane in 0, 1, 0, 0, 1:
            lanes.steer((first, second)[expected[0] % 2], lane)  # whichever says it
            clients = [socket.create_connection(first.getsockname()) for _ in range(8)]
            expected[lane] += 8
            assert [lanes.waiting(first), lanes.waiting(second)] == expected
            for client in clients:
                client.close()
        lanes.abandon(second)
        assert [lanes.waiting(first), lanes.waiting(second)] == [expected[0], 0]
        assert second.getblocking()
