"""The unit in units/example, as it stands, on a real systemd."""

from __future__ import annotations

from pathlib import Path

from tests.support.machine import Machine

EXAMPLE = Path(__file__).parents[2] / "units" / "example"
ASK = "import socket; print(socket.create_connection(('127.0.0.1', 7000)).makefile().read(), end='')"


def deploy(machine: Machine, release: int) -> None:
    """The example, as it would be after some development."""
    first = (EXAMPLE / "counter.py").read_text()
    code = first.replace("\nRELEASE = 1\n", f"\nRELEASE = {release}\n")
    assert release == 1 or code != first
    machine.write(f"/srv/counter/releases/{release}/counter.py", code)
    machine.symlink(f"releases/{release}", "/srv/counter/current")


def test_the_example(machine: Machine) -> None:
    """Installed by copying two files it starts, counts on across reloads and a restart, refuses broken code, stops."""
    machine.write("/etc/systemd/system/counter.service", (EXAMPLE / "counter.service").read_text())
    deploy(machine, 1)
    machine.run("systemctl", "enable", "--now", "counter")
    assert machine.run("python3", "-c", ASK).stdout == "release 1 says 1\n"
    deploy(machine, 2)
    machine.run("systemctl", "reload", "counter")
    assert machine.run("python3", "-c", ASK).stdout == "release 2 says 2\n"
    machine.write("/srv/counter/releases/3/counter.py", "import requsts\n")
    machine.symlink("releases/3", "/srv/counter/current")
    assert machine.run("systemctl", "reload", "counter", check=False).returncode == 1
    assert machine.run("python3", "-c", ASK).stdout == "release 2 says 3\n"
    deploy(machine, 4)
    machine.run("systemctl", "restart", "counter")
    assert machine.run("python3", "-c", ASK).stdout == "release 4 says 4\n"
    machine.run("systemctl", "disable", "--now", "counter")
    assert machine.show("counter", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert machine.processes("counter.service") == []
