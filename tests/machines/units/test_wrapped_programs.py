"""Programs whose sockets need more than an option are wrapped on a real systemd: files of UNIX sockets keep their place
and their mode, variables their values, and a reload loses nothing and is refused for code that does not load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.load.environment import PLACE
from tests.load.ground import Program, result_of, under_load
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(units=True, programs=True)

UNIT = """\
[Service]
{lines}
User=games
RuntimeDirectory=hello
WorkingDirectory=/run/hello
Environment=PYTHONPATH=/srv/hello/current PYTHONDONTWRITEBYTECODE=1
ExecStart={command}
"""
SOCKET = "[Socket]\nListenStream=/run/hello.sock\nSocketMode=0660\n"
RACK = 'run lambda {{ |env| [200, {{"Content-Type" => "text/plain"}}, ["release {}\\n"]] }}\n'
ASK = """\
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
    print(client.makefile("rb").read().decode().rstrip().rpartition("\\n")[2])
"""


class Wrapped(NamedTuple):
    """A program as its user has it."""

    command: str
    lines: str = "Type=simple"
    path: str = ""  # of its UNIX socket, else it is at 127.0.0.1:8000
    file: str = "hello.py"


HOOKED = f"{PLACE}/bin/gunicorn --workers 2"
CASES = {
    "gunicorn at a relative path": Wrapped(
        f"{HOOKED} -b unix:a.sock -m 007 hello:application", path="/run/hello/a.sock"
    ),
    "gunicorn in a shell": Wrapped(
        f"/bin/sh -c 'exec {PLACE}/bin/gunicorn --bind unix:a.sock --umask 0o117 hello:application'",
        path="/run/hello/a.sock",
    ),
    "gunicorn with systemd's socket": Wrapped(
        f"{HOOKED} hello:application", "Type=notify\nSockets=program.socket", path="/run/hello.sock"
    ),
    "uvicorn by variables": Wrapped(
        f"{PLACE}/bin/uvicorn --host $HOST --port ${{PORT}} hello:app",
        "EnvironmentFile=/etc/default/program\nEnvironment=HOST=::1",
    ),
    "hypercorn at a relative path": Wrapped(
        f"{PLACE}/bin/hypercorn -b unix:a.sock hello:app", "UMask=0027", path="/run/hello/a.sock"
    ),
    "puma": Wrapped(
        "/usr/bin/puma -e production -b tcp://127.0.0.1:8000 /srv/hello/current/config.ru", file="config.ru"
    ),
    "puma at a path": Wrapped(
        "/usr/bin/puma -e production -b unix:///run/hello/a.sock?umask=0117 /srv/hello/current/config.ru",
        path="/run/hello/a.sock",
        file="config.ru",
    ),
    "uwsgi": Wrapped(
        "/usr/bin/uwsgi --plugin python3 --http-socket 127.0.0.1:8000 --master -p 2 -w hello", "Type=notify"
    ),
    "uwsgi without a master": Wrapped(
        "/usr/bin/uwsgi --plugin python3 --http-socket a.sock --chmod-socket=660 -w hello", path="/run/hello/a.sock"
    ),
}


class Site:
    """The unit of a case, and its releases."""

    def __init__(self, machine: Machine, case: Wrapped) -> None:
        self.machine = machine
        self.case = case
        self.deploy("1")
        machine.write("/etc/default/program", "HOST=127.0.0.1\nPORT=8000\n")
        machine.write("/etc/systemd/system/program.service", UNIT.format(lines=case.lines, command=case.command))
        if "Sockets=" in case.lines:
            machine.write("/etc/systemd/system/program.socket", SOCKET)
        machine.run("systemctl", "daemon-reload")

    def deploy(self, release: str) -> None:
        """Lay out a release; "broken" is one that does not load."""
        code = RACK.format(release) if self.case.file == "config.ru" else Program("hello").code(int(release or 0))
        self.machine.write(
            f"/srv/hello/releases/{release or 'broken'}/{self.case.file}", code if release else "raise(\n"
        )
        self.machine.symlink(f"releases/{release or 'broken'}", "/srv/hello/current")

    def ask(self) -> str:
        """What it answers at its UNIX socket."""
        return self.machine.run("python3", "-c", ASK, self.case.path).stdout.strip()

    def permissions(self) -> str:
        """Who may connect: the mode of the socket's file, and its owner."""
        return self.machine.run("stat", "--format=%a %U %G", self.case.path).stdout if self.case.path else ""

    def close(self) -> None:
        """Remove all of it."""
        self.machine.run("systemctl", "stop", "program.socket", "program.service", check=False)
        self.machine.run("sh", "-c", "rm -rf /etc/systemd/system/program.* /srv/hello/releases /srv/hello/current")
        self.machine.run("systemctl", "daemon-reload")


