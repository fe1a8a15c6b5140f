"""Every command prints the JSON that packaging/doc/json.md describes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from tests.docs import json_page
from tests.docs.documents import CLONE, prepare
from tests.support.machine import Machine

OUTPUTS = list(json_page.outputs())
SOURCE = (CLONE / "units/example/counter.py").read_text()
FILE = (
    'directory = "/srv/counter/current"\nservice = "counter.py:Counter"\narguments = ["--state", "/srv/counter/last"]\n'
)
SECOND = """\
directory = "/srv/second"
service = "counter.py:Counter"
arguments = ["--state", "/srv/second/last", "--port", "7001"]
"""
BESIDE = "[Service]\nExecStart=/usr/bin/sleep infinity\n"


class Reader:
    """Runs commands with --json, and holds each line that they print to the page."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.seen: set[str] = set()
        """The types of all lines."""

    def lines(self, command: str, *words: str, status: int = 0) -> list[str]:
        """Run the command, by its words on the page and these; the type of each line."""
        done = self.machine.run("/usr/bin/sdsupervise", *command.split()[1:], *words, "--json", check=False)
        assert done.returncode == status, done.stderr
        return [self.read(command, json.loads(line)) for line in done.stdout.splitlines()]

    def read(self, command: str, line: object) -> str:
        """The type of a line; it is one of those that the page has for this command."""
        candidates = [output for output in OUTPUTS if output.command.startswith(command)]
        wrong = {output.name: json_page.complaints(output, line) for output in candidates}
        fitting = [name for name, complaints in wrong.items() if not complaints]
        assert fitting, (line, wrong)
        self.seen |= {fitting[0]}
        return fitting[0]


@pytest.fixture
def reader(machine: Machine) -> Iterator[Reader]:
    """A machine with an instance that serves."""
    prepare(machine)
    for release in ("1", "2"):
        machine.write(f"/srv/counter/{release}/counter.py", SOURCE.replace("RELEASE = 1", f"RELEASE = {release}"))
    machine.write("/srv/counter/3/counter.py", "raise RuntimeError('broken')\n")
    machine.symlink("1", "/srv/counter/current")
    machine.write("/etc/sdsupervise/counter.toml", FILE)
    machine.run("systemctl", "start", "sdsupervise@counter")
    yield Reader(machine)
    machine.run("systemctl", "stop", "sdsupervise@counter")


def test_commands_print_what_the_page_says(reader: Reader) -> None:
    """Each line of each command has the fields, and the types, that stand there; and each line there occurs."""
    machine = reader.machine
    assert reader.lines("sdsupervise version") == ["Version"]
    instances(reader)
    reloads(reader)
    units(reader)
    imports(reader)
    unknown = reader.lines("sdsupervise reload", "nothing", status=69)
    assert unknown in ([], ["Unknown"])
    assert {output.name for output in OUTPUTS} - reader.seen == set()
    assert machine.show("sdsupervise@counter", "ActiveState")["ActiveState"] == "active"


def instances(reader: Reader) -> None:
    """What is said of an instance that serves, and of those that do not."""
    machine = reader.machine
    machine.write("/etc/sdsupervise/idle.toml", FILE)
    assert reader.lines("sdsupervise list") == ["Listed", "NotListed"]
    assert reader.lines("sdsupervise status", "counter") == ["Shown"]
    assert reader.lines("sdsupervise check") == ["Checked", "Checked"]
    assert reader.lines("sdsupervise config", "counter") == ["Config"]
    machine.write("/etc/sdsupervise/idle.toml", "wrong = 1\n")
    assert reader.lines("sdsupervise check", "idle", status=78) == ["Checked"]
    machine.remove("/etc/sdsupervise/idle.toml")
    assert reader.lines("sdsupervise scale", "counter", "1") == ["Scaled"]
    with_another(reader)


def with_another(reader: Reader) -> None:
    """An instance refuses a reload, and does not answer while a signal has stopped its supervisor."""
    machine = reader.machine
    machine.write("/srv/second/counter.py", SOURCE.replace("can_do_hot_reload = True", "can_do_hot_reload = False"))
    machine.write("/etc/sdsupervise/second.toml", SECOND)
    machine.run("systemctl", "start", "sdsupervise@second")
    assert reader.lines("sdsupervise reload", "second", status=1)[-1] == "Refused"
    pid = int(machine.show("sdsupervise@second", "MainPID")["MainPID"])
    machine.kill(pid, signal.SIGSTOP)
    try:
        assert sorted(reader.lines("sdsupervise status", status=69)) == ["NotShown", "Shown"]
    finally:
        machine.kill(pid, signal.SIGKILL)
        machine.run("systemctl", "stop", "sdsupervise@second")
        machine.remove("/etc/sdsupervise/second.toml")


def reloads(reader: Reader) -> None:
    """A reload that is done, one that fails, one that is refused, and what would be reloaded."""
    machine = reader.machine
    machine.symlink("2", "/srv/counter/current")
    assert reader.lines("sdsupervise reload --dry-run", "--outdated") == ["WouldReload"]
    *steps, last = reader.lines("sdsupervise reload", "counter")
    assert set(steps) == {"Step"} and last == "Done"
    machine.symlink("3", "/srv/counter/current")
    *steps, last = reader.lines("sdsupervise reload", "counter", status=1)
    assert set(steps) == {"Step"} and last == "Failed"
    machine.symlink("2", "/srv/counter/current")


def units(reader: Reader) -> None:
    """A unit is put under sdsupervise, looked at, and taken away again."""
    machine = reader.machine
    machine.write("/etc/systemd/system/beside.service", BESIDE)
    machine.run("systemctl", "daemon-reload")
    assert reader.lines("sdsupervise unit wrap", "beside", "--write") == ["Wrapped"]
    machine.write("/etc/systemd/system/beside.service.d/zz.conf", "[Service]\nType=simple\nKillMode=process\n")
    machine.run("systemctl", "daemon-reload")
    assert set(reader.lines("sdsupervise unit lint", "beside", status=1)) == {"Finding"}
    assert reader.lines("sdsupervise unit unwrap", "beside") == ["Unwrapped"]


def imports(reader: Reader) -> None:
    """Files of other supervisors are imported."""
    files = {"procfile": "web: sleep 1000\n", "supervisord": "[program:web]\ncommand=sleep 1000\n"}
    for kind, text in files.items():
        reader.machine.write(f"/srv/other/{kind}", text)
        for words in ((), ("--write",)):
            (found,) = reader.lines(f"sdsupervise import {kind}", f"/srv/other/{kind}", *words)
            assert found == {"procfile": "ImportedProcesses", "supervisord": "ImportedPrograms"}[kind]
        reader.machine.run("rm", "-rf", "/etc/sdsupervise/web.toml", "/etc/sdsupervise/web.env")
        reader.machine.run("rm", "-rf", "/etc/systemd/system/sdsupervise@web.service.d")
    reader.machine.run("systemctl", "daemon-reload")
