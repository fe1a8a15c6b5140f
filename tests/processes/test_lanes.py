"""Two lanes of one address: each generation has its own, and the kernel sends clients to the one that serves."""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sdsupervise.errors import ConfigError
from sdsupervise.linux import lanes
from sdsupervise.linux.lanes import Steering
from sdsupervise.settings.listen import check
from sdsupervise.settings.settings import check_settings
from tests.processes.test_sockets import HANDOVERS, ask, connect, echo, host, port
from tests.support.harness import Ground

__all__ = ["host", "port"]  # fixtures

_OVERLAP = HANDOVERS["overlap"]


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


def test_lanes_begin_and_end_with_a_reload(ground: Ground, host: str, port: int) -> None:
    """A release that asks for lanes gets them at once, while clients of the old one are served in its own; one that
    asks for none any more is found by every client all the same."""
    one, two = f"{host}:{port}", {"address": f"{host}:{port}", "lanes": True}
    ground.deploy(1, echo({"a": one}, _OVERLAP + waits_for(ground)))
    ground.serving()
    clients = [connect((host, port)) for _ in range(5)]
    ground.deploy(2, echo({"a": two}, _OVERLAP))
    assert ground.reload().returncode == 0
    assert {ask((host, port))[0] for _ in range(20)} == {"2"}
    (ground.directory / "fifo").write_text("go on")
    for client in clients:
        with client:
            assert client.recv(100).split()[0] == b"1"
    for release in 3, 4, 5:
        ground.deploy(release, echo({"a": one}, _OVERLAP))
        assert ground.reload().returncode == 0
        assert {ask((host, port))[0] for _ in range(20)} == {f"{release}"}


def test_an_exclusive_reload_changes_no_lane(ground: Ground, listen: dict[str, object], host: str, port: int) -> None:
    """Where the new code serves alone its clients wait for it in the queue of the old one, as without lanes."""
    os.mkfifo(ground.directory / "stop")
    slowly = "def supervised_shutdown(self):\n    report('stops')\n    open(f\"{os.environ['GROUND']}/stop\").read()\n"
    ground.deploy(1, echo(listen, _OVERLAP + slowly))
    ground.serving()
    ground.deploy(2, echo({"a": f"{host}:{port}"}))
    reload = ground.reload_process()
    ground.expect("stops")
    with connect((host, port)) as client:
        os.close(os.open(ground.directory / "stop", os.O_WRONLY))
        assert client.recv(100).split()[0] == b"2"
    assert reload.wait() == 0
    assert {ask((host, port))[0] for _ in range(20)} == {"2"}


