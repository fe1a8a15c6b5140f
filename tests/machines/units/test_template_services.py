"""Ordinary services under the template as it is shipped: they start, reload, restart and stop, and do all they do."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.docs.guide import CURL
from tests.machines.units.test_templates import ask
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(units=True, programs=True)

# Uses what services use, and says how that went.
CODE = """\
import json, multiprocessing, os, pwd, select, socket, stat, subprocess
from sdsupervise import SupervisedDaemon

def name_of(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "made up by systemd"

def file_of(path):
    found = os.stat(path)
    return [name_of(found.st_uid), stat.S_IMODE(found.st_mode)]

class Ordinary(SupervisedDaemon):
    can_do_hot_reload = True
    max_memory = "1G"
    before_commit = ["curl", "-fsS", "127.0.0.1"]
    listen = LISTEN

    def supervised_process(self):
        with open("written", "a") as in_place, open(os.environ["STATE_DIRECTORY"] + "/written", "a") as state:
            in_place.write("x")
            state.write("x")
        self.facts = {
            "release": RELEASE,
            "user": name_of(os.getuid()),
            "child": subprocess.run(["echo", "said"], check=True, capture_output=True, text=True).stdout,
            "forked": multiprocessing.get_context("fork").Pool(2).map(abs, [-1, -2]),
            "spawned": multiprocessing.get_context("spawn").Pool(1).map(abs, [-3]),
            "shared": multiprocessing.Value("i", 7).value,
            "interfaces": [name for _, name in socket.if_nameindex()],
            "admin": file_of(self.sockets["admin"].getsockname()),
        }
        self.ready_to_take_over()
        while True:
            for listener in select.select(list(self.sockets.values()), [], [])[0]:
                client, _ = listener.accept()
                with client:
                    client.recv(65536)
                    client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + json.dumps(self.facts).encode())

    def supervised_shutdown(self):
        pass
"""
ADMIN = "/run/sdsupervise/ordinary/admin.sock"
UNIT = "sdsupervise@ordinary.service"
OWNED = {"http": "127.0.0.1:80", "admin": {"address": ADMIN, "user": "www-data", "group": "www-data", "mode": 0o660}}
PLAIN = {"http": "127.0.0.1:80", "admin": ADMIN}
STATE = "StateDirectory=sdsupervise/%i"
DYNAMIC = "made up by systemd"
BOUND = "AmbientCapabilities=CAP_NET_BIND_SERVICE"


def in_file(listen: Mapping[str, object]) -> str:
    """What is listed, in an instance's file: what only root may open, where the class is loaded as another user."""
    admin = listen["admin"]
    text = f'listen.http = "{listen["http"]}"\n'
    if isinstance(admin, str):
        return text + f'listen.admin = "{admin}"\n'
    assert isinstance(admin, dict)
    words = ", ".join(f'{key} = "{value if key != "mode" else oct(value)[2:]}"' for key, value in admin.items())
    return text + f"listen.admin = {{ {words} }}\n"


@contextmanager
def instance(machine: Machine, home: str, described: str, *drop_in: str) -> Iterator[None]:
    """One that is configured, not deployed and not started, of which nothing is left at the end."""
    machine.write("/usr/local/bin/curl", CURL, mode=0o755)
    machine.write("/etc/sdsupervise/ordinary.toml", f'directory = "{home}/current"\n{described}')
    machine.write(f"/etc/systemd/system/{UNIT}.d/override.conf", "\n".join(["[Service]", *drop_in, ""]))
    machine.run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        machine.run("systemctl", "stop", UNIT)
        machine.run("systemctl", "reset-failed", check=False)
        machine.run("rm", "-rf", home, "/etc/sdsupervise/ordinary.toml", f"/etc/systemd/system/{UNIT}.d")
        machine.run("rm", "-rf", "/var/lib/sdsupervise", "/var/lib/private/sdsupervise", "/usr/local/bin/curl")
        # What systemd 252 leaves of a DynamicUser=.
        machine.run("rm", "-rf", "/run/sdsupervise/ordinary", "/run/private/sdsupervise/ordinary")
        machine.run("systemctl", "daemon-reload")


def deploy(machine: Machine, home: str, release: int, listen: Mapping[str, object]) -> None:
    """Lay out a release, in a directory that everybody may write to, and swap the symlink."""
    code = CODE.replace("RELEASE", str(release)).replace("LISTEN", repr(listen))
    machine.write(f"{home}/releases/{release}/ordinary.py", code)
    machine.run("chmod", "777", f"{home}/releases/{release}")
    machine.symlink(f"releases/{release}", f"{home}/current")


