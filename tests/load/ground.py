"""A machine with the programs of other people, each under the unit that units/example has for it, and clients of it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.load import client
from tests.load.client import Result
from tests.load.environment import PLACE, environment
from tests.support.machine import Machine, Visitor
from tests.support.units import GUNICORN_READY, install_gunicorn_ready

EXAMPLE = Path(__file__).parents[2] / "units" / "example"
MODES = ("close", "keep-alive")
LIMIT_SECONDS = 60.0


class Program(NamedTuple):
    """Somebody's server, as its recipe has it."""

    name: str
    """Of its unit, without .service."""
    file: str = "hello.py"
    """What is deployed: a file of units/example whose release is 1."""
    home: str = "/srv/hello"
    """Where its releases are, and the symlink to the current one."""
    address: str = "127.0.0.1:8000"
    target: str = ""
    """For a class: what of its unit's ExecStart= names it."""
    is_slow: bool = False
    """It needs half a core for 500 requests a second, which it may not have where tests share a machine."""

    @property
    def rate_in_tests(self) -> float:
        """Requests per second that it can answer where tests share a machine."""
        return 100 if self.is_slow else 500

    @property
    def unit(self) -> str:
        """The unit file that units/example has for it."""
        if not self.target:
            return (EXAMPLE / f"{self.name}.service").read_text()
        unit, other = (EXAMPLE / "web.service").read_text(), "web.py:Web"
        assert unit.count(other) == 2  # one in the comment
        return unit.replace(other, self.target)

    def code(self, release: int) -> str:
        """Its file, as it would be after some development."""
        first = (EXAMPLE / self.file).read_text()
        code = first.replace("RELEASE = 1\n", f"RELEASE = {release}\n").replace("release 1\\n", f"release {release}\\n")
        assert release == 1 or code != first
        return code


PROGRAMS = (
    Program("gunicorn"),
    Program("gunicorn-asgi"),
    Program("uvicorn", is_slow=True),
    Program("hypercorn", is_slow=True),
    Program("haproxy", "haproxy.cfg"),
    Program("web", "web.py", "/srv/web", "127.0.0.1:8080"),
    Program("web_async", "web_async.py", "/srv/web", "127.0.0.1:8080", "web_async.py:WebAsync"),
)


def shown() -> Mapping[str, Path]:
    """What a machine must see to run them."""
    return {PLACE: environment()}


class Service:
    """A program under its unit, handled as its operator does."""

    def __init__(self, machine: Machine, program: Program, unit: str) -> None:
        self.machine = machine
        self.program = program
        self.unit = f"{program.name}.service"
        machine.write(f"/etc/systemd/system/{self.unit}", unit)
        if GUNICORN_READY in unit:
            install_gunicorn_ready(machine)
        machine.run("systemctl", "daemon-reload")

    def deploy(self, release: int) -> None:
        """Lay out a release and swap the symlink to it; nothing else, as deployments do."""
        home = self.program.home
        self.machine.write(f"{home}/releases/{release}/{self.program.file}", self.program.code(release))
        self.machine.symlink(f"releases/{release}", f"{home}/current")

    def systemctl(self, verb: str) -> None:
        """`systemctl VERB`, which must succeed."""
        self.machine.run("systemctl", verb, self.unit)

    @property
    def main_pid(self) -> int:
        """systemd's MainPID."""
        return int(self.machine.show(self.unit, "MainPID")["MainPID"])

    def close(self) -> None:
        """Stop it; nothing of it may be left."""
        self.systemctl("stop")
        shown = self.machine.show(self.unit, "ActiveState", "Result")
        assert shown == {"ActiveState": "inactive", "Result": "success"}
        assert self.machine.processes(self.unit) == []


@contextmanager
def serving(machine: Machine, program: Program, unit: str = "") -> Iterator[Service]:
    """Release 1 of a program, started; stopped at the end. The unit is the one in units/example unless given."""
    service = Service(machine, program, unit or program.unit)
    service.deploy(1)
    # What other tests have started of it in the last minute is nothing to StartLimitBurst= of this one.
    machine.run("systemctl", "reset-failed", service.unit, check=False)
    try:
        service.systemctl("start")
        yield service
    except BaseException:
        machine.run("systemctl", "kill", "-s", "KILL", service.unit, check=False)
        machine.run("systemctl", "stop", service.unit, check=False)
        raise
    service.close()


class Caller:
    """A process in the machine that writes `first ANSWER` when it has an answer it has not had before, until its
    standard input ends; then, when nothing is under way any more, one last line."""

    def __init__(self, process: Visitor) -> None:
        self._process = process
        self._unread = b""
        self._seen: set[str] = set()

    def wait_for(self, answer: str) -> None:
        """Wait until there is this answer."""
        while answer not in self._seen:
            line = self._line()
            assert line, f"The caller has ended; it has had {self._seen}."
            self._seen.add(line.removeprefix("first "))

    def end(self) -> str:
        """Have it end; its last line."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        lines = list(iter(self._line, ""))
        assert self._process.wait(LIMIT_SECONDS) == 0
        return lines[-1]

    def _line(self) -> str:
        """The next line; empty at the end."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + LIMIT_SECONDS
        fd = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            readable, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"The caller says nothing; it has had {self._seen}."
            data = os.read(fd, 65536)
            if not data:
                return ""
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()


@contextmanager
def calling(machine: Machine, *command: str) -> Iterator[Caller]:
    """Calls of release 1, and of what comes after it; ended whatever happens."""
    with machine.popen(*command, stdin=subprocess.PIPE, stderr=None) as process:
        caller = Caller(process)
        caller.wait_for("release 1")
        yield caller


@contextmanager
def under_load(machine: Machine, program: Program, mode: str, *, rate: float = 500) -> Iterator[Caller]:
    """Requests at the clock's pace; the last line of the caller is for result_of()."""
    machine.write("/run/load/client.py", Path(client.__file__).read_text())
    arguments = ("--mode", mode, "--rate", f"{rate:g}", "--limit", f"{LIMIT_SECONDS / 2:g}", program.address)
    with calling(machine, "python3", "-S", "/run/load/client.py", *arguments) as caller:
        yield caller


def result_of(load: Caller) -> Result:
    """Send nothing more, wait for what is under way; what became of all."""
    return Result(**json.loads(load.end()))


def reload_under_load(machine: Machine, program: Program, mode: str, reloads: int, *, rate: float = 500) -> Result:
    """What a client sees of a program that is reloaded so often, each time to a release that it has seen answer."""
    with serving(machine, program) as service, under_load(machine, program, mode, rate=rate) as load:
        for release in range(2, reloads + 2):
            service.deploy(release)
            service.systemctl("reload")
            load.wait_for(f"release {release}")
        return result_of(load)
