"""The shipped units on a real systemd: an instance is a file and one command; hardened.conf takes all it can."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.fixtures import Equipment
from tests.support.machine import Machine
from tests.support.units import SHIPPED, UNITS

MACHINE = Equipment(units=True, programs=True)

EXAMPLE = UNITS / "example"
PORT = 8080


def ask(machine: Machine, address: str) -> str:
    """What an HTTP server, or a socket's path, answers."""
    client = (
        "import http.client, socket, sys\n"
        "place = sys.argv[1]\n"
        "if place.startswith('/'):\n"
        "    connection = http.client.HTTPConnection('localhost')\n"
        "    connection.sock = socket.socket(socket.AF_UNIX)\n"
        "    connection.sock.settimeout(20)\n"
        "    connection.sock.connect(place)\n"
        "else:\n"
        "    connection = http.client.HTTPConnection(place, timeout=20)\n"
        "connection.request('GET', '/')\n"
        "print(connection.getresponse().read().decode(), end='')\n"
    )
    return machine.run("python3", "-c", client, address).stdout


def deploy(machine: Machine, name: str, release: int, *, broken: bool = False) -> None:
    """Lay out a release of the examples and swap the symlink to it."""
    for file in ("web.py", "web_async.py", "hello.py"):
        code = (EXAMPLE / file).read_text().replace("RELEASE = 1\n", f"RELEASE = {release}\n")
        machine.write(f"/srv/{name}/releases/{release}/{file}", "import requsts\n" if broken else code)
    machine.symlink(f"releases/{release}", f"/srv/{name}/current")


@contextmanager
def instance(machine: Machine, name: str, described: str, *, drop_in: str = "") -> Iterator[str]:
    """An instance that is configured and deployed, not started; nothing of it is left at the end. Its unit."""
    unit = f"sdsupervise@{name}.service"
    machine.write(f"/etc/sdsupervise/{name}.toml", f'directory = "/srv/{name}/current"\n{described}')
    deploy(machine, name, 1)
    if drop_in:
        machine.write(f"/etc/systemd/system/{unit}.d/hardened.conf", drop_in)
        machine.run("systemctl", "daemon-reload")
    try:
        yield unit
    finally:
        machine.run("systemctl", "disable", "--now", unit, f"sdsupervise@{name}.socket", check=False)
        machine.run("systemctl", "reset-failed", check=False)
        machine.remove(f"/etc/sdsupervise/{name}.toml")
        machine.run("rm", "-rf", f"/etc/systemd/system/{unit}.d")
        machine.run("systemctl", "daemon-reload")


def reload_to(machine: Machine, name: str, release: int) -> None:
    """Deploy and reload, which must succeed."""
    deploy(machine, name, release)
    machine.run("systemctl", "reload", f"sdsupervise@{name}")


def test_systemd_has_nothing_to_say(machine: Machine) -> None:
    """`systemd-analyze verify` finds no fault in the shipped units, but for pages that this machine has not."""
    with instance(machine, "web", 'service = "web.py:Web"\n') as unit:
        done = machine.run(
            "systemd-analyze", "verify", unit, "sdsupervise@web.socket", "sdsupervise.target", check=False
        )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "Command 'man " not in line]
    assert said == []


@pytest.mark.parametrize("name", SHIPPED)
def test_no_key_is_younger_than_debian_12(machine: Machine, name: str) -> None:
    """Each setting of a shipped unit is one that the oldest systemd we support knows."""
    known = set(re.findall(r"^(\w+)=", machine.run("/lib/systemd/systemd", "--dump-configuration-items").stdout, re.M))
    keys = set(re.findall(r"^(\w+)=", (UNITS / name).read_text(), re.M)) - {"WantedBy"}
    assert keys - known == set()


