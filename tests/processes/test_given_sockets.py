"""Sockets that systemd gives, as `sd_listen_fds` describes it, without a systemd; with one: tests/machines."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.harness import NOTHING, PYTHON, Ground, notify_socket, service
from tests.support.running import Running

# What systemd does between fork and exec: descriptors from 3 on, and the variables that tell of them.
ACTIVATE = """
import fcntl, os, sys
fds, names, pid, command = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in fds.split(",")]
for fd in fds.split(","):
    os.set_inheritable(int(fd), False)
for number, fd in enumerate(high, start=3):
    os.dup2(fd, number)
    os.close(fd)
os.environ |= {"LISTEN_FDS": str(len(high)), "LISTEN_FDNAMES": names, "LISTEN_PID": pid or str(os.getpid())}
os.execv(command[0], command)
"""

SHOWS = """
def serve(self):
    shown = {name: (one.family.name, one.type.name, one.getsockname()) for name, one in self.sockets.items()}
    report("has", sockets=shown, variables=[name for name in os.environ if name.startswith("LISTEN_")])
    super().serve()
"""


def listed(listen: object) -> str:
    return service(f"listen = {listen!r}\n{SHOWS}")


def elsewhere(names: Sequence[str]) -> dict[str, str]:
    """Addresses that could not be opened."""
    return {name: f"203.0.113.1:{port}" for port, name in enumerate(names, start=1)}


class Systemd:
    """Holds sockets and starts the service with them."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.sockets: list[socket.socket] = []

    def start(
        self,
        names: Sequence[str],
        *,
        pid: str = "",
        fds: Sequence[int] = (),
        environment: Mapping[str, str | None] = NOTHING,
    ) -> Running:
        """Start the deployed service with so many UNIX listeners, made once, and with these descriptors after them."""
        for name in names[len(self.sockets) : len(names) - len(fds)]:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self.ground.directory / f"{len(self.sockets)}.{name}"))
            listener.listen()
            self.sockets.append(listener)
        given = [*(listener.fileno() for listener in self.sockets), *fds]
        for fd in given:
            os.set_inheritable(fd, True)
        activate = [PYTHON, "-c", ACTIVATE, ",".join(map(str, given)), ":".join(names), pid]
        command = [PYTHON, "current/service.py", "--no-fork", "--pid-file", self.ground.pid_file]
        return self.ground.run(*activate, *command, pass_fds=given, environment=environment)

    def place(self, number: int) -> str:
        """Where one of the listeners is."""
        return str(self.sockets[number].getsockname())


@pytest.fixture
def systemd(ground: Ground) -> Iterator[Systemd]:
    systemd = Systemd(ground)
    yield systemd
    for listener in systemd.sockets:
        listener.close()


@pytest.mark.parametrize(
    ("names", "listen", "found"),
    [
        (["http"], [], {"http": 0}),
        (["b", "a"], [], {"b": 0, "a": 1}),
        (["web.socket"], [], {"web": 0}),
        (["http"], ["http"], {"http": 0}),
        (["web.socket"], ["http"], {"http": 0}),
        (["unknown"], ["http"], {"http": 0}),
        (["web.socket"], ["web.socket"], {"web.socket": 0}),
        (["http", "admin"], ["admin", "http"], {"admin": 1, "http": 0}),
        (["http.socket", "admin.socket"], ["http", "admin"], {"http": 0, "admin": 1}),
        (["http", "http", "admin"], [], {"http": 0, "http.2": 1, "admin": 2}),
        (["web.socket", "web.socket"], ["http"], {"http": 0, "http.2": 1}),
    ],
)
def test_names(systemd: Systemd, names: list[str], listen: list[str], found: dict[str, int]) -> None:
    """systemd's sockets come under their names, in the order of `listen` if there is one; a .socket unit without
    FileDescriptorName= is known by its own name, or by the only one that is listed; the addresses in `listen` are for
    when systemd gives none. A reload keeps all this, and a stop leaves the files, which are systemd's."""
    ground = systemd.ground
    text = listed(elsewhere(listen))
    ground.deploy(1, text)
    systemd.start(names)
    expected = {name: ("AF_UNIX", "SOCK_STREAM", systemd.place(number)) for name, number in found.items()}
    assert ground.expect("has").details == {"sockets": str(expected), "variables": "[]"}
    ground.deploy(2, text)
    assert ground.reload().returncode == 0
    assert ground.expect("has").details == {"sockets": str(expected), "variables": "[]"}
    status = ground.status()
    assert status["sockets"] == [
        {"name": name, "address": address, "from": "systemd"} for name, (_, _, address) in expected.items()
    ]
    assert isinstance(status["pid"], int)
    os.kill(status["pid"], signal.SIGTERM)
    ground.expect_nothing_left()
    assert all(Path(address).exists() for _, _, address in expected.values())