def test_nobody_else_gets_a_lane(ground: Ground, listen: dict[str, object], host: str, port: int) -> None:
    """Whoever listens there already, another instance of the same service even, is not joined: the address is taken."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((host, port))
        other.listen()
        ground.deploy(1, echo(listen, _OVERLAP))
        running = ground.start()
        assert running.wait() == 69
        assert f"Cannot listen on {host}:{port} (listen 'a'): it is in use;" in running.err


def test_one_lane_is_a_lane_for_all(ground: Ground, listen: dict[str, object], host: str, port: int) -> None:
    """While an old worker goes on in its lane of one address it gets no new client at any other: after the verdict the
    new release alone answers, at a path, too. So it is in each reload once there are lanes."""
    path = ground.directory / "app.sock"
    both = {**listen, "b": str(path)}
    ground.deploy(1, echo(both, _OVERLAP))
    ground.serving()
    for release in range(2, 6):
        if release == 4:
            both["a"] = f"{host}:{port}"
        ground.deploy(release, echo(both, _OVERLAP))
        assert ground.reload().returncode == 0
        for address in (host, port), str(path):
            assert {ask(address)[0] for _ in range(20)} == {f"{release}"}
    assert not os.path.lexists(f"{path}.next")


def test_where_lanes_make_no_sense() -> None:
    """UNIX sockets have none, and exclusive services neither: their clients wait in one queue."""
    for address in "/run/x", "@x":
        with pytest.raises(ConfigError, match=r"listen .a. has lanes, but .+ is a UNIX socket"):
            check({"a": {"address": address, "lanes": True}})
    with pytest.raises(ConfigError, match=r"listen .a. has lanes and reuse_port"):
        check({"a": {"address": "80", "lanes": True, "reuse_port": True}})
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
        lanes.steer(first, Steering(0))
        second.bind(first.getsockname())
        second.listen(64)
        expected = [0, 0]
        for lane in 0, 1, 0, 0, 1:
            lanes.steer((first, second)[expected[0] % 2], Steering(lane))  # whichever says it
            clients = [socket.create_connection(first.getsockname()) for _ in range(8)]
            expected[lane] += 8
            assert [lanes.waiting(first), lanes.waiting(second)] == expected
            for client in clients:
                client.close()
        lanes.abandon(second)
        assert [lanes.waiting(first), lanes.waiting(second)] == [expected[0], 0]
        assert second.getblocking()


def in_a_network_of_its_own(run: Callable[[], object]) -> object:
    """What this returns, or raises, in a process with another network: of a loopback device, with 192.0.2.1 on it."""

    def child() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x40000000) == 0  # CLONE_NEWNET
        with socket.socket() as request:
            for name, address in (b"lo", "127.0.0.1"), (b"lo:0", "192.0.2.1"):
                place = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
                fcntl.ioctl(request, 0x8916, struct.pack("16s16s8x", name, place))  # SIOCSIFADDR
                fcntl.ioctl(request, 0x8914, struct.pack("16sH22x", name, 1))  # SIOCSIFFLAGS, IFF_UP
        try:
            sender.send(run())
        except BaseException as error:
            sender.send(error)

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    finally:
        process.join()
    if isinstance(answer, BaseException):
        raise answer
    return answer


def lanes_of(*clients: tuple[str, int]) -> list[int]:
    """In which lane each client ends up that has this source address and port, while a check has lane 1."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("0.0.0.0", 0))
        first.listen()
        lanes.join(first, second, 10)
        lanes.steer(first, Steering(0, 1))
        found = []
        for source in clients:
            waited = lanes.waiting(second)
            with socket.socket() as client:
                client.bind(source)
                client.connect(("127.0.0.1", first.getsockname()[1]))
                found.append(lanes.waiting(second) - waited)
        return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another network")
def test_clients_from_elsewhere_are_no_check() -> None:
    """They may have any source port. A check comes from this host: it has one address at both ends, or a loopback
    address."""
    clients = [("192.0.2.1", 61500), ("127.0.0.1", 61501), ("127.0.0.9", 61502), ("127.0.0.1", 60999)]
    assert in_a_network_of_its_own(lambda: lanes_of(*clients)) == [0, 1, 1, 0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another network")
@pytest.mark.parametrize(
    ("ports", "reserved", "taken"),
    [
        ("32768 60999", "", False),
        ("62000 65535", "", False),
        ("1024 65535", "", True),
        ("32768 61000", "", True),
        ("61999 65000", "1-10", True),
        ("1024 65535", "61000-61999", False),
        ("1024 65535", "8080,60000-61500,61501-62000", False),
        ("1024 65535", "61000-61500,61502-61999", True),
    ],
)
def test_the_ports_of_a_check(ports: str, reserved: str, taken: bool) -> None:
    """They are the check's own unless the kernel gives them to clients by itself, which it does not with reserved
    ones."""

    def ask() -> str:
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(ports)
        Path("/proc/sys/net/ipv4/ip_local_reserved_ports").write_text(reserved)
        return lanes.why_ports_are_taken()

    sentence = str(in_a_network_of_its_own(ask))
    assert bool(sentence) == taken
    if taken:
        assert f"(net.ipv4.ip_local_port_range is {ports.replace(' ', '-')})" in sentence


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_second_lane_gets_nobody_by_itself(family: int, host: str) -> None:
    """While another socket joins one that listens already, all clients stay where they are."""
    with socket.socket(family) as first, socket.socket(family) as second:
        for each in first, second:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as ours have it
        first.bind((host, 0))
        first.listen(1000)
        address, over, clients = first.getsockname(), threading.Event(), list[socket.socket]()

        def come() -> None:
            while not over.is_set() and len(clients) < 900:
                clients.append(socket.create_connection(address[:2]))

        coming = threading.Thread(target=come)
        coming.start()
        lanes.join(first, second, 1000)
        over.set()
        coming.join()
        clients += [socket.create_connection(address[:2]) for _ in range(50)]
        assert (lanes.waiting(first), lanes.waiting(second)) == (len(clients), 0)
        for client in clients:
            client.close()
