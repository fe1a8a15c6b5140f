"""Existing units are put under sdsupervise on a real systemd, reloaded under load, and taken away again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.load.environment import PLACE
from tests.load.ground import Program, Service, result_of, under_load
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(units=True, programs=True)

# As their users write them, by the programs' own documentation.
UNIT = """\
[Unit]
Description=Hello
[Service]
{lines}
DynamicUser=yes
Environment=GREETING=hello
WorkingDirectory=/srv/hello/current
LimitNOFILE=4096
ExecStart={place}/bin/{command}
[Install]
WantedBy=multi-user.target
"""
GUNICORN = "Type=notify\nExecReload=/bin/kill -s HUP $MAINPID\nKillMode=mixed\nTimeoutStopSec=5"
SERVERS = {
    "gunicorn": (GUNICORN, "gunicorn --workers 2 --bind 127.0.0.1:8000 hello:application"),
    "uvicorn": ("Type=simple\nRestart=on-failure", "uvicorn --host 127.0.0.1 --port 8000 --no-access-log hello:app"),
    "hypercorn": ("Type=exec\nRestart=no", "hypercorn --bind 127.0.0.1:8000 --workers 0 hello:app"),
}
DROP_IN = "/etc/systemd/system/{}.service.d/zz-sdsupervise.conf"


def unit(name: str) -> str:
    """The plain unit of a server."""
    lines, command = SERVERS[name]
    return UNIT.format(lines=lines, place=PLACE, command=command)


@pytest.fixture
def service(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A server under its plain unit, with release 1 deployed, started."""
    name = request.param
    service = Service(machine, Program(name), unit(name))
    service.deploy(1)
    service.systemctl("start")
    yield service
    machine.run("systemctl", "stop", service.unit, check=False)
    machine.run("rm", "-rf", f"/etc/systemd/system/{service.unit}", f"/etc/systemd/system/{service.unit}.d")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed")


