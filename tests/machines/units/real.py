"""The story that a real program lives on a real systemd: under its plain unit, wrapped, reloaded, reloaded to what does
not start, killed, stopped, and under its plain unit again."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.load.ground import calling
from tests.machines.units import visit
from tests.support.inside import Process
from tests.support.machine import Machine

RELOADS = 5
MOST_LOOKS = 100
VISIT = "/run/visit.py"
PARENTS = "/srv/hello/releases"


class Real(NamedTuple):
    """A program as its users have it."""

    name: str
    """Of its unit. `%PHP%`, here and below, is the version of PHP that Debian has."""
    files: Mapping[str, str]
    """By path; those with a relative path are a release, reached by /srv/hello/current. `%N%` is the release."""
    broken: str
    """What the first file becomes when it is broken."""
    why: str
    """What the failed reload then says, among others."""
    lines: str = ""
    """Of its [Service], but for what all units of ours have. Without, the unit is the one that Debian installs."""
    protocol: str = "http"
    address: str = "127.0.0.1:8000"
    loses: str = "nothing"
    """Or "in a gap": its reload refuses clients once; or "under way": it cuts off what it works on."""
    note: str = ""
    """Which wrap says of what it loses."""
    afterwards: str = "old"
    """Who serves after a reload to what is broken: the old, or nobody; or it "goes on", and the reload succeeds."""
    socket: str = ""
    """The address of its .socket unit."""
    listen: str = ""
    """Told to wrap."""
    plain: tuple[str, str] = ("", "")
    """What stands in the first file when the unit is plain, and when it is wrapped."""
    shows_release: bool = True
    needs_redis: bool = False
    python: str = "/usr/bin/python3"
    """Which makes its calls."""

    def installed(self, machine: Machine) -> Real:
        """This program by the names that it has on this machine."""
        if "%PHP%" not in self.name:
            return self
        (version,) = machine.run("ls", "/etc/php").stdout.split()
        files = {path.replace("%PHP%", version): text.replace("%PHP%", version) for path, text in self.files.items()}
        name, address = (text.replace("%PHP%", version) for text in (self.name, self.address))
        return self._replace(name=name, files=files, address=address)


BROKEN_PYTHON = "import requsts\n"
OURS = """\
[Unit]
Description=One of the real programs
[Service]
User=games
RuntimeDirectory=hello
WorkingDirectory=/srv/hello/current
Environment=PYTHONDONTWRITEBYTECODE=1
Restart=always
{lines}
[Install]
WantedBy=multi-user.target
"""


class Site:
    """A machine on which one of them is installed."""

    def __init__(self, machine: Machine, real: Real) -> None:
        self.machine, self.real = machine, (real := real.installed(machine))
        self.unit = f"{real.name}.service"
        self.wrapped = False
        machine.write(VISIT, Path(visit.__file__).read_text())
        self.deploy(1)
        if real.lines:
            sockets = f"\nSockets={real.name}.socket" if real.socket else ""
            machine.write(f"/etc/systemd/system/{self.unit}", OURS.format(lines=real.lines + sockets))
        else:
            machine.run("rm", "-f", f"/etc/systemd/system/{self.unit}")  # which masks Debian's own
        if real.socket:
            socket = f"[Socket]\nListenStream={real.socket}\n"
            machine.write(f"/etc/systemd/system/{real.name}.socket", socket)
        machine.run("systemctl", "daemon-reload")
        if real.needs_redis:
            server = ("redis-server", "--save", "", "--supervised", "systemd")
            machine.run("systemd-run", "--unit=broker", "--property=Type=notify", "--collect", *server)

    def deploy(self, release: int, broken: bool = False) -> None:
        """Write all files of a release, and make it the current one."""
        directory = f"{PARENTS}/{'broken' if broken else release}"
        for place, (path, text) in enumerate(self.real.files.items()):
            text = self.real.broken if broken and not place else text.replace("%N%", str(release))
            text = text.replace("bind BIND", self.real.plain[self.wrapped])
            self.machine.write(path if path.startswith("/") else f"{directory}/{path}", text)
        self.machine.run("mkdir", "-p", directory)
        self.machine.symlink(directory.removeprefix("/srv/hello/"), "/srv/hello/current")

    def systemctl(self, verb: str) -> None:
        """`systemctl VERB`, which must succeed."""
        self.machine.run("systemctl", verb, self.real.name)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line of sdsupervise."""
        return self.machine.run("sdsupervise", *words, self.real.name, check=False)

    def remains(self, output: str) -> None:
        """Run what `unit wrap` and `unit unwrap` say remains to do."""
        self.machine.run("sh", "-c", output.strip().rpartition(": ")[2])

    def ask(self) -> str:
        """Its answer, as soon as there is one."""
        real = self.real
        return self.machine.run(real.python, VISIT, real.protocol, real.address, "0").stdout.strip()

    def main(self) -> int:
        """systemd's MainPID."""
        return int(self.machine.show(self.unit, "MainPID")["MainPID"])

    def worker(self) -> Process:
        """The first process of the program, which may have to be started again first."""
        for _ in range(MOST_LOOKS):
            main = self.main()
            if workers := [process for process in self.machine.processes(self.unit) if main and process.ppid == main]:
                return workers[0]
            self.ask()
        raise AssertionError("The supervisor has no worker.")

    def answer(self, release: int) -> str:
        """What a client has from this release."""
        return f"release {release if self.real.shows_release else 1}"

    def assert_is_stopped(self) -> None:
        """Nothing of it is left."""
        shown = self.machine.show(self.unit, "ActiveState", "Result")
        assert shown == {"ActiveState": "inactive", "Result": "success"}
        assert self.machine.processes(self.unit) == []

    def close(self) -> None:
        """Remove all of it."""
        name, run = self.real.name, self.machine.run
        run("systemctl", "stop", f"{name}.socket", name, "broker", check=False)
        run("sh", "-c", f"rm -rf /etc/systemd/system/{name}.* /srv/hello/releases /srv/hello/current")
        run("systemctl", "daemon-reload")
        run("systemctl", "reset-failed", check=False)