@pytest.mark.parametrize(
    ("names", "listen", "given", "has"),
    [
        (["http"], ["http", "admin"], "http", "admin, http"),
        (["b", "a"], ["a"], "a, b", "a"),
        (["web"], ["http"], "web", "http"),
        (["a.socket", "b.socket"], ["http"], "a, b", "http"),
    ],
)
def test_names_that_disagree(systemd: Systemd, names: list[str], listen: list[str], given: str, has: str) -> None:
    """It is one sentence that names both sets; exit status 78. A reload to such code fails with the same."""
    ground = systemd.ground
    sentence = f"systemd passes the sockets {given}, but listen has {has}: use the same names in FileDescriptorName= "
    ground.deploy(1, listed(elsewhere(listen)))
    running = systemd.start(names)
    assert running.wait() == 78
    assert running.err.startswith(sentence) and running.err.count("\n") == 1
    ground.deploy(2, listed({}))
    systemd.start(names)
    ground.expect("has")
    ground.deploy(3, listed(elsewhere(listen)))
    done = ground.reload()
    assert done.returncode == 1 and f"NOT RELOADED: {sentence}" in done.stderr


def test_before_commit(systemd: Systemd) -> None:
    """Both generations of an overlap share these sockets, and so it could not reach the new code alone: refused with
    one sentence, by a reload, too. Where the new code serves alone it can be had."""
    ground = systemd.ground
    texts = {
        name: listed({"http": "203.0.113.1:1"}).replace(
            "    release =", f"    before_commit, handover = ['true'], {name!r}\n    release ="
        )
        for name in ("exclusive", "overlap")
    }
    ground.deploy(1, texts["overlap"])
    running = systemd.start(["http"])
    assert running.wait() == 78
    sentence = "With handover overlap, before_commit cannot reach only the new code through the sockets of a .socket"
    assert running.err.startswith(sentence) and running.err.count("\n") == 1
    ground.deploy(2, texts["exclusive"])
    systemd.start(["http"])
    ground.expect("has")
    ground.deploy(3, texts["overlap"])
    done = ground.reload()
    assert done.returncode == 1 and f"NOT RELOADED: {sentence}" in done.stderr
    ground.deploy(4, texts["exclusive"])
    assert ground.reload().returncode == 0


def test_from_the_store(systemd: Systemd, ground: Ground) -> None:
    """A socket that an earlier supervisor of ours has stored is used where it is listed, under any name; one that is
    not, or whose file is not the one it was made with, is closed. Beside a .socket unit's all are closed."""
    ground.deploy(1, listed({"http": str(ground.directory / "0.a")}))
    for number, name in enumerate("abc"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(ground.directory / f"{number}.{name}"))
        listener.listen()
        systemd.sockets.append(listener)
    file = os.stat(systemd.place(0))
    names = [f"sdsupervise/a/1.{file.st_dev:x}.{file.st_ino:x}", "sdsupervise/b/2.1.1", "sdsupervise/nonsense"]
    running = systemd.start(names)
    found = {"http": ("AF_UNIX", "SOCK_STREAM", systemd.place(0))}
    assert ground.expect("has").said("sockets") == str(found)
    assert links(running.pid) & links(os.getpid()) == {link(systemd.sockets[0])}
    assert all(Path(systemd.place(number)).exists() for number in range(3))
    running.signal(signal.SIGTERM)
    running.wait()
    ground.deploy(2, listed({}))
    running = systemd.start(["web", *names[1:]])
    assert ground.expect("has").said("sockets") == str({"web": found["http"]})
    assert links(running.pid) & links(os.getpid()) == {link(systemd.sockets[0])}