def test_one_command_is_all_it_takes(machine: Machine) -> None:
    """Configured and deployed, an instance is enabled, started, reloaded and stopped by systemctl alone."""
    with instance(machine, "web", 'service = "web.py:Web"\n') as unit:
        machine.run("systemctl", "enable", "--now", "sdsupervise@web")
        assert ask(machine, f"127.0.0.1:{PORT}") == "release 1\n"
        assert machine.exists("/etc/systemd/system/multi-user.target.wants/sdsupervise@web.service")
        reload_to(machine, "web", 2)
        assert ask(machine, f"127.0.0.1:{PORT}") == "release 2\n"
        deploy(machine, "web", 3, broken=True)
        assert machine.run("systemctl", "reload", "sdsupervise@web", check=False).returncode == 1
        assert ask(machine, f"127.0.0.1:{PORT}") == "release 2\n"
        assert machine.run("sdsupervise", "unit", "lint").stdout == ""
        machine.run("systemctl", "disable", "--now", "sdsupervise@web")
        assert machine.show(unit, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
        assert machine.processes(unit) == []


def test_a_name_that_is_not_configured(machine: Machine) -> None:
    """A start of it fails at once, and `systemctl status` says what is missing; it is not tried again."""
    unit = "sdsupervise@typo.service"
    assert machine.run("systemctl", "start", unit, check=False).returncode == 1
    assert "/etc/sdsupervise/typo.toml" in machine.show(unit, "StatusText")["StatusText"]
    assert machine.show(unit, "SubState", "NRestarts") == {"SubState": "failed", "NRestarts": "0"}
    machine.run("systemctl", "reset-failed", unit)


def test_the_target_is_all_of_them(machine: Machine) -> None:
    """Stopping the target stops what runs, even if it was never started itself; starting it starts what is enabled."""
    with instance(machine, "web", 'service = "web.py:Web"\n') as unit:
        machine.run("systemctl", "enable", "--now", "sdsupervise@web")
        assert machine.show("sdsupervise.target", "ActiveState")["ActiveState"] == "inactive"
        for verb, said in (("stop", "Stopped"), ("start", "Started"), ("stop", "Stopped")):
            journal = machine.follow_journal(unit)
            machine.run("systemctl", verb, "sdsupervise.target")
            journal.wait_for(f"{said} {unit}")


def test_a_socket_of_systemd(machine: Machine) -> None:
    """The first client of the .socket starts the service; its socket stays while the service is stopped."""
    path = "/run/sdsupervise-web.sock"
    with instance(machine, "web", 'service = "web.py:Web"\n') as unit:
        machine.run("systemctl", "start", "sdsupervise@web.socket")
        assert machine.show(unit, "ActiveState")["ActiveState"] == "inactive"
        assert ask(machine, path) == "release 1\n"
        reload_to(machine, "web", 2)
        assert ask(machine, path) == "release 2\n"
        machine.run("systemctl", "stop", unit)
        assert ask(machine, path) == "release 2\n"
        machine.run("systemctl", "stop", "sdsupervise@web.socket", unit)


HARDENED = (UNITS / "hardened.conf").read_text()


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ('service = "web.py:Web"\nmax_memory = "1G"\n', f"127.0.0.1:{PORT}"),
        (
            'listen = { http = "127.0.0.1:8000" }\n'
            'command = ["/srv/hello/venv/bin/uvicorn", "--fd", "{http}", "hello:app"]\n',
            "127.0.0.1:8000",
        ),
    ],
    ids=["class", "command"],
)
def test_hardened(machine: Machine, kind: str, address: str) -> None:
    """Under hardened.conf a service starts, is reloaded by ExecReload=, goes back from broken code, keeps its sockets
    when its supervisor is killed, and stops."""
    with instance(machine, "hard", kind, drop_in=HARDENED) as unit:
        machine.run("systemctl", "start", unit)
        assert ask(machine, address) == "release 1\n"
        first = machine.show(unit, "MainPID")["MainPID"]
        reload_to(machine, "hard", 2)
        assert ask(machine, address) == "release 2\n"
        assert machine.show(unit, "MainPID")["MainPID"] != first
        deploy(machine, "hard", 3, broken=True)
        assert machine.run("systemctl", "reload", unit, check=False).returncode == 1
        deploy(machine, "hard", 2)
        assert ask(machine, address) == "release 2\n"
        journal = machine.follow_journal(unit)
        machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit)
        journal.wait_for("Started sdsupervise@hard.service")
        assert ask(machine, address) == "release 2\n"
        machine.run("systemctl", "stop", unit)
        assert machine.show(unit, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
        assert machine.processes(unit) == []


def test_hardened_is_hard(machine: Machine) -> None:
    """Its exposure, as `systemd-analyze security` scores it, is 2.0 at most."""
    with instance(machine, "hard", 'service = "web.py:Web"\n', drop_in=HARDENED) as unit:
        judged = machine.run("systemd-analyze", "security", "--no-pager", "--threshold=20", unit)
        assert "Overall exposure level" in judged.stdout
        assert machine.run("sdsupervise", "unit", "lint", unit).stdout == ""


def test_every_line_of_hardened_is_explained() -> None:
    """A comment stands before each setting, or before the first of those that belong together."""
    lines = HARDENED.partition("[Service]\n")[2].splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        assert line.startswith("#") or before.startswith("#") or before.partition("=")[0] == line.partition("=")[0]
