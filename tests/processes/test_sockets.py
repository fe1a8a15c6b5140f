"""The sockets a service keeps: opened, handed on by reloads, given back."""

from __future__ import annotations

import grp
import itertools
import os
import pwd
import re
import signal
import socket
import stat
import sys
import threading
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.harness import SDSUPERVISE, Ground, service
from tests.support.running import LIMIT_SECONDS, wait_gone

# Answers every connection with its release, the listener's name, its own pid and the backlog.
_ECHO = """
    def serve(self):
        poller = select.poll()
        by_fd = {listener.fileno(): (name, listener) for name, listener in self.sockets.items()}
        for fd in by_fd:
            poller.register(fd, select.POLLIN)
        while True:
            for fd, _ in poller.poll():
                name, listener = by_fd[fd]
                client, _ = listener.accept()
                with client:
                    client.sendall(f"{self.release} {name} {os.getpid()} {backlog(listener)}".encode())
"""
HANDOVERS = {
    "exclusive": "",
    "overlap": """
handover = "overlap"
def supervised_process(self):
    self.warm_up()
    self.ready_to_take_over()
    report("serves", release=self.release)
    self.serve()
""",
}
# Of a listener, where a connection has tcpi_sacked; tcp(7).
_BACKLOG = """
import select
def backlog(listener):
    if listener.family == socket.AF_UNIX:
        return None
    return int.from_bytes(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)[28:], sys.byteorder)
"""

_ports = itertools.count(8000)


def echo(listen: object = None, body: str = "") -> str:
    """A service that listens there and tells every client who answers."""
    return service(f"listen = {listen or {}!r}\n{dedent(_ECHO)}\n{dedent(body)}", before=_BACKLOG)