@pytest.fixture
def site(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The unit of a case, not wrapped and not started."""
    site = Site(machine, CASES[request.param])
    yield site
    site.close()


def wait_for_socket(machine: Machine, path: str) -> None:
    """Return when there is the file of a socket, of a plain unit whose start says nothing."""
    wait = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)"
    machine.run("python3", "-c", wait, path)


def may_connect(permissions: str) -> tuple[list[int], str]:
    """Of a socket's mode only the right to write counts."""
    mode, _, owner = permissions.partition(" ")
    return [int(digit) & 2 for digit in mode], owner


@pytest.mark.parametrize("site", CASES, indirect=True)
def test_wrapped_and_reloaded(machine: Machine, site: Site) -> None:
    """Who may connect is as before; a reload brings the new release, and code that does not load leaves the old."""
    path = site.case.path
    if path and "Sockets=" not in site.case.lines:
        machine.run("systemctl", "start", "program")
        wait_for_socket(machine, path)
        plain = site.permissions()
        machine.run("systemctl", "stop", "program")
    done = machine.run("sdsupervise", "unit", "wrap", "--write", "program")
    assert " --handover overlap " in machine.run("systemctl", "cat", "program").stdout, done.stderr
    machine.run("systemctl", "start", "program")
    if not path:
        with under_load(machine, Program("hello"), "close", rate=20) as load:
            site.deploy("2")
            machine.run("systemctl", "reload", "program")
            load.wait_for("release 2")
            site.deploy("")
            assert machine.run("systemctl", "reload", "program", check=False).returncode == 1
            result = result_of(load)
        assert result.answered == result.requests, result
    else:
        if "Sockets=" not in site.case.lines:
            assert may_connect(site.permissions()) == may_connect(plain)
        assert site.ask() == "release 1"
        site.deploy("2")
        machine.run("systemctl", "reload", "program")
        assert site.ask() == "release 2"
        site.deploy("")
        assert machine.run("systemctl", "reload", "program", check=False).returncode == 1
        assert site.ask() == "release 2"
    machine.run("systemctl", "stop", "program")
    assert machine.show("program.service", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert machine.processes("program.service") == []


RELOADS_ITSELF = """\
#!/usr/bin/python3 -u
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
signal.signal(signal.SIGHUP, lambda *_: os.path.exists("/run/bad") and os._exit(1) or print("reads its file again"))
os.system("systemd-notify --ready")
while True:
    signal.pause()
"""


def pids_of_itself(machine: Machine) -> list[int]:
    """The processes of the program."""
    return [each.pid for each in machine.processes("itself.service") if each.cmdline[-1:] == ["/srv/itself"]]


def test_a_program_that_reloads_itself(machine: Machine) -> None:
    """ExecReload= with a signal stays what it was: the same process reads its file again; its end fails the reload."""
    machine.write("/srv/itself", RELOADS_ITSELF, mode=0o755)
    lines = "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/srv/itself\nExecReload=/bin/kill -HUP $MAINPID\n"
    machine.write("/etc/systemd/system/itself.service", lines)
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("sdsupervise", "unit", "wrap", "--write", "itself")
        machine.run("systemctl", "start", "itself")
        before = pids_of_itself(machine)
        machine.run("systemctl", "reload", "itself")
        assert pids_of_itself(machine) == before
        assert "reads its file again" in machine.run("journalctl", "--unit=itself").stdout
        machine.write("/run/bad", "")
        assert machine.run("systemctl", "reload", "itself", check=False).returncode == 1
    finally:
        machine.run("systemctl", "stop", "itself", check=False)
        machine.run("sh", "-c", "rm -rf /run/bad /etc/systemd/system/itself.service*")
        machine.run("systemctl", "daemon-reload")
