"""gunicorn with the file of ours: READY=1 comes when all its workers serve, and your own file is still in force."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.load.environment import PLACE
from tests.load.ground import Program, Service, result_of, serving, under_load
from tests.support.fixtures import Equipment
from tests.support.machine import Machine
from tests.support.units import GUNICORN_READY, install_gunicorn_ready

MACHINE = Equipment(programs=True, recipes=True)

GUNICORN = Program("gunicorn")
NEWEST, DEBIANS = f"{PLACE}/bin/gunicorn", "/usr/bin/gunicorn"
UVICORN = "uvicorn.workers.UvicornWorker"
ASK = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000').read())"

# The first process that imports it is done at once, the second one when the test says so.
GATE = """\
import os

try:
    os.close(os.open("/run/gate/first", os.O_CREAT | os.O_EXCL))
except FileExistsError:
    open("/run/gate/arrived", "w").close()
    open("/run/gate/go").close()
"""


every_gunicorn = pytest.mark.parametrize("gunicorn", [NEWEST, DEBIANS], ids=["newest", "Debian's"])


@pytest.fixture(autouse=True)
def gate(machine: Machine) -> Iterator[None]:
    """The directory of GATE."""
    machine.run("sh", "-c", "mkdir -m 777 /run/gate && mkfifo -m 666 /run/gate/arrived /run/gate/go")
    yield
    machine.run("rm", "-r", "/run/gate")


def unit(gunicorn: str, kind: str = "gthread", file: str = "") -> str:
    """The unit of units/example with another gunicorn, another kind of workers, and a configuration file."""
    text = GUNICORN.unit.replace(f"{PLACE}/bin/gunicorn", f"{gunicorn} {file}")
    text = text.replace("DynamicUser=yes\n", "DynamicUser=yes\nReadWritePaths=-/run/gate\n")
    if gunicorn == DEBIANS:
        text = text.replace(" --no-control-socket", "")
    if kind != "gthread":
        text = text.replace("--worker-class gthread --threads 8", f"--worker-class {kind}")
    return text.replace("hello:application", "hello:app") if kind == UVICORN else text


def deploy(machine: Machine, release: int, before: str) -> None:
    """A release of hello.py with more code before it."""
    code = before + GUNICORN.code(release).replace('"NOTIFY_SOCKET" in os.environ', "False")
    machine.write(f"/srv/hello/releases/{release}/hello.py", code)
    machine.symlink(f"releases/{release}", "/srv/hello/current")


@contextmanager
def starting(machine: Machine, text: str) -> Iterator[Service]:
    """A service that was told to start, whose second worker waits at the gate; stopped at the end."""
    service = Service(machine, GUNICORN, text)
    deploy(machine, 1, GATE)
    machine.run("systemctl", "start", "--no-block", service.unit)
    try:
        machine.run("cat", "/run/gate/arrived")
        yield service
    finally:
        machine.run("systemctl", "stop", service.unit)


def state(machine: Machine) -> str:
    """ActiveState= of the unit."""
    return machine.show("gunicorn", "ActiveState")["ActiveState"]


@every_gunicorn
@pytest.mark.parametrize("kind", ["sync", "gthread", UVICORN])
def test_ready_when_all_workers_serve(machine: Machine, gunicorn: str, kind: str) -> None:
    """While one worker serves and another one imports its application, the service is not ready."""
    with starting(machine, unit(gunicorn, kind)):
        assert machine.run("python3", "-c", ASK).stdout == "b'release 1\\n'\n"
        assert state(machine) == "activating"
        machine.run("sh", "-c", ": >/run/gate/go")
        machine.run("systemctl", "start", "gunicorn")  # waits for the job
        assert state(machine) == "active"
        assert "Workers of gunicorn that serve: 2" in machine.run("sdsupervise", "status", "gunicorn", "--json").stdout


@every_gunicorn
def test_one_broken_worker(machine: Machine, gunicorn: str) -> None:
    """A reload fails if one of the new workers cannot import the application, and says why. The old ones serve."""
    with serving(machine, GUNICORN, unit(gunicorn)) as service:
        before = service.main_pid
        deploy(machine, 2, GATE.replace('open("/run/gate/arrived", "w").close()', "raise RuntimeError"))
        told = machine.run("sdsupervise", "reload", "gunicorn", check=False)
        assert (told.returncode, "\nRuntimeError\n" in told.stderr) == (1, True), told.stderr
        assert 'with the last status "A worker of gunicorn cannot start: RuntimeError"' in told.stderr
        assert (service.main_pid, state(machine)) == (before, "active")
        assert machine.run("python3", "-c", ASK).stdout == "b'release 1\\n'\n"


HOOKS = (
    *("on_starting", "when_ready", "post_fork", "child_exit", "worker_exit", "on_reload", "nworkers_changed"),
    *("post_worker_init", "on_exit"),
)


def yours(*lines: str) -> str:
    """Your own file: each hook says that it runs."""
    arities = {"nworkers_changed": 3, **dict.fromkeys(("post_fork", "child_exit", "worker_exit"), 2)}
    words = [(hook, ", ".join("abc"[: arities.get(hook, 1)])) for hook in HOOKS]
    hooks = [f"def {hook}({parameters}): print('hook {hook}', flush=True)" for hook, parameters in words]
    return "\n".join([*hooks, "os = None", *lines, ""])


@every_gunicorn
def test_your_hooks_run(machine: Machine, gunicorn: str) -> None:
    """All hooks of your own file run, also those that ours has, and again after SIGHUP."""
    machine.write("/srv/hello/yours.py", yours())
    with serving(machine, GUNICORN, unit(gunicorn, file="--config /srv/hello/yours.py")) as service:
        cursor = machine.journal_cursor()
        journal = machine.follow_journal(service.unit, after=cursor)
        machine.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", service.unit)
        journal.wait_for("hook child_exit")
        since = {entry["MESSAGE"] for entry in machine.journal(service.unit, after=cursor)}
    said = {entry["MESSAGE"] for entry in machine.journal(service.unit)}
    assert {f"hook {hook}" for hook in HOOKS} <= said
    assert {"hook on_reload", "hook post_fork", "hook child_exit"} <= since


@every_gunicorn
@pytest.mark.parametrize("way", ["--config", "$GUNICORN_CMD_ARGS", "gunicorn.conf.py", "python:"])
def test_your_file_is_found(machine: Machine, gunicorn: str, way: str) -> None:
    """Your file is the one that gunicorn would have read without ours."""
    place = "/srv/other/gunicorn.conf.py" if way == "gunicorn.conf.py" else "/srv/other/yours.py"
    install_gunicorn_ready(machine)
    machine.write(place, yours("workers = 7"))
    words = {"--config": ["--config=file:yours.py"], "python:": ["-c", "python:yours"]}.get(way, [])
    environment = {"GUNICORN_CMD_ARGS": "-cyours.py"} if way.startswith("$") else {}
    in_directory = ("env", "--chdir=/srv/other", gunicorn)
    command = (*in_directory, *words, "-c", GUNICORN_READY, "--print-config", "json:dumps")
    shown = machine.run(*command, env=environment).stdout
    machine.remove("/srv/other")
    assert re.search(r"^workers +(?:=|:) 7$", shown, re.MULTILINE), shown
    assert re.search(r"^post_worker_init +(?:=|:) <post_worker_init\(\)>$", shown, re.MULTILINE), shown


PLAIN = """\
[Service]
Type=notify
DynamicUser=yes
ReadWritePaths=/run/gate
Environment=PYTHONDONTWRITEBYTECODE=1
WorkingDirectory=/srv/hello/current
ExecStart={} --bind 127.0.0.1:8000 hello:application
ExecReload=/bin/kill -s HUP $MAINPID
KillMode=mixed
"""


@pytest.fixture(params=[NEWEST, DEBIANS], ids=["newest", "Debian's"])
def plain(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Service]:
    """gunicorn under a unit of its own, with two workers by its configuration file."""
    install_gunicorn_ready(machine)
    machine.write("/srv/hello/releases/1/gunicorn.conf.py", yours("workers = 2"))
    machine.write("/srv/hello/releases/2/gunicorn.conf.py", yours("workers = 2"))
    service = Service(machine, GUNICORN, PLAIN.format(request.param))
    deploy(machine, 1, "")
    service.systemctl("start")
    yield service
    machine.run("systemctl", "kill", "-s", "KILL", service.unit, check=False)  # gunicorn misses a stop while it starts
    machine.run("systemctl", "stop", service.unit)
    machine.run("sh", "-c", f"rm -rf /srv/hello/releases /etc/systemd/system/{service.unit}*")
    machine.run("systemctl", "daemon-reload")


def test_a_wrapped_unit(machine: Machine, plain: Service) -> None:
    """`unit wrap` names our file, which loads yours; a reload waits for all workers, and loses no request."""
    before = machine.run("systemctl", "cat", plain.unit).stdout
    told = machine.run("sdsupervise", "unit", "wrap", "--write", "gunicorn")
    assert f"note: --config {GUNICORN_READY} added: " in told.stderr and "--preload" not in told.stderr
    machine.run("sh", "-c", told.stdout.strip().rpartition(": ")[2])
    assert machine.run("sdsupervise", "unit", "lint", "gunicorn").stdout == ""
    with under_load(machine, GUNICORN, "close", rate=50) as load:
        deploy(machine, 2, GATE)
        cursor = machine.journal_cursor()
        with machine.popen("systemctl", "reload", plain.unit) as reload:
            machine.run("cat", "/run/gate/arrived")
            assert state(machine) == "reloading"  # one worker serves, the other one imports its application
            machine.run("sh", "-c", ": >/run/gate/go")
            assert reload.wait(60) == 0
        load.wait_for("release 2")
        result = result_of(load)
    assert result.answered == result.requests, result
    assert "Workers of gunicorn that serve: 2" in machine.run("sdsupervise", "status", "gunicorn", "--json").stdout
    assert "hook when_ready" in {entry["MESSAGE"] for entry in machine.journal(plain.unit, after=cursor)}
    machine.remove(GUNICORN_READY)
    lint = machine.run("sdsupervise", "unit", "lint", "gunicorn", check=False)
    assert (lint.returncode, f"error: {GUNICORN_READY} does not exist, " in lint.stdout) == (1, True)
    assert " --preload " in machine.run("sdsupervise", "unit", "wrap", "gunicorn").stdout
    install_gunicorn_ready(machine)
    again = machine.run("sdsupervise", "unit", "wrap", "--json", "gunicorn").stdout
    drop_in = f"/etc/systemd/system/{plain.unit}.d/zz-sdsupervise.conf"
    assert json.loads(again)["text"] == machine.read(drop_in)
    deploy(machine, 1, "")
    machine.run("sh", "-c", machine.run("sdsupervise", "unit", "unwrap", "gunicorn").stdout.strip().rpartition(": ")[2])
    assert machine.run("systemctl", "cat", plain.unit).stdout == before
    assert state(machine) == "active"