def test_two_stored_for_one_path(systemd: Systemd, ground: Ground) -> None:
    """Of two sockets that were bound to one path after each other the one is used that clients reach."""
    path = str(ground.directory / "app.sock")
    ground.deploy(1, listed({"http": path}))
    labels: list[str] = []
    for _ in range(2):
        systemd.sockets.insert(0, socket.socket(socket.AF_UNIX))  # systemd gives the newest first
        systemd.sockets[0].bind(path)
        systemd.sockets[0].listen()
        file = os.stat(path)
        labels.insert(0, f"sdsupervise/http/1.{file.st_dev:x}.{file.st_ino:x}")
        if len(labels) == 1:
            os.rename(path, f"{path}.old")  # and not unlinked, so that its inode is no other's
    running = systemd.start(labels)
    ground.expect("has")
    assert links(running.pid) & links(os.getpid()) == {link(systemd.sockets[0])}


def test_the_store_lets_go_first(systemd: Systemd, ground: Ground) -> None:
    """An address that overlaps with one that systemd still has a copy of is opened when systemd has closed that copy,
    which may take it a while."""
    host, port = f"127.{os.getpid() >> 8 & 255}.{os.getpid() & 255}.9", 32000 + os.getpid() % 700
    ground.deploy(1, listed({"http": f"0.0.0.0:{port}"}))
    with notify_socket(ground) as manager:
        systemd.sockets.append(socket.create_server((host, port)))
        environment = {"NOTIFY_SOCKET": str(ground.directory / "notify")}
        systemd.start(["sdsupervise/http/1"], environment=environment)
        assert manager.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=sdsupervise/http/1"
        data, (barrier,), _, _ = socket.recv_fds(manager, 4096, 1)
        assert data == b"BARRIER=1"
        systemd.sockets.pop().close()
        os.close(barrier)
        data, (stored,), _, _ = socket.recv_fds(manager, 4096, 1)
        assert re.fullmatch(rb"FDSTORE=1\nFDNAME=sdsupervise/http/[0-9a-f]+\nFDPOLL=0", data)
        with socket.socket(fileno=stored) as copy:
            assert copy.getsockname() == ("0.0.0.0", port)
        assert ground.expect("has").said("sockets") == str({"http": ("AF_INET", "SOCK_STREAM", ("0.0.0.0", port))})


def link(one: socket.socket) -> str:
    return os.readlink(f"/proc/self/fd/{one.fileno()}")


def links(pid: int) -> set[str]:
    """Which sockets a process has."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # what listed the directory
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return {name for name in found if name.startswith("socket:")}


def test_other_types(systemd: Systemd) -> None:
    """A datagram socket comes as what it is; what is no socket is left out with a warning."""
    ground = systemd.ground
    ground.deploy(1, listed({}))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram, open(os.devnull) as file:
        datagram.bind(str(ground.directory / "datagram"))
        running = systemd.start(["http", "log", "file"], fds=[datagram.fileno(), file.fileno()])
        running.expect_line("systemd passed 'file', which is not a socket; ignoring it")
        expected = {
            "http": ("AF_UNIX", "SOCK_STREAM", systemd.place(0)),
            "log": ("AF_UNIX", "SOCK_DGRAM", datagram.getsockname()),
        }
        assert ground.expect("has").said("sockets") == str(expected)


def test_meant_for_another_process(systemd: Systemd) -> None:
    """Sockets of a process that somebody else is are not ours."""
    systemd.ground.deploy(1, listed({}))
    systemd.start(["http"], pid="1")
    assert systemd.ground.expect("has").details == {"sockets": "{}", "variables": "[]"}


def test_nonsense_in_the_environment(ground: Ground) -> None:
    """What systemd never sets is one sentence, exit status 78."""
    ground.deploy(1)
    shell = "exec env LISTEN_PID=$$ LISTEN_FDS=many " + f"{PYTHON} current/service.py --no-fork --no-pid-file"
    running = ground.run("/bin/sh", "-c", shell)
    assert running.wait() == 78
    sentence = (
        "$LISTEN_FDS is 'many', but these descriptors do not exist (Invalid argument); only systemd should set it.\n"
    )
    assert running.err == sentence
