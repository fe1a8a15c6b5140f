"""What `sdsupervise check` knows of an instance's unit: what a start of it would meet, and whether that is so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.fixtures import Equipment, equipped
from tests.support.machine import Machine

TEMPLATE = "sdsupervise@.service"
SERVICE = """\
import os
from sdsupervise import SupervisedDaemon

class Service(SupervisedDaemon):
    def supervised_process(self):
        if "CREDENTIALS_DIRECTORY" in os.environ:
            open(os.environ["CREDENTIALS_DIRECTORY"] + "/secret").close()
        self.ready_to_take_over()
        self.draining.wait()

    def supervised_shutdown(self):
        pass
"""
CLASS = "directory = '/srv/app'\nservice = 'service.py'\n"
SLEEPS = "#!/bin/sh\nexec sleep 1000\n"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with the template."""
    for machine in equipped(Equipment(units=True)):
        machine.write("/srv/app/service.py", SERVICE)
        machine.write("/home/app/service.py", SERVICE)
        machine.write("/root/bin/mine", SLEEPS, mode=0o755)
        machine.write("/opt/bin/ours", SLEEPS, mode=0o755)
        machine.write("/etc/secret", "secret")
        yield machine


class Case(NamedTuple):
    """An instance, and what its unit says beside the template; a sentence of "" is none."""

    text: str
    unit: str
    sentence: str
    starts: bool = False


CASES = {
    "credential": Case(
        CLASS + "user = 'nobody'\ncrash_limit = 1\n",
        "LoadCredential=secret:/etc/secret",
        "error: what LoadCredential= gives is for root alone, and the service becomes user nobody, which may not read "
        "it; User=nobody",
    ),
    "credential of the unit's user": Case(CLASS, "LoadCredential=secret:/etc/secret\nUser=nobody", "", starts=True),
    "credential of root": Case(CLASS, "LoadCredential=secret:/etc/secret", "", starts=True),
    "port": Case(
        CLASS + "listen.a = '127.0.0.1:81'\n",
        "User=nobody",
        "Cannot listen on 127.0.0.1:81 (listen 'a'): port 81 needs a privilege",
    ),
    "port with a capability": Case(
        CLASS + "listen.a = '127.0.0.1:81'\n",
        "User=nobody\nAmbientCapabilities=CAP_NET_BIND_SERVICE",
        "",
        starts=True,
    ),
    "directory of another": Case(
        CLASS + "listen.a = '/srv/app/a.sock'\n",
        "User=nobody",
        "(listen 'a'): there is no permission; choose a directory",
    ),
    "directory that the unit makes": Case(
        CLASS
        + "listen.a = '/run/app/a.sock'\nlisten.b = '/run/sdsupervise/app/b.sock'\npid_file = '/run/app/app.pid'\n",
        "User=nobody\nRuntimeDirectory=app",
        "",
        starts=True,
    ),
    "read-only directory": Case(
        CLASS + "listen.a = '/srv/app/a.sock'\n",
        "ProtectSystem=strict",
        "Cannot listen on /srv/app/a.sock (listen 'a'): ProtectSystem=strict makes its directory read-only.",
    ),
    "directory that may be written": Case(
        CLASS + "listen.a = '/srv/app/a.sock'\n", "ProtectSystem=strict\nReadWritePaths=/srv/app", "", starts=True
    ),
    "hidden directory": Case(
        CLASS.replace("/srv", "/home"), "ProtectHome=yes", "ProtectHome=yes hides /home/app from its unit"
    ),
    "program in a shell's PATH": Case(
        "command = ['mine']\nready_after = 0.1\n", "", "There is no program mine in PATH (/usr/local/sbin:"
    ),
    "program in the unit's PATH": Case(
        "command = ['ours']\nready_after = 0.1\n", "Environment=PATH=/opt/bin:/bin", "", starts=True
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_unit_does_to_an_instance(machine: Machine, case: str) -> None:
    """`check` says what will go wrong, and systemd shows that it does; what works is ok."""
    text, unit, sentence, starts = CASES[case]
    machine.write("/etc/sdsupervise/app.toml", text)
    machine.write("/etc/systemd/system/sdsupervise@app.service.d/more.conf", f"[Service]\n{unit}\n")
    machine.run("systemctl", "daemon-reload")
    # A shell of root's, which finds what is its own.
    checked = machine.run("env", "PATH=/root/bin:/usr/bin:/bin", "sdsupervise", "check", "app", check=False)
    assert sentence in checked.stderr, checked
    assert checked.returncode == (78 if sentence else 0), checked
    started = machine.run("systemctl", "start", "sdsupervise@app", check=False)
    assert (started.returncode == 0) == starts, machine.run("journalctl", "-u", "sdsupervise@app").stdout
    machine.run("systemctl", "stop", "sdsupervise@app")
    machine.run("systemctl", "reset-failed", "sdsupervise@app", check=False)


def test_an_import_has_the_unit_s_environment(machine: Machine) -> None:
    """What `check --import` imports finds the variables that the unit sets."""
    machine.write("/srv/env/service.py", f"import os\nassert os.environ['WHO'] == 'a b'\n{SERVICE}")
    machine.write("/etc/sdsupervise/env.toml", "directory = '/srv/env'\nservice = 'service.py'\n")
    assert machine.run("sdsupervise", "check", "--import", "env", check=False).returncode == 78
    machine.write("/etc/systemd/system/sdsupervise@env.service.d/more.conf", '[Service]\nEnvironment="WHO=a b"\n')
    machine.run("systemctl", "daemon-reload")
    assert machine.run("sdsupervise", "check", "--import", "env").stdout == "env: ok\n"
