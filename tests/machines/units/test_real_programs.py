"""Real programs live a whole story on a real systemd, each under its Debian unit or the one of its documentation: under
its plain unit, wrapped, reloaded, reloaded to what does not start, killed, stopped, and under its plain unit again."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.load.environment import PLACE
from tests.load.ground import Program, calling
from tests.machines.units import visit
from tests.support.fixtures import Equipment
from tests.support.inside import Process
from tests.support.machine import Machine

MACHINE = Equipment(units=True, programs=True, recipes=True)

RELOADS = 5
VISIT = "/run/visit.py"
PARENTS = "/srv/hello/releases"


class Real(NamedTuple):
    """A program as its users have it."""

    name: str
    """Of its unit."""
    files: Mapping[str, str]
    """By path; those with a relative path are a release, reached by /srv/hello/current. `@` is the release."""
    broken: str
    """What the first file becomes when it is broken."""
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
HELLO = {"hello.py": Program("hello").code(1).replace("RELEASE = 1\n", "RELEASE = @\n")}
BROKEN_PYTHON = "import requsts\n"
GUNICORN = "Type=notify\nExecReload=/bin/kill -s HUP $MAINPID\nKillMode=mixed\nTimeoutStopSec=5\n"
GUNICORN += f"ExecStart={PLACE}/bin/gunicorn --workers 2 {{}} hello:application"
ASGI = f"Type=notify\nNotifyAccess=all\nExecStart={PLACE}/bin/"
NODE = """\
require("http").createServer((request, response) => response.end("release @\\n")).listen(8000, "127.0.0.1");
"""
PUMA = 'run lambda { |env| [200, {"Content-Type" => "text/plain"}, ["release @\\n"]] }\n'
HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend hello
    bind BIND
    http-request return status 200 content-type text/plain string "release @\\n"
"""
FPM = "[www]\nuser = www-data\nlisten = /run/php/php8.2-fpm.sock\npm = static\npm.max_children = 4\nenv[RELEASE] = @\n"
PHP = "<?php echo 'release ', getenv('RELEASE'), \"\\n\";\n"
REDIS = 'bind 127.0.0.1\nsave ""\ndir /var/lib/redis\nlogfile ""\nmaxclients 100@\n'
MEMCACHED = "-m 64\n-p 11211\n-u memcache\n-l 127.0.0.1\n-P /run/memcached/memcached.pid\n-c 100@\n"
MOSQUITTO = "listener 1883 127.0.0.1\nallow_anonymous true\n"
TASKS = """\
from celery import Celery

app = Celery("tasks", broker="redis://127.0.0.1", backend="redis://127.0.0.1")

@app.task
def work():
    return "release @"
"""
JOBS = {"settings.py": 'REDIS_URL = "redis://127.0.0.1"\n', "tasks.py": 'def work():\n    return "release @"\n'}