@pytest.mark.parametrize(
    ("home", "described", "drop_in", "listen", "expected"),
    [
        ("/srv/ordinary", "", (STATE,), OWNED, ("root", "www-data", 0o660)),
        (
            "/opt/ordinary",
            f'user = "games"\n{in_file(OWNED)}',
            (STATE, "StateDirectoryMode=777"),
            {},
            ("games", "www-data", 0o660),
        ),
        (
            "/home/ann/ordinary",
            f'user = "games"\n{in_file(PLAIN)}',
            (STATE, "StateDirectoryMode=777"),
            {},
            ("games", "games", 0o666),
        ),
        ("/srv/ordinary", "", (STATE, "User=games", BOUND), PLAIN, ("games", "games", 0o666)),
        (
            "/srv/ordinary",
            "",
            (STATE, "DynamicUser=yes", BOUND, "ReadWritePaths=/srv"),
            PLAIN,
            (DYNAMIC, DYNAMIC, 0o666),
        ),
    ],
    ids=["root in /srv", "user in /opt", "user in /home", "User=", "DynamicUser="],
)
def test_ordinary_services(
    machine: Machine,
    home: str,
    described: str,
    drop_in: tuple[str, ...],
    listen: Mapping[str, object],
    expected: tuple[str, str, int],
) -> None:
    """A port below 1024, a socket's owner, processes of every kind, files in its directories, a check, a bound."""
    user, *socket = expected
    with instance(machine, home, f'service = "ordinary.py"\n{described}', *drop_in):
        deploy(machine, home, 1, listen)
        machine.run("systemctl", "start", UNIT)
        for release, verb in ((1, "start"), (2, "reload"), (3, "restart"), (4, "reload")):
            deploy(machine, home, release, listen)
            machine.run("systemctl", verb, UNIT)
            facts = {
                "release": release,
                "user": user,
                "child": "said\n",
                "forked": [1, 2],
                "spawned": [3],
                "shared": 7,
                "interfaces": ["lo"],
                "admin": socket,
            }
            assert json.loads(ask(machine, "127.0.0.1:80")) == json.loads(ask(machine, ADMIN)) == facts
            assert machine.read(f"{home}/releases/{release}/written") == "x"
        machine.run("systemctl", "stop", UNIT)
        assert machine.show(UNIT, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
        assert machine.read("/var/lib/sdsupervise/ordinary/written") == "xxxx"


HAPROXY = """\
global
    chroot /var/empty-for-haproxy
    user games
    group games
    maxconn 3000
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend hello
    bind "fd@${HTTP}"
    http-request return status 200 content-type text/plain string "release 1\\n"
"""


def test_a_server_that_drops_root_by_itself(machine: Machine) -> None:
    """haproxy, started as root, changes its root directory and its user."""
    command = '["/usr/bin/env", "HTTP={http}", "/usr/sbin/haproxy", "-Ws", "-f", "haproxy.cfg"]'
    described = (
        f'command = {command}\nlisten = {{ http = "127.0.0.1:80" }}\nhandover = "overlap"\nstop_signal = "SIGUSR1"\n'
    )
    home = "/srv/ordinary"
    machine.run("mkdir", "/var/empty-for-haproxy")
    with instance(machine, home, described):
        for release in (1, 2):
            text = HAPROXY.replace("release 1", f"release {release}")
            machine.write(f"{home}/releases/{release}/haproxy.cfg", text)
            machine.symlink(f"releases/{release}", f"{home}/current")
            machine.run("systemctl", "start" if release == 1 else "reload", UNIT)
            assert ask(machine, "127.0.0.1:80") == f"release {release}\n"
        users = {machine.run("stat", "--format=%U", f"/proc/{each.pid}").stdout for each in machine.processes(UNIT)}
        assert users == {"root\n", "games\n"}
        (worker,) = (pid.pid for pid in machine.processes(UNIT) if owner(machine, pid.pid) == "games")
        assert machine.readlink(f"/proc/{worker}/root") == "/var/empty-for-haproxy"
    machine.run("rmdir", "/var/empty-for-haproxy")


def owner(machine: Machine, pid: int) -> str:
    return machine.run("stat", "--format=%U", f"/proc/{pid}").stdout.strip()


LEAVES = """\
#!/usr/bin/python3
import os, signal, subprocess
subprocess.Popen(["sleep", "infinity"], user="games", start_new_session=True)
subprocess.run(["sdsupervise", "ready"], check=True)
signal.pause()
"""


def test_leftovers_of_another_user(machine: Machine) -> None:
    """What an exclusive command leaves behind, in a session of its own and as another user, is ended: at a reload, and
    when the process of ours that held it has been killed. Then only its environment says whose it is."""
    with instance(machine, "/srv/ordinary", 'command = ["/srv/ordinary/current/leaves"]\n'):
        machine.write("/srv/ordinary/releases/1/leaves", LEAVES, mode=0o755)
        machine.symlink("releases/1", "/srv/ordinary/current")
        machine.run("systemctl", "start", UNIT)
        first = sleeper(machine)
        machine.run("systemctl", "reload", UNIT)
        machine.wait_until_gone(first, timeout_seconds=20)
        second, main = sleeper(machine), int(machine.show(UNIT, "MainPID")["MainPID"])
        (shim,) = (each.pid for each in machine.processes(UNIT) if each.ppid == main)
        machine.kill(shim, signal.SIGKILL)
        machine.wait_until_gone(second, timeout_seconds=20)


def sleeper(machine: Machine) -> int:
    """The one process that is left behind."""
    (pid,) = (each.pid for each in machine.processes(UNIT) if each.cmdline[:1] == ["sleep"])
    return pid
