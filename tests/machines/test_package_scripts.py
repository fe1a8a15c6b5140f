"""What a package's scripts, which root runs, make of what instances answer: only words that have been checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.processes.test_answers import EVIL, LISTEN, STATUS
from tests.support.machine import Machine

SCRIPTS = Path(__file__).parents[2] / "packaging/scripts"
# Somebody's program in an instance's place. Its reload, and that of any other unit, leaves a trace.
UNIT = """\
[Service]
Type=notify
User=nobody
Environment=GROUND=/srv/%N
RuntimeDirectory=sdsupervise/{directory}
ExecStart=/usr/bin/python3 /srv/listen.py /run/sdsupervise/{directory}/control
ExecReload=+/usr/bin/touch /run/reloaded-%N
"""
SETTINGS = "RELOAD_ON_UPGRADE=yes\n"


def instance(machine: Machine, name: str, directory: str, **facts: object) -> None:
    """A unit that runs an instance of somebody's, who answers this."""
    status: Mapping[str, Any] = {**STATUS, "pid": 1, "version": "0.0.1", **facts}
    machine.write(f"/srv/{name}/answers", json.dumps({"Status": status}))
    machine.write(f"/run/systemd/system/{name}.service", UNIT.format(directory=directory))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", name)


@pytest.fixture
def upgraded(machine: Machine) -> Machine:
    """A machine on which a package was upgraded, and that wants what runs to be reloaded."""
    machine.write("/srv/listen.py", LISTEN)
    machine.write("/srv/upgraded", (SCRIPTS / "upgraded").read_text(), mode=0o755)
    machine.write("/srv/removing", (SCRIPTS / "removing").read_text(), mode=0o755)
    machine.write("/etc/default/sdsupervise", SETTINGS)
    return machine


def test_an_instance_names_nobodys_unit(upgraded: Machine) -> None:
    """An instance of an older version is reloaded by its own unit, whichever process it says that it is."""
    instance(upgraded, "victim", "elsewhere/victim")
    pid = int(upgraded.show("victim.service", "MainPID")["MainPID"])
    instance(upgraded, "web", "web", pid=pid)
    told = upgraded.run("/srv/upgraded").stdout
    assert "these instances run another version than" in told and " web" in told
    assert upgraded.exists("/run/reloaded-web") and not upgraded.exists("/run/reloaded-victim")
    upgraded.run("systemctl", "stop", "web", "victim")


@pytest.mark.parametrize(("unit", "running"), [("app.service", ["app.service"]), ("app@.service", ["app@1.service"])])
def test_a_wrapped_unit_has_a_remedy(upgraded: Machine, unit: str, running: list[str]) -> None:
    """The command that is printed gives a wrapped unit back as it was; one that does not run is not started."""
    upgraded.write(f"/etc/systemd/system/{unit}", "[Service]\nExecStart=/usr/bin/sleep infinity\n")
    upgraded.run("systemctl", "daemon-reload")
    try:
        for active in ([], running):
            upgraded.run("sdsupervise", "unit", "wrap", "--write", unit)
            upgraded.run("systemctl", "daemon-reload")
            if active:
                upgraded.run("systemctl", "start", *active)
            told = upgraded.run("/srv/removing").stderr
            (remedy,) = (line.partition("    ")[2] for line in told.splitlines() if "rm /etc/systemd" in line)
            upgraded.run("sh", "-c", remedy)
            assert upgraded.show(running[0], "Type") == {"Type": "simple"}
            state = upgraded.show(running[0], "ActiveState")["ActiveState"]
            assert state == ("active" if active else "inactive")
    finally:
        upgraded.run("systemctl", "stop", *running)
        upgraded.run("sh", "-c", f"rm -rf /etc/systemd/system/{unit} /etc/systemd/system/{unit}.d")
        upgraded.run("systemctl", "daemon-reload")


@pytest.mark.parametrize(
    "version", ["$(touch /run/owned)", "`touch /run/owned`", "0; touch /run/owned", EVIL, "0\nx 1 2"]
)
def test_a_version_is_a_version(upgraded: Machine, version: str) -> None:
    """What is none is not shown, and reaches no shell."""
    instance(upgraded, "strange", "strange", version=version)
    ran = upgraded.run("/srv/upgraded", check=False)
    upgraded.run("systemctl", "stop", "strange")
    assert ran.returncode == 0 and not upgraded.exists("/run/owned")
    assert "\x1b" not in ran.stdout + ran.stderr and "touch" not in ran.stdout
    assert "strange does not answer" in ran.stdout + ran.stderr


def test_names_below_run_user(upgraded: Machine) -> None:
    """What users call directories of their own is not printed, be it a title for the terminal."""
    upgraded.run("mkdir", "-p", "/run/user/4711/sdsupervise/\x1b]0;owned\x07$(touch owned)")
    upgraded.run("mkdir", "-p", "/run/user/4712/sdsupervise")
    place = "/run/user/4711/sdsupervise/\x1b]0;owned\x07$(touch owned)/control"
    upgraded.run("python3", "-c", f"import socket; socket.socket(socket.AF_UNIX).bind({place!r})")
    for script, stream in (("/srv/upgraded", "stdout"), ("/srv/removing", "stderr")):
        told = getattr(upgraded.run(script), stream)
        assert "user 4711 has instances of his own" in told and "4712" not in told
        assert "\x1b" not in told and not upgraded.exists("/run/owned")
    upgraded.run("rm", "-r", "/run/user/4711", "/run/user/4712")