def sdsupervise(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, whatever it ends with."""
    return machine.run("sdsupervise", *arguments, check=False)


def kept(machine: Machine, unit: str) -> dict[str, str]:
    """What of a unit a drop-in of ours must not change."""
    return machine.show(unit, "User", "DynamicUser", "LimitNOFILE", "Environment", "WorkingDirectory")


def command(machine: Machine, unit: str) -> str:
    """What a unit starts."""
    return machine.show(unit, "ExecStart")["ExecStart"].partition("argv[]=")[2].partition(";")[0]


@pytest.mark.parametrize("service", SERVERS, indirect=True)
def test_from_plain_to_wrapped_and_back(machine: Machine, service: Service) -> None:
    """Two commands put a plain unit under sdsupervise; from then on a reload serves new code and loses no request; two
    more give the unit back as it was."""
    name, drop_in = service.program.name, DROP_IN.format(service.program.name)
    plain, plain_command = kept(machine, service.unit), command(machine, service.unit)
    printed = sdsupervise(machine, "unit", "wrap", name)
    assert (printed.returncode, machine.exists(drop_in)) == (0, False)
    written = sdsupervise(machine, "unit", "wrap", "--write", service.unit)
    switch = f"systemctl stop {name} && systemctl daemon-reload && systemctl start {name}"
    assert written.stdout == f"wrote {drop_in}\nwhat remains to do, in one go: {switch}\n"
    assert written.stderr == printed.stderr
    assert "note: the switch needs one last restart\n" in written.stderr
    machine.run("sh", "-c", switch)
    assert kept(machine, service.unit) == plain
    done = sdsupervise(machine, "unit", "lint", name)
    assert (done.returncode, done.stdout) == (0, "")
    with under_load(machine, service.program, "close", rate=50) as load:
        for release in (2, 3):
            service.deploy(release)
            ask = ("systemctl", "reload", name) if release == 2 else ("sdsupervise", "reload", name)
            machine.run(*ask)
            load.wait_for(f"release {release}")
        result = result_of(load)
    assert result.answered == result.requests, result
    removed = sdsupervise(machine, "unit", "unwrap", name)
    assert removed.stdout == f"removed {drop_in}\nwhat remains to do, in one go: {switch}\n"
    assert not machine.exists(drop_in.rpartition("/")[0])
    # Till then systemd must listen to the supervisor's watchdog.
    assert machine.show(service.unit, "NotifyAccess")["NotifyAccess"] == "main"
    service.deploy(1)
    machine.run("sh", "-c", switch)
    with under_load(machine, service.program, "close", rate=50) as load:  # which waits for an answer of release 1
        assert result_of(load).answered > 0
    assert command(machine, service.unit) == plain_command
    assert machine.show(service.unit, "NRestarts", "ActiveState") == {"NRestarts": "0", "ActiveState": "active"}


@pytest.mark.parametrize("service", ["gunicorn"], indirect=True)
def test_broken_code(machine: Machine, service: Service) -> None:
    """Code that gunicorn cannot import fails the reload of a wrapped unit, while the old code serves on."""
    sdsupervise(machine, "unit", "wrap", "--write", "gunicorn")
    machine.run("systemctl", "daemon-reload")
    service.systemctl("restart")
    with under_load(machine, service.program, "close", rate=50) as load:
        machine.write("/srv/hello/releases/2/hello.py", "import requsts\n")
        machine.symlink("releases/2", "/srv/hello/current")
        assert machine.run("systemctl", "reload", "gunicorn", check=False).returncode == 1
        machine.symlink("releases/1", "/srv/hello/current")
        result = result_of(load)
    assert result.answered == result.requests, result
    assert list(result.bodies) == ["release 1"]


@pytest.mark.parametrize("service", ["gunicorn"], indirect=True)
def test_somebody_else_s_file(machine: Machine, service: Service) -> None:
    """A file that stands where ours would is neither overwritten nor removed; ours is written as often as asked."""
    drop_in = DROP_IN.format("gunicorn")
    machine.write(drop_in, "[Service]\nNice=5\n")
    for verb in (["wrap", "--write"], ["unwrap"]):
        done = sdsupervise(machine, "unit", *verb, "gunicorn")
        assert (done.returncode, len(done.stderr.splitlines())) == (78, 1)
        assert machine.read(drop_in) == "[Service]\nNice=5\n"
    machine.remove(drop_in)
    assert sdsupervise(machine, "unit", "unwrap", "gunicorn").returncode == 69
    write = ("sh", "-c", "umask 077; exec sdsupervise unit wrap --write gunicorn")
    for _ in range(2):
        machine.run(*write)
    modes = machine.run("stat", "--format=%a", drop_in, drop_in.rpartition("/")[0]).stdout
    assert modes.split() == ["644", "755"]
    told = json.loads(sdsupervise(machine, "unit", "wrap", "--json", "gunicorn").stdout)
    assert (told["unit"], told["path"], told["written"]) == (service.unit, drop_in, False)
    assert told["text"] == machine.read(drop_in)
    remains = "systemctl stop gunicorn && systemctl daemon-reload && systemctl start gunicorn"
    taken = json.loads(sdsupervise(machine, "unit", "unwrap", "--json", "gunicorn").stdout)
    assert taken == {"unit": service.unit, "path": drop_in, "remains": remains}


def test_no_such_unit(machine: Machine) -> None:
    """A unit that is not there, or is masked, is told in one sentence, whatever is asked of it."""
    for name in ("nothing", "redis-server"):
        for verb in ("wrap", "lint", "unwrap"):
            done = sdsupervise(machine, "unit", verb, name)
            assert (done.returncode, len(done.stderr.splitlines())) == (69, 1)
            assert f"{name}.service" in done.stderr


def test_an_instance(machine: Machine) -> None:
    """The template is fitted to an instance's file: with a `user` not even its supervisor is root, and it listens below
    port 1024 all the same."""
    machine.write(
        "/etc/sdsupervise/hello.toml",
        'directory = "/srv/hello/current"\nhandover = "overlap"\nuser = "games"\nlisten = { http = "127.0.0.1:80" }\n'
        f'command = ["{PLACE}/bin/gunicorn", "--preload", "hello:application"]\n',
    )
    Service(machine, Program("gunicorn"), unit("gunicorn")).deploy(1)
    written = sdsupervise(machine, "unit", "wrap", "--write", "hello")
    assert written.stdout.endswith("what remains to do: systemctl start sdsupervise@hello\n")
    name = "sdsupervise@hello.service"
    try:
        machine.run("systemctl", "start", name)
        machine.run("systemctl", "reload", name)
        assert machine.show(name, "User", "Result") == {"User": "games", "Result": "success"}
        assert (
            machine.run("python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 80))").returncode == 0
        )
        assert sdsupervise(machine, "unit", "lint", name).stdout == ""
    finally:
        machine.run("systemctl", "stop", name)
    assert sdsupervise(machine, "unit", "unwrap", "hello").returncode == 0
    assert not machine.exists(f"/etc/systemd/system/{name}.d")
    machine.run("rm", "/etc/sdsupervise/hello.toml", "/etc/systemd/system/gunicorn.service")
    machine.run("systemctl", "daemon-reload")


def test_without_root(machine: Machine) -> None:
    """Who may not write a drop-in is told so; who only asks is answered."""
    machine.write("/etc/systemd/system/gunicorn.service", unit("gunicorn"))
    machine.run("systemctl", "daemon-reload")
    as_games = ("setpriv", "--reuid=games", "--clear-groups", "--", "sdsupervise", "unit", "wrap")
    assert machine.run(*as_games, "gunicorn").stdout.startswith("# gunicorn.service.d/zz-sdsupervise.conf\n")
    done = machine.run(*as_games, "--write", "gunicorn", check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (77, 1)
    machine.remove("/etc/systemd/system/gunicorn.service")
    machine.run("systemctl", "daemon-reload")


def test_lint_of_all(machine: Machine) -> None:
    """Without a unit every one that runs sdsupervise is looked over, and only those."""
    good = "[Service]\nType=notify\nExecStart=/usr/bin/sdsupervise run a.py:A\n"
    machine.write("/etc/systemd/system/bad.service", good + "PIDFile=/run/x.pid\n")
    machine.write("/etc/systemd/system/foreign.service", "[Service]\nExecStart=/bin/true\nPIDFile=/run/x\n")
    machine.run("systemctl", "daemon-reload")
    done = sdsupervise(machine, "unit", "lint", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert {finding["unit"] for finding in found} == {"bad.service"}
    assert {"PIDFile", "ExecReload", "RuntimeDirectory"} <= {finding["key"] for finding in found}
    machine.run("rm", "/etc/systemd/system/bad.service", "/etc/systemd/system/foreign.service")
    machine.run("systemctl", "daemon-reload")


TASKS = """\
from celery import Celery

RELEASE = 1
app = Celery("tasks", broker="redis://127.0.0.1", backend="redis://127.0.0.1")

@app.task
def work():
    return f"release {RELEASE}"
"""
CELERY = "celery --app tasks worker --concurrency 1 --pidfile /run/celery/worker.pid --without-mingle"


def test_celery(machine: Machine) -> None:
    """A plain celery worker is wrapped, and after a reload tasks are done by the new release."""
    server = ("redis-server", "--save", "", "--supervised", "systemd")
    machine.run("systemd-run", "--unit=broker", "--property=Type=notify", "--collect", *server)
    lines = "Type=simple\nRuntimeDirectory=celery"
    plain = UNIT.format(lines=lines, place=PLACE, command=CELERY)
    machine.write("/etc/systemd/system/worker.service", plain)
    call = (
        "import sys; sys.path.insert(0, '/srv/hello/current'); import tasks; print(tasks.work.delay().get(timeout=50))"
    )
    try:
        for release in (1, 2):
            code = TASKS.replace("RELEASE = 1", f"RELEASE = {release}")
            machine.write(f"/srv/hello/releases/{release}/tasks.py", code)
            machine.symlink(f"releases/{release}", "/srv/hello/current")
            if release == 1:
                assert sdsupervise(machine, "unit", "wrap", "--write", "worker").returncode == 0
                machine.run("systemctl", "start", "worker")
            else:
                old = int(machine.show("worker.service", "MainPID")["MainPID"])
                machine.run("systemctl", "reload", "worker")
                machine.wait_until_gone(old, timeout_seconds=50)  # till then its worker may take the task
            assert machine.run(f"{PLACE}/bin/python3", "-c", call).stdout == f"release {release}\n"
    finally:
        machine.run("systemctl", "stop", "worker", "broker", check=False)
        machine.run("rm", "-rf", "/etc/systemd/system/worker.service", "/etc/systemd/system/worker.service.d")
        machine.run("systemctl", "daemon-reload")