def inode(address: str) -> int:
    """Which socket listens there, as the kernel tells it; see proc_net_tcp and proc_net_unix(5)."""
    if address.startswith("/"):
        lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
        (found,) = (line[6] for line in lines if line[-1] == address and line[3] == "00010000")
    else:
        host, _, port = address.rpartition(":")
        local = f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{int(port):04X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        (found,) = (line[9] for line in lines if line[1] == local and line[3] == "0A")
    return int(found)


def inodes(ground: Ground) -> dict[str, int]:
    """Which sockets the main supervisor has, by name. It has settled a reload before it answers."""
    sockets = ground.status()["sockets"]
    assert isinstance(sockets, list)
    return {entry["name"]: inode(entry["address"]) for entry in sockets}


@pytest.fixture
def host() -> str:
    """A loopback address of this process's own: no other test run has its ports."""
    pid = os.getpid()
    return f"127.{pid >> 16 & 127 | 64}.{pid >> 8 & 255}.{pid & 255 or 1}"


@pytest.fixture
def port() -> int:
    """A port no other test of this process uses."""
    return next(_ports)


def connect(address: object) -> socket.socket:
    """A connection to (host, port), a path, or an abstract name; raises what the kernel says."""
    family = socket.AF_UNIX
    if isinstance(address, tuple):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    client = socket.socket(family)
    client.settimeout(LIMIT_SECONDS)
    try:
        client.connect(address)  # type: ignore[arg-type]
    except BaseException:
        client.close()
        raise
    return client


def ask(address: object) -> list[str]:
    """What the service answers: its release, the listener's name, the worker's pid."""
    with connect(address) as client:
        return b"".join(iter(lambda: client.recv(4096), b"")).decode().split()


def refused(address: object) -> bool:
    """Nobody listens there."""
    try:
        connect(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


def test_all_kinds_of_addresses(ground: Ground, host: str, port: int) -> None:
    """TCP over IPv4 and IPv6, a port alone, a UNIX socket with a file and an abstract one: the service gets each under
    its name, and status shows them."""
    pid = os.getpid()
    path = ground.directory / "app.sock"
    wild = 10000 + pid % 10000
    listen = {
        "four": f"{host}:{port}",
        "six": f"[::1]:{wild}",
        "port": str(wild + 10000),
        "file": str(path),
        "name": f"@sds{pid}",
    }
    ground.deploy(1, echo(listen))
    ground.serving()
    addresses = {
        "four": (host, port),
        "six": ("::1", wild),
        "port": ("::1", wild + 10000),
        "file": str(path),
        "name": f"\0sds{pid}",
    }
    worker = str(ground.worker_pids()[0])
    for name, address in addresses.items():
        assert ask(address)[:3] == ["1", name, worker]
    assert ask((host, wild + 10000))[:3] == ["1", "port", worker]
    shown = {**listen, "port": f"[::]:{wild + 10000}"}
    assert ground.status()["sockets"] == [
        {"name": name, "address": address, "from": "sdsupervise"} for name, address in shown.items()
    ]
    text = ground.finish(ground.run(SDSUPERVISE, "status", "--pid-file", ground.pid_file)).stdout
    assert f"  socket     four   {host}:{port}\n" in text


def test_answers_are_not_held_back(ground: Ground, host: str, port: int) -> None:
    """What is accepted on a TCP listener has Nagle's algorithm off: a program that writes an answer in two parts, and
    leaves such settings to who opened the socket, does not make its clients wait for the second one."""
    answer = "client.sendall(str(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)).encode())"
    code = echo({"a": f"{host}:{port}"})
    ground.deploy(1, re.sub(r"client\.sendall\(.*\)", answer, code))
    ground.serving()
    assert ask((host, port)) == ["1"]


def test_options_beat_the_class(ground: Ground, host: str, port: int) -> None:
    """--listen takes the place of the class's entry of that name, and adds others; also in the next generation."""
    ground.deploy(1, echo({"a": f"{host}:{port}", "b": f"{host}:{port + 1000}"}))
    path = ground.directory / "c.sock"
    options = ["--listen", f"b={host}:{port + 2000},backlog=7", "--listen", f"c={path},mode=0600"]
    ground.run(SDSUPERVISE, "run", *options, "current/service.py", "--pid-file", ground.pid_file)
    ground.expect("serves")
    for release in 1, 2:
        assert ask((host, port))[:2] == [str(release), "a"]
        assert ask((host, port + 2000))[:2] == [str(release), "b"]
        assert ask(str(path))[:2] == [str(release), "c"]
        assert refused((host, port + 1000))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if release == 1:
            ground.deploy(2, echo({"a": f"{host}:{port}", "b": f"{host}:{port + 1000}"}))
            assert ground.reload().returncode == 0


def test_listen_of_an_unsupervised_daemon(ground: Ground) -> None:
    """A plain Daemon opens its sockets itself; exit status 64."""
    ground.deploy(1, service("def daemon_run(self): pass\ndef handle_shutdown(self): pass", base="Daemon"))
    running = ground.run(SDSUPERVISE, "run", "--listen", "a=8000", "current/service.py")
    assert running.wait() == 64
    assert "Service is not supervised; leave out --listen." in running.err


# -------------------------------------------------------------------------------------------- what cannot be opened


@pytest.mark.parametrize(
    ("place", "status", "sentence"),
    [
        (
            "{host}:{taken}",
            69,
            r"it is in use; `ss -lntp sport = {taken}` shows the process: end that process, or "
            "choose another",
        ),
        (
            "{directory}/live",
            69,
            r"it is in use; `ss -lxp` shows the process: end that process, or choose another "
            r"address\.",
        ),
        ("@{host}", 69, r"it is in use; `ss -lxp` shows the process"),
        ("{directory}/file", 69, r"a file is there that is not a socket; remove it, or choose another path\."),
        ("{directory}/none/x", 69, r"its directory does not exist; make it \(in a unit: RuntimeDirectory=\)\."),
        ("{directory}/file/x", 69, r"its directory does not exist"),
        ("192.0.2.1:{port}", 69, r"this host has no such address; `ip address` shows which it has\."),
        ("[2001:db8::1]:{port}", 69, r"this host has no such address"),
    ],
)
def test_what_cannot_be_opened(ground: Ground, host: str, port: int, place: str, status: int, sentence: str) -> None:
    """It is one sentence that says what, where and what to do, and an exit status; what was opened before is closed,
    its file removed; nothing of the start is left."""
    directory, taken, first = ground.directory, port + 1000, ground.directory / "first.sock"
    (directory / "file").write_text("kept")
    others = [socket.create_server((host, taken))]
    for name in (str(directory / "live"), f"\0{host}"):
        others.append(socket.socket(socket.AF_UNIX))
        others[-1].bind(name)
        others[-1].listen()
    address = place.format(host=host, taken=taken, directory=directory, port=port)
    ground.deploy(1, echo({"a": str(first), "b": f"{host}:{port}", "c": address}))
    running = ground.start()
    assert running.wait() == status
    expected = f"Cannot listen on {re.escape(address)} \\(listen 'c'\\): {sentence.format(taken=taken)}"
    assert re.fullmatch(expected + r".*\n", running.err)
    assert not first.exists() and refused((host, port))
    assert not os.path.exists(ground.control)
    assert (directory / "file").read_text() == "kept" and not refused(str(directory / "live"))
    for other in others:
        other.close()
    ground.deploy(2, echo({"a": str(first), "b": f"{host}:{port}"}))
    ground.serving()
    assert ask(str(first))[0] == "2"


BOTH = "listen 'a' and 'b' cannot both be open: {} and {} are the same port"


@pytest.mark.parametrize(
    ("listen", "sentence"),
    [
        ("{'a': '80x'}", "listen 'a': '80x' is not an address; write a port, 127.0.0.1:8000, "),
        ("{'a:b': '80'}", "Service: listen has the name 'a:b'; it must be ASCII without ':'"),
        ("{'a': {'address': '/x', 'user': 'nobody-has-this-name'}}", "listen 'a': there is no user "),
        ("{'a': '127.0.0.1:80', 'b': '127.0.0.1:80'}", "listen 'a' and 'b' have the same address, 127.0.0.1:80."),
        ("{'a': '[::ffff:127.0.0.1]:80', 'b': '127.0.0.1:80'}", BOTH.format("[::ffff:127.0.0.1]:80", "127.0.0.1:80")),
        ("{'a': '[::]:80', 'b': '0.0.0.0:80'}", BOTH.format("[::]:80", "0.0.0.0:80")),
        ("{'a': '127.0.0.1:80', 'b': '80'}", BOTH.format("127.0.0.1:80", "[::]:80")),
        ("{'a': '127.0.0.1:80', 'b': '0.0.0.0:80'}", BOTH.format("127.0.0.1:80", "0.0.0.0:80")),
        ("{'a': '[::]:80', 'b': '[::1]:80'}", BOTH.format("[::]:80", "[::1]:80")),
        (
            "{'a': {'address': '80', 'reuse_port': True}, 'b': '0.0.0.0:80'}",
            BOTH.format("[::]:80", "0.0.0.0:80"),
        ),
        (
            "{'a': '/run/x/../x.sock', 'b': '/run/x.sock'}",
            "listen 'a' and 'b' have the same address, /run/x.sock (/run/x/..",
        ),
        (
            "{'a': os.environ['GROUND'] + '/service.control'}",
            "listen 'a' is {ground}/service.control, where sdsupervise",
        ),
    ],
)
def test_malformed(ground: Ground, listen: str, sentence: str) -> None:
    """What can never be opened is one sentence and exit status 78, before anything is touched."""
    ground.deploy(1, service(f"listen = {listen}"))
    running = ground.start()
    assert running.wait() == 78
    assert running.err.startswith(sentence.format(ground=ground.directory)) and running.err.count("\n") == 1
    assert not ground.pid_file.exists()


def test_one_port_of_several(ground: Ground, host: str, port: int) -> None:
    """One port of two addresses, or of two families, is listened on; so is one that all who have it share."""
    port += os.getpid() % 20000 + 10000
    everywhere, here = ({"address": f"{at}:{port + 1}", "reuse_port": True} for at in ("0.0.0.0", host))
    ground.deploy(1, echo({"a": f"{host}:{port}", "b": f"[::1]:{port}", "c": everywhere, "d": here}))
    ground.serving()
    assert ask((host, port))[1] == "a" and ask(("::1", port))[1] == "b" and ask(("127.0.0.1", port + 1))[1] == "c"


def test_port_that_the_old_code_has(ground: Ground, port: int) -> None:
    """A reload cannot listen on 0.0.0.0 while the old code listens on [::], and says that it is its own."""
    port += os.getpid() % 20000 + 10000
    ground.deploy(1, echo({"a": f"[::]:{port}"}))
    ground.serving()
    ground.deploy(2, echo({"b": f"0.0.0.0:{port}"}))
    done = ground.reload()
    assert done.returncode == 1
    assert (
        f"Cannot listen on 0.0.0.0:{port} (listen 'b') in a reload: the old code listens on "
        f"[::]:{port} until the reload ends, and that address has the same port; restart the service instead."
    ) in done.stderr
    assert ask(("::1", port))[0] == "1"


def test_path_that_is_spelled_otherwise(ground: Ground) -> None:
    """A reload keeps a socket whose path the new code spells in another way."""
    ground.deploy(1, echo({"a": f"{ground.directory}/app.sock"}))
    ground.serving()
    before = inodes(ground)
    ground.deploy(2, echo({"a": f"{ground.directory}/lib/../app.sock"}))
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    assert inodes(ground) == before
    assert ask(f"{ground.directory}/app.sock")[0] == "2"


def test_malformed_class_beside_an_option(ground: Ground) -> None:
    """An option does not hide that the class's own is no mapping."""
    ground.deploy(1, service("listen = '127.0.0.1:80'"))
    running = ground.run(SDSUPERVISE, "run", "--listen", "a=8000", "current/service.py")
    assert running.wait() == 78
    assert running.err.startswith("Service: listen is '127.0.0.1:80'; it must be a mapping of names to addresses")


def test_malformed_option(ground: Ground) -> None:
    """So is an option; its exit status is that of a wrong setting."""
    ground.deploy(1)
    running = ground.run(SDSUPERVISE, "run", "--listen", "http", "current/service.py")
    assert running.wait() == 78
    assert running.err.startswith("Service: listen 'http' has no address; write one such as 127.0.0.1:8000")


# ---------------------------------------------------------------------------------------- files of UNIX sockets


def test_mode_and_owner(ground: Ground) -> None:
    """A UNIX socket's file has the mode asked for, whatever the umask, or 0666; its owner may be given by root."""
    mine = (os.getuid(), os.getgid())
    root = mine[0] == 0
    owner = {"user": "daemon", "group": "adm"} if root else {}
    places = {name: str(ground.directory / name) for name in "abc"}
    listen = {
        "a": places["a"],
        "b": {"address": places["b"], "mode": 0o660, **owner},
        "c": {"address": places["c"], "mode": 0o777, **({"group": "adm"} if root else {})},
    }
    ground.deploy(1, echo(listen))
    ground.serving(umask=0o027)
    found = {name: os.stat(path) for name, path in places.items()}
    assert {name: stat.S_IMODE(status.st_mode) for name, status in found.items()} == {
        "a": 0o666,
        "b": 0o660,
        "c": 0o777,
    }
    daemon, adm = (pwd.getpwnam("daemon").pw_uid, grp.getgrnam("adm").gr_gid) if root else mine
    owners = {name: (status.st_uid, status.st_gid) for name, status in found.items()}
    assert owners == {"a": mine, "b": (daemon, adm), "c": (mine[0], adm)}


def test_stale_file(ground: Ground) -> None:
    """The file of a socket nobody listens on is replaced."""
    path = ground.directory / "app.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    ground.deploy(1, echo({"a": str(path)}))
    ground.serving()
    assert ask(str(path))[1] == "a"


def test_files_at_a_stop(ground: Ground) -> None:
    """A stop removes the files of our UNIX sockets, and leaves one that somebody else has put in their place."""
    ours, replaced = ground.directory / "ours", ground.directory / "replaced"
    ground.deploy(1, echo({"a": str(ours), "b": str(replaced)}))
    running = ground.serving()
    replaced.unlink()
    replaced.write_text("somebody else's")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not ours.exists() and replaced.read_text() == "somebody else's"


def test_file_that_is_gone(ground: Ground) -> None:
    """A reload listens anew at a path whose file somebody has removed: nobody could reach the old socket."""
    path = ground.directory / "app.sock"
    ground.deploy(1, echo({"a": str(path)}))
    ground.serving()
    path.unlink()
    ground.deploy(2, echo({"a": str(path)}))
    assert ground.reload().returncode == 0
    assert ask(str(path))[:2] == ["2", "a"]


# -------------------------------------------------------------------------------------------------- crash and respawn


def test_clients_wait_for_the_next_worker(ground: Ground, host: str, port: int) -> None:
    """While no worker lives a client is not refused, and is served by the next one."""
    ground.deploy(1, echo({"a": f"{host}:{port}"}, "delay_before_respawn = 0.2"))
    ground.serving()
    first = ask((host, port))[2]
    os.kill(int(first), signal.SIGKILL)
    wait_gone(int(first))
    assert ask((host, port))[2] != first


def test_address_is_free_after_a_crash(ground: Ground, host: str, port: int) -> None:
    """When the supervisor was killed, without systemd, and its worker has gone the next start listens at once."""
    path = ground.directory / "app.sock"
    ground.deploy(1, echo({"a": f"{host}:{port}", "b": str(path)}))
    for _ in range(2):
        running = ground.serving()
        with connect((host, port)) as client:  # its end stays in TIME_WAIT: the server hung up first
            client.recv(100)
            assert ask(str(path))[1] == "b"
            worker = ground.worker_pids()[0]
            running.signal(signal.SIGKILL)
            wait_gone(worker)
            assert running.wait() == -signal.SIGKILL
    ground.serving()
    assert ask((host, port))[1] == "a"


def test_children_get_no_listener(ground: Ground, host: str, port: int) -> None:
    """What a worker executes does not hold the listeners: close-on-exec, through a reload as well."""
    body = """
    def warm_up(self):
        import subprocess
        links = subprocess.run("readlink /proc/self/fd/*", shell=True, close_fds=False, capture_output=True, text=True)
        ours = {f"socket:[{os.fstat(listener.fileno()).st_ino}]" for listener in self.sockets.values()}
        report("child", holds=sorted(ours & set(links.stdout.split())), ours=len(ours))
    """
    ground.deploy(1, echo({"a": f"{host}:{port}"}, dedent(body)))
    ground.serving()
    assert ground.expect("child").details == {"holds": "[]", "ours": "1"}
    ground.deploy(2, echo({"a": f"{host}:{port}"}, dedent(body)))
    assert ground.reload().returncode == 0
    assert ground.expect("child").details == {"holds": "[]", "ours": "1"}


def test_blocking_is_each_ones_own(ground: Ground, host: str, port: int) -> None:
    """A release that uses the socket without blocking, as asyncio does, takes nothing from one that waits in accept():
    neither from the one before, brought back, nor from the one after."""
    listen = {"a": f"{host}:{port}"}
    waits = """
    def serve(self):
        while True:
            client, _ = self.sockets["a"].accept()
            with client:
                client.sendall(f"{self.release} a".encode())
    """
    sets = "    def warm_up(self):\n        self.sockets['a'].setblocking(False)\n"
    ground.deploy(1, service(f"listen = {listen}\n{dedent(waits)}"))
    ground.serving()
    assert ask((host, port)) == ["1", "a"]
    ground.deploy(2, service(f"listen = {listen}\n{dedent(sets)}    raise OSError('no')"))
    assert ground.reload().returncode == 1
    worker = ground.worker_pids()[0]
    for _ in range(3):
        assert ask((host, port)) == ["1", "a"]
    assert ground.worker_pids() == [worker]
    ground.deploy(3, service(f"listen = {listen}\n{dedent(waits)}"))
    assert ground.reload().returncode == 0
    for _ in range(3):
        assert ask((host, port)) == ["3", "a"]
    assert ground.status()["crashes"] == 0


# ------------------------------------------------------------------------------------------------------- reloads


@pytest.mark.parametrize("way", ["call", "signal", "elsewhere"])
def test_reload_adds_and_removes(ground: Ground, host: str, port: int, way: str) -> None:
    """A reload opens what is new, keeps what stays, and closes what is no longer listed, its file with it."""
    gone, kept, new = ground.directory / "gone", (host, port), ground.directory / "new"
    invocation = {"INVOCATION_ID": "12ab"} if way == "elsewhere" else {}
    ground.deploy(1, echo({"a": f"{host}:{port}", "b": str(gone)}))
    running = ground.serving(environment=invocation)
    assert ask(kept)[:2] == ["1", "a"] and ask(str(gone))[:2] == ["1", "b"]
    ground.deploy(2, echo({"a": f"{host}:{port}", "c": str(new)}))
    if way == "signal":
        running.signal(signal.SIGUSR2)
    else:  # "elsewhere": as an ExecReload= process, which finds no start record here
        command = [SDSUPERVISE, "reload", "--pid-file", ground.pid_file]
        caller = ground.run(*command, environment={**invocation, "MAINPID": str(running.pid)})
        assert caller.wait() == 0
    ground.expect("serves", release=2)
    assert running.wait() == 0
    assert set(inodes(ground)) == {"a", "c"}
    assert ask(kept)[:2] == ["2", "a"] and ask(str(new))[:2] == ["2", "c"]
    assert refused(str(gone)) and not gone.exists()


def test_reload_moves(ground: Ground, host: str, port: int) -> None:
    """The same addresses under other names are the same sockets; another address under a name is another socket."""
    one, two, three = (host, port), (host, port + 1000), (host, port + 2000)
    text = "{0}:{1}".format
    ground.deploy(1, echo({"a": text(*one), "b": text(*two)}))
    ground.serving()
    before = inodes(ground)
    ground.deploy(2, echo({"b": text(*one), "a": text(*two)}))
    assert ground.reload().returncode == 0
    assert (ask(one)[:2], ask(two)[:2]) == (["2", "b"], ["2", "a"])
    assert inodes(ground) == {"b": before["a"], "a": before["b"]}
    ground.deploy(3, echo({"a": text(*one), "b": text(*three)}))
    assert ground.reload().returncode == 0
    assert (ask(one)[:2], ask(three)[:2]) == (["3", "a"], ["3", "b"])
    assert refused(two)


@pytest.mark.parametrize("lanes", [False, True])
def test_dropped_beside_a_long_drain(ground: Ground, host: str, port: int, lanes: bool) -> None:
    """When an old worker lets go of its sockets and goes on draining nobody holds what the new code does not list: not
    the old supervisor, and not the new one with its workers."""
    os.mkfifo(ground.directory / "drained")
    drain = """
    def supervised_shutdown(self):
        for listener in self.sockets.values():
            listener.close()
        report("closed")
        open(f"{os.environ['GROUND']}/drained").read()
    """
    listen = {name: {"address": f"{host}:{each}", "lanes": lanes} for name, each in (("a", port), ("b", port + 1000))}
    ground.deploy(1, echo(listen, HANDOVERS["overlap"] + dedent(drain)))
    ground.serving()
    ground.deploy(2, echo({"a": f"{host}:{port}"}, HANDOVERS["overlap"]))
    assert ground.reload().returncode == 0
    ground.expect("closed")
    assert refused((host, port + 1000)) and ask((host, port))[0] == "2"
    os.close(os.open(ground.directory / "drained", os.O_WRONLY))


def test_reload_changes_options(ground: Ground, host: str, port: int) -> None:
    """Another mode, backlog and reuse_port come to the socket that is there, once the new code serves."""
    path = ground.directory / "app.sock"
    ground.deploy(1, echo({"a": {"address": str(path), "mode": 0o600}, "b": f"{host}:{port}"}))
    ground.serving()
    before = inodes(ground)
    changed = {
        "a": {"address": str(path), "mode": 0o640},
        "b": {"address": f"{host}:{port}", "backlog": 3, "reuse_port": True},
    }
    ground.deploy(2, echo(changed, "def warm_up(self): raise OSError('no')"))
    assert ground.reload().returncode == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and int(ask((host, port))[3]) > 3
    ground.deploy(3, echo(changed))
    assert ground.reload().returncode == 0
    assert inodes(ground) == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 and ask((host, port))[3] == "3"
    with pytest.raises(OSError, match="in use"):
        socket.create_server((host, port))
    socket.create_server((host, port), reuse_port=True).close()


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
def test_hazard_6_no_gap(ground: Ground, host: str, port: int, handover: str) -> None:
    """Clients that connect again and again find somebody listening at every moment of three reloads and a rollback."""
    listen = {"a": f"{host}:{port}"}
    met: list[str] = []
    over = threading.Event()

    def clients() -> None:
        while not over.is_set():
            try:
                answer = ask((host, port))
                met.append(answer[0] if answer else "cut off")
            except ConnectionRefusedError:
                met.append("refused")
            except ConnectionError:
                met.append("cut off")

    body = "def warm_up(self):\n    if self.release == '3': raise OSError('no')\n" + HANDOVERS[handover]
    ground.deploy(1, echo(listen, body))
    ground.serving()
    client = threading.Thread(target=clients)
    client.start()
    try:
        for release in 2, 3, 4, 5:
            ground.deploy(release, echo(listen, body))
            assert (ground.reload().returncode == 0) == (release != 3)
    finally:
        over.set()
        client.join()
    assert "refused" not in met
    assert {"1", "2", "4"} <= set(met) <= {"1", "2", "4", "5", "cut off"}
    assert ask((host, port))[0] == "5"


@pytest.mark.parametrize("how", ["raises", "killed", "hangs"])
def test_rollback(ground: Ground, host: str, port: int, how: str) -> None:
    """A failed reload leaves exactly the old sockets: what the successor opened is closed, its files are removed, even
    if it is killed; what it no longer listed was never closed."""
    one, two, new = (host, port), (host, port + 1000), ground.directory / "new"
    body = {
        "raises": "raise OSError('no')",
        "killed": "os.kill(os.getppid(), signal.SIGKILL)",
        "hangs": "time.sleep(99)",
    }
    ground.deploy(1, echo({"a": f"{host}:{port}", "old": str(ground.directory / "old")}))
    ground.serving()
    worker, before = ground.worker_pids(), inodes(ground)
    listen = {"a": f"{host}:{port}", "b": f"{host}:{port + 1000}", "c": str(new)}
    limit = "reload_timeout = 3\n" if how == "hangs" else ""
    ground.deploy(2, echo(listen, f"{limit}def warm_up(self):\n    report('opened')\n    {body[how]}"))
    reload = ground.reload_process()
    opened = ground.expect("opened")
    assert reload.wait() == 1
    wait_gone(opened.pid)  # the last process that has what it opened
    assert (ground.worker_pids(), inodes(ground)) == (worker, before)
    assert refused(two) and not new.exists()
    assert (ask(one)[:2], ask(str(ground.directory / "old"))[:2]) == (["1", "a"], ["1", "old"])
    ground.deploy(3, echo(listen))
    assert ground.reload().returncode == 0
    assert (ask(one)[:2], ask(two)[:2], ask(str(new))[:2]) == (["3", "a"], ["3", "b"], ["3", "c"])
    assert set(inodes(ground)) == {"a", "b", "c"}
    assert not (ground.directory / "old").exists()


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
def test_rollback_of_code_that_served(ground: Ground, host: str, port: int, handover: str) -> None:
    """New code that took over and fails in its probation leaves the old sockets, which its predecessor never closed."""
    old, new, body = ground.directory / "old", ground.directory / "new", HANDOVERS[handover] + "probation = 25\n"
    ground.deploy(1, echo({"a": f"{host}:{port}", "old": str(old)}, body))
    ground.serving()
    before = inodes(ground)
    listen = {"b": f"{host}:{port}", "c": f"{host}:{port + 1000}", "new": str(new)}
    fails = "def serve(self):\n    report('opened', there=os.path.exists(self.listen['new']))\n    os._exit(3)\n"
    ground.deploy(2, echo(listen, f"{body}delay_before_respawn = 60\n{fails}"))
    reload = ground.reload_process()
    opened = ground.expect("opened", there=True)
    assert reload.wait() == 1
    wait_gone(opened.pid)
    assert inodes(ground) == before
    assert (ask((host, port))[:2], ask(str(old))[:2]) == (["1", "a"], ["1", "old"])
    assert refused((host, port + 1000)) and not new.exists()


def test_reload_to_a_taken_address(ground: Ground, host: str, port: int) -> None:
    """New code that cannot open what it lists fails its reload with the reason; the old code serves on, as it was."""
    new = ground.directory / "new"
    ground.deploy(1, echo({"a": f"{host}:{port}"}))
    ground.serving()
    worker = ground.worker_pids()
    with socket.create_server((host, port + 1000)):
        ground.deploy(2, echo({"a": f"{host}:{port}", "n": str(new), "b": f"{host}:{port + 1000}"}))
        done = ground.reload()
    assert done.returncode == 1
    assert f"NOT RELOADED: Cannot listen on {host}:{port + 1000} (listen 'b'): it is in use;" in done.stderr
    assert (ask((host, port))[:2], ground.worker_pids()) == (["1", "a"], worker)
    assert not new.exists()


def test_stop_in_the_middle_of_a_reload(ground: Ground, host: str, port: int) -> None:
    """No file is left of either generation's sockets."""
    old, new = ground.directory / "old", ground.directory / "new"
    ground.deploy(1, echo({"a": str(old)}))
    running = ground.serving()
    ground.deploy(2, echo({"b": str(new)}, "def warm_up(self):\n    report('opened')\n    wait_for_signal()"))
    reload = ground.reload_process()
    ground.expect("opened")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert reload.wait() != 0
    ground.expect_nothing_left()
    assert not old.exists() and not new.exists()


def test_predecessor_killed_in_a_reload(ground: Ground, host: str, port: int) -> None:
    """The successor that carries on keeps what its code lists, and removes the rest when it serves."""
    old, both = ground.directory / "old", ground.directory / "both"
    ground.deploy(1, echo({"a": str(old), "b": str(both)}))
    running = ground.serving()
    ground.deploy(
        2,
        echo({"b": str(both)}, "def warm_up(self):\n    os.kill(PREDECESSOR, signal.SIGKILL)").replace(
            "PREDECESSOR", str(running.pid)
        ),
    )
    ground.reload_process()
    ground.expect("serves", release=2)
    assert ask(str(both))[:2] == ["2", "b"]
    assert set(inodes(ground)) == {"b"}
    assert not old.exists()