def live(site: Site) -> None:
    """Its plain unit and its wrapped one both serve; a reload loses what wrap said, and no more; what is broken is told
    and brings nobody down who can serve; whoever is killed comes again."""
    site.systemctl("start")
    assert site.ask() == site.answer(1)
    wrap(site)
    reload(site)
    kill(site)
    unwrap(site)


def wrap(site: Site) -> None:
    """Put the plain unit under sdsupervise."""
    real = site.real
    options = ["--listen", real.listen] if real.listen else []
    done = site.command("unit", "wrap", "--write", *options)
    assert done.returncode == 0, done.stderr
    assert real.note in done.stderr
    site.wrapped = True
    site.deploy(1)
    site.remains(done.stdout)
    assert site.ask() == site.answer(1)
    lint = site.command("unit", "lint")
    assert (lint.returncode, lint.stdout) == (0, "")


def reload(site: Site) -> None:
    """Reload it to good releases and a broken one under load."""
    machine, real = site.machine, site.real
    callers = "4" if real.loses == "nothing" else "1"
    with calling(machine, real.python, VISIT, real.protocol, real.address, callers) as load:
        for release in range(2, RELOADS + 2):
            site.deploy(release)
            site.systemctl("reload")
            load.wait_for(site.answer(release))
        if real.afterwards != "nobody":
            break_it(site)
        result = json.loads(load.end())
    print(real.name, result)
    if real.loses == "nothing":
        assert result["lost"] == 0, result
    else:
        assert result["gaps"] <= RELOADS + 1, result
    if real.afterwards == "nobody":
        break_it(site)
    assert site.ask() == site.answer(RELOADS + 1)


def break_it(site: Site) -> None:
    """Reload it to what does not start; then have it serve again, if it does not."""
    site.deploy(RELOADS + 2, broken=True)
    done = site.command("reload")
    assert done.returncode == (0 if site.real.afterwards == "goes on" else 1), done.stdout + done.stderr
    print(done.stderr)
    assert site.real.why in done.stderr
    assert ("NOBODY SERVES" in done.stderr) == (site.real.afterwards == "nobody"), done.stderr
    if site.real.afterwards == "nobody":
        site.deploy(RELOADS + 1)
        site.systemctl("restart")
    assert site.ask() == site.answer(RELOADS + 1)
    site.deploy(RELOADS + 1)


def kill(site: Site) -> None:
    """Kill the program, and then its supervisor."""
    machine = site.machine
    for victim in ("worker", "supervisor"):
        worker, main = site.worker(), site.main()
        machine.kill(worker.pid if victim == "worker" else main, signal.SIGKILL)
        machine.wait_until_gone(worker.pid, timeout_seconds=50)
        assert site.ask() == site.answer(RELOADS + 1)
        assert (site.main() == main) == (victim == "worker")
    site.systemctl("stop")
    site.assert_is_stopped()


def unwrap(site: Site) -> None:
    """Give the plain unit back, which serves as before."""
    machine = site.machine
    done = site.command("unit", "unwrap")
    assert done.returncode == 0, done.stderr
    site.wrapped = False
    site.deploy(RELOADS + 1)
    site.remains(done.stdout)
    assert site.ask() == site.answer(RELOADS + 1)
    assert "sdsupervise" not in machine.show(site.unit, "ExecStart")["ExecStart"]
    assert machine.show(site.unit, "NRestarts", "DropInPaths") == {"NRestarts": "0", "DropInPaths": ""}
    site.systemctl("restart")
    assert site.ask() == site.answer(RELOADS + 1)
    site.systemctl("stop")