REAL = (
    Real("gunicorn", HELLO, BROKEN_PYTHON, GUNICORN.format("--bind 127.0.0.1:8000")),
    Real(
        "gunicorn-unix",
        HELLO,
        BROKEN_PYTHON,
        GUNICORN.format("--bind unix:/run/hello/http.sock"),
        address="/run/hello/http.sock",
    ),
    Real(
        "gunicorn-activated",
        HELLO,
        BROKEN_PYTHON,
        GUNICORN.format(""),
        socket="/run/hello.sock",
        address="/run/hello.sock",
    ),
    Real("uvicorn", HELLO, BROKEN_PYTHON, f"{ASGI}uvicorn --host 127.0.0.1 --port 8000 --no-access-log hello:app"),
    Real("hypercorn", HELLO, BROKEN_PYTHON, f"{ASGI}hypercorn --bind 127.0.0.1:8000 --workers 0 hello:app"),
    Real(
        "daphne",
        HELLO,
        BROKEN_PYTHON,
        "ExecStart=/usr/bin/daphne -b 127.0.0.1 -p 8000 hello:app",
        loses="under way",
        note="daphne ends the requests that it works on when it stops, so a reload cuts those off",
    ),
    Real(
        "uwsgi",
        HELLO,
        BROKEN_PYTHON,
        "Type=notify\nKillSignal=SIGQUIT\n"
        "ExecStart=/usr/bin/uwsgi --plugin python3 --http-socket 127.0.0.1:8000 --master -p 2 -w hello",
    ),
    Real(
        "puma",
        {"config.ru": PUMA},
        "raise(\n",
        "ExecStart=/usr/bin/puma -e production -b tcp://127.0.0.1:8000 /srv/hello/current/config.ru",
    ),
    Real(
        "node",
        {"server.js": NODE},
        "throw new Error('broken');\n",
        "ExecStart=/usr/bin/node server.js",
        loses="in a gap",
        note="a Node server opens its own socket, so each reload refuses clients for the time of one stop",
    ),
    Real(
        "php8.2-fpm",
        {"/etc/php/8.2/fpm/pool.d/www.conf": FPM, "/srv/hello/index.php": PHP},
        "[www]\npm = nonsense\n",
        protocol="fastcgi",
        address="/run/php/php8.2-fpm.sock",
        loses="under way",
        note="a reload still sends SIGUSR2",
        afterwards="nobody",
    ),
    Real(
        "haproxy",
        {"/etc/haproxy/haproxy.cfg": HAPROXY},
        "frontend hello\n    nonsense\n",
        listen="http=127.0.0.1:8000",
        plain=("bind 127.0.0.1:8000", 'bind "fd@${HTTP}"'),
    ),
    Real(
        "celery",
        {"tasks.py": TASKS},
        BROKEN_PYTHON,
        f"ExecStart={PLACE}/bin/celery --app tasks worker --concurrency 1 --without-mingle --without-gossip",
        protocol="celery",
        address="127.0.0.1:6379",
        needs_redis=True,
        python=f"{PLACE}/bin/python3",
    ),
    Real(
        "rq",
        JOBS,
        BROKEN_PYTHON,
        "KillMode=mixed\nExecReload=/bin/kill -s HUP $MAINPID\nExecStop=/bin/kill -s TERM $MAINPID\n"
        "ExecStart=/usr/bin/rq worker -c settings",
        protocol="rq",
        address="127.0.0.1:6379",
        needs_redis=True,
    ),
    Real(
        "memcached",
        {"/etc/memcached.conf": MEMCACHED},
        "--nonsense\n",
        protocol="memcached",
        address="127.0.0.1:11211",
        loses="in a gap",
        note="exclusive: the old process stops before the new one starts",
        afterwards="nobody",
    ),
    Real(
        "mosquitto",
        {"/etc/mosquitto/conf.d/hello.conf": MOSQUITTO},
        "nonsense\n",
        protocol="mqtt",
        address="127.0.0.1:1883",
        note="a reload still sends SIGHUP",
        afterwards="goes on",
        shows_release=False,
    ),
    Real(
        "redis-server",
        {"/etc/redis/redis.conf": REDIS},
        "nonsense\n",
        protocol="redis",
        address="127.0.0.1:6379",
        loses="in a gap",
        note="exclusive: the old process stops before the new one starts",
        afterwards="nobody",
    ),
)


class Site:
    """A machine on which one of them is installed."""

    def __init__(self, machine: Machine, real: Real) -> None:
        self.machine, self.real = machine, real
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
            text = self.real.broken if broken and not place else text.replace("@", str(release))
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
        """The first process of the program."""
        main = self.main()
        (worker,) = [process for process in self.machine.processes(self.unit) if process.ppid == main]
        return worker

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


@pytest.fixture
def site(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Site]:
    """One of the programs, not started."""
    site = Site(machine, request.param)
    yield site
    site.close()


@pytest.mark.parametrize("site", REAL, ids=[real.name for real in REAL], indirect=True)
def test_its_story(site: Site) -> None:
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
    assert ("obody serves" in done.stdout + done.stderr) == (site.real.afterwards == "nobody"), done
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
