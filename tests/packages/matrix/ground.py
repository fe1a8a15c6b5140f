"""A Debian on which the package is installed as its users do it, and services under it, handled by `systemctl`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import sdsupervise
from tests.load.client import Result
from tests.load.ground import PROGRAMS, Caller, Program, result_of, under_load
from tests.packages.built import built
from tests.support.machine import Machine

VERSION = sdsupervise.__version__
NEXT_VERSION = f"{VERSION}.1"
"""A release of the same code, so that it is an upgrade."""

EXAMPLES = "/usr/share/doc/sdsupervise/examples"
APT_LIMIT_SECONDS = 180.0
RATE = 100.0
"""Requests per second: a load that two machines can bear beside each other."""

WEB = next(program for program in PROGRAMS if program.name == "web")
ASK = "import urllib.request; print(urllib.request.urlopen('http://{address}/', timeout=20).read().decode().strip())"


def packages() -> Mapping[str, Path]:
    """What a machine must see to install from."""
    return {f"/packages/{VERSION}": built("deb"), f"/packages/{NEXT_VERSION}": built("deb", NEXT_VERSION)}


class Ground:
    """The machine, and what an operator does on it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.before = self.files()
        """Of /etc, /usr and /var, before anything was installed."""

    # The package

    def apt(self, *arguments: str) -> str:
        """`apt-get ARGUMENTS`, which must succeed; what it said."""
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        command = ("apt-get", "--quiet", "--yes", "--no-install-recommends", *arguments)
        done = self.machine.run(*command, env=environment, timeout=APT_LIMIT_SECONDS)
        return done.stdout + done.stderr

    def install(self, version: str = VERSION) -> str:
        """Install it, or move to this version."""
        package = self.sh(f"ls /packages/{version}/*.deb").strip()
        return self.apt("--allow-downgrades", "install", package)

    def files(self) -> set[str]:
        """Every path that a package may leave something at."""
        places = "/etc /usr /var/lib/systemd /var/lib/sdsupervise /var/lib/private /run/systemd/system"
        return set(self.sh(f"find {places} -xdev 2>/dev/null || true").splitlines())

    # Services

    def sh(self, script: str) -> str:
        """What a shell that must succeed prints."""
        return self.machine.run("sh", "-ec", script).stdout

    def systemctl(self, verb: str, *arguments: str) -> str:
        """`systemctl VERB ARGUMENTS`, which must succeed."""
        return self.machine.run("systemctl", verb, *arguments).stdout

    def fails(self, *command: str) -> str:
        """What a command says that must fail."""
        done = self.machine.run(*command, check=False)
        assert done.returncode != 0, f"{command} succeeded"
        return done.stdout + done.stderr

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.machine.show(unit, name)[name]

    def main_pid(self, unit: str) -> int:
        """systemd's MainPID."""
        return int(self.show(unit, "MainPID"))

    def version_of(self, name: str) -> str:
        """Which sdsupervise runs this instance."""
        return str(json.loads(self.sh(f"sdsupervise status --json {name}"))["version"])

    def ask(self, address: str = WEB.address) -> str:
        """What a client is answered."""
        return self.machine.run("python3", "-c", ASK.format(address=address)).stdout.strip()

    def deploy(self, release: int, program: Program = WEB, code: str = "") -> None:
        """Lay out a release and swap the symlink to it."""
        text = code or program.code(release)
        self.machine.write(f"{program.home}/releases/{release}/{program.file}", text)
        self.machine.symlink(f"releases/{release}", f"{program.home}/current")

    def drop_in(self, unit: str, name: str, *lines: str) -> None:
        """Change a unit as `systemctl edit` does; with no lines, take the change away."""
        path = f"/etc/systemd/system/{unit}.d/{name}.conf"
        if lines:
            self.machine.write(path, "\n".join(["[Service]", *lines, ""]))
        else:
            self.machine.remove(path)
        self.systemctl("daemon-reload")

    def forgive(self, unit: str) -> None:
        """Forget how often it was started: the rows together do so too often for its StartLimitBurst=."""
        self.machine.run("systemctl", "reset-failed", unit, check=False)

    def start(self, unit: str) -> None:
        """`systemctl start`, however often that was done before."""
        self.forgive(unit)
        self.systemctl("start", unit)

    @contextmanager
    def started(self, unit: str) -> Iterator[None]:
        """It is started, serves, and is stopped at the end; nothing of it is left then."""
        try:
            self.start(unit)
            yield
        except BaseException:
            # The rows to come are to find nothing of it.
            self.machine.run("systemctl", "stop", unit, check=False)
            self.sh(f"rm -rf /etc/systemd/system/{unit}.d; systemctl daemon-reload")
            raise
        self.systemctl("stop", unit)
        self.assert_gone(unit)

    def assert_gone(self, unit: str) -> None:
        """It is down as asked, and nothing of it is left."""
        shown = self.machine.show(unit, "ActiveState", "Result")
        assert shown == {"ActiveState": "inactive", "Result": "success"}, f"{unit}: {shown}"
        assert self.machine.processes(unit) == []

    @contextmanager
    def load(self, program: Program = WEB) -> Iterator[Load]:
        """Clients that ask all the while."""
        with under_load(self.machine, program, "close", rate=RATE) as caller:
            yield Load(caller)


class Load:
    """Clients that ask all the while."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def wait_for(self, release: int) -> None:
        """Until somebody was answered by this release."""
        self._caller.wait_for(f"release {release}")

    def end(self) -> Result:
        """No more of them; how they fared."""
        return result_of(self._caller)


def none_failed(result: Result) -> str:
    """Not one request failed; how many there were."""
    assert result.failed == 0, result.failures
    assert result.answered == result.requests
    return f"{result.requests} requests, 0 failed"
