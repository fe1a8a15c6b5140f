"""The instances on the page of recipes, as they stand, with the real programs: good and broken code, reload, stop."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from tests.load.ground import EXAMPLE, Program, calling, result_of, under_load
from tests.support.fixtures import Equipment
from tests.support.machine import Machine
from tests.support.units import install_gunicorn_ready

MACHINE = Equipment(units=True, programs=True, recipes=True)

RELOADS = 3
LIMIT_SECONDS = 60


class Recipe(NamedTuple):
    """An instance of units/example and the file that is deployed for it."""

    name: str
    file: str
    broken: str = "import requsts\n"
    path: str = ""
    """Of the file in a release, if it is not at the top."""

    @property
    def unit(self) -> str:
        return f"sdsupervise@{self.name}.service"

    @property
    def text(self) -> str:
        """The file of the instance."""
        return (EXAMPLE / f"{self.name}.toml").read_text()

    @property
    def home(self) -> str:
        """Where its releases are."""
        (found,) = re.findall(r'^directory = "(.*)/current"$', self.text, re.MULTILINE)
        return str(found)

    def deploy(self, machine: Machine, release: int, *, broken: bool = False, before: str = "") -> None:
        """A release, and the symlink to it."""
        code = (EXAMPLE / self.file).read_text()
        code = re.sub(r"\bRELEASE = 1\b", f"RELEASE = {release}", code)
        place = f"{self.home}/releases/{release}"
        machine.write(f"{place}/{self.path or self.file}", self.broken if broken else before + code)
        if self.name == "django":
            for path, text in SITE.items():
                machine.write(f"{place}/{path}", text)
        machine.symlink(f"releases/{release}", f"{self.home}/current")


SITE = {
    "manage.py": (
        "import os\n\nfrom django.core.management import execute_from_command_line\n\n"
        'os.environ["DJANGO_SETTINGS_MODULE"] = "settings"\nexecute_from_command_line()\n'
    ),
    "settings.py": 'INSTALLED_APPS = ["yourapp"]\nSECRET_KEY = "for a test"\n',
    **{f"yourapp/{path}__init__.py": "" for path in ("", "management/", "management/commands/")},
}

HTTP = (
    Recipe("node", "hello.js", "require('requsts');\n"),
    Recipe("puma", "config.ru", "require 'requsts'\n"),
    Recipe("uwsgi", "hello.py"),
    Recipe("daphne", "hello.py"),
    Recipe("slow", "hello.py"),
)
BEAT = Recipe("beat", "beat.py")
RQ = Recipe("rq", "jobs.py")
SIDEKIQ = Recipe("sidekiq", "sidekiq.rb", "require 'requsts'\n")
DJANGO = Recipe("django", "poll.py", path="yourapp/management/commands/poll.py")


@contextmanager
def running(machine: Machine, recipe: Recipe, *, before: str = "") -> Iterator[None]:
    """Release 1, started; stopped at the end, and nothing is left."""
    install_gunicorn_ready(machine)
    machine.write(f"/etc/sdsupervise/{recipe.name}.toml", recipe.text)
    recipe.deploy(machine, 1, before=before)
    try:
        machine.run("sdsupervise", "check", recipe.name)
        machine.run("systemctl", "start", recipe.unit)
        yield
        machine.run("systemctl", "stop", recipe.unit)
        shown = machine.show(recipe.unit, "ActiveState", "Result")
        assert shown == {"ActiveState": "inactive", "Result": "success"}
        assert machine.processes(recipe.unit) == []
    finally:
        machine.run("systemctl", "stop", recipe.unit, check=False)
        machine.run("systemctl", "reset-failed", recipe.unit, check=False)


def reload(machine: Machine, recipe: Recipe) -> bool:
    """Whether a reload succeeds."""
    return machine.run("systemctl", "reload", recipe.unit, check=False).returncode == 0


def assert_refuses_broken_code(machine: Machine, recipe: Recipe, release: int) -> None:
    """A reload to it fails, and nothing has happened to the processes that work."""
    before = machine.show(recipe.unit, "MainPID")
    recipe.deploy(machine, release, broken=True)
    assert not reload(machine, recipe)
    assert machine.show(recipe.unit, "MainPID") == before


@pytest.mark.parametrize("mode", ["close", "keep-alive"])
@pytest.mark.parametrize("recipe", HTTP, ids=lambda recipe: recipe.name)
def test_http(machine: Machine, recipe: Recipe, mode: str) -> None:
    """Good reloads and one to broken code, while clients ask all the time: no request fails."""
    before = "import time; time.sleep(1)\n" if recipe.name == "slow" else ""
    with running(machine, recipe, before=before):
        with under_load(machine, Program(recipe.name), mode, rate=100) as load:
            for release in range(2, RELOADS + 2):
                recipe.deploy(machine, release, before=before)
                machine.run("systemctl", "reload", recipe.unit)
                load.wait_for(f"release {release}")
            assert_refuses_broken_code(machine, recipe, RELOADS + 2)
            result = result_of(load)
        print(recipe.name, result)
    assert result.failed == 0, result.failures
    assert list(result.bodies) == [f"release {release}" for release in range(1, RELOADS + 2)]


def test_django(machine: Machine) -> None:
    """The new release says nothing before the old one has finished, and stopped."""
    with running(machine, DJANGO):
        for release in (2, 3):
            journal = machine.follow_journal(DJANGO.unit)
            journal.wait_for(f"release {release - 1} polls")
            DJANGO.deploy(machine, release)
            machine.run("systemctl", "reload", DJANGO.unit)
        assert_refuses_broken_code(machine, DJANGO, 4)
        machine.follow_journal(DJANGO.unit).wait_for("release 3 polls")
    said = re.findall(r"release (\d) (polls|stops)", "\n".join(e["MESSAGE"] for e in machine.journal(DJANGO.unit)))
    assert [release for release, _ in said] == sorted(release for release, _ in said)
    assert [release for release, what in said if what == "stops"] == ["1", "2", "3"]


@pytest.fixture
def broker(machine: Machine) -> Iterator[None]:
    """Debian's redis, without a file."""
    server = ("redis-server", "--save", "", "--supervised", "systemd")
    machine.run("systemd-run", "--unit=broker", "--property=Type=notify", "--collect", *server)
    yield
    machine.run("systemctl", "stop", "broker")


# Takes the messages that beat sends, as a worker would, and writes what release sent them.
LISTENER = """\
import base64, json, redis, select, sys
queue, seen = redis.Redis("127.0.0.1"), []
while not select.select([sys.stdin], [], [], 0)[0]:
    found = queue.blpop("celery", timeout=1)
    if found:
        release = json.loads(base64.b64decode(json.loads(found[1])["body"]))[0][0]
        seen.append(release)
        if seen.count(release) == 1:
            print("first", release, flush=True)
print(json.dumps(seen))
"""


@pytest.mark.usefixtures("broker")
def test_beat(machine: Machine) -> None:
    """One beat at a time: what the releases send does not mix."""
    machine.run("install", "-d", "-o", "daemon", "/var/lib/beat")
    with running(machine, BEAT), calling(machine, "python3", "-c", LISTENER) as caller:
        for release in (2, 3):
            BEAT.deploy(machine, release)
            machine.run("systemctl", "reload", BEAT.unit)
            caller.wait_for(f"release {release}")
        assert_refuses_broken_code(machine, BEAT, 4)
        sent = re.findall(r"release \d", caller.end())
    assert sent == sorted(sent)


CALLER = """\
import select, sys, time
sys.path.insert(0, "/srv/rq/releases/1")
from redis import Redis
from rq import Queue
queue, jobs, seen = Queue(connection=Redis("127.0.0.1")), [], set()
while not select.select([sys.stdin], [], [], 0.1)[0]:
    jobs.append(queue.enqueue("jobs.work", len(jobs)))
    for job in jobs:
        if job.result and (text := job.result.partition(" in ")[2]) not in seen:
            seen.add(text)
            print("first", text, flush=True)
deadline = time.monotonic() + {limit}
while missing := [job for job in jobs if not job.result]:
    assert time.monotonic() < deadline, missing
print(len(jobs))
"""


@pytest.mark.usefixtures("broker")
def test_rq(machine: Machine) -> None:
    """No job is lost, and each release does some."""
    with running(machine, RQ), calling(machine, "python3", "-c", CALLER.format(limit=LIMIT_SECONDS)) as caller:
        for release in (2, 3):
            RQ.deploy(machine, release)
            machine.run("systemctl", "reload", RQ.unit)
            caller.wait_for(f"release {release}")
        assert_refuses_broken_code(machine, RQ, 4)
        assert int(caller.end()) > 0


ENQUEUER = """\
import json, redis, select, sys, time
queue, number, seen = redis.Redis("127.0.0.1"), 0, set()
done = lambda: [line.decode() for line in queue.lrange("done", 0, -1)]
while not select.select([sys.stdin], [], [], 0.1)[0]:
    job = {"class": "Work", "args": [number], "queue": "default", "jid": f"{number:024}", "retry": True}
    queue.sadd("queues", "default")
    queue.lpush("queue:default", json.dumps({**job, "created_at": time.time(), "enqueued_at": time.time()}))
    number += 1
    for release in sorted({line.partition(" in ")[2] for line in done()} - seen):
        seen.add(release)
        print("first", release, flush=True)
deadline = time.monotonic() + %d
while len(done()) < number:
    assert time.monotonic() < deadline, done()
print(json.dumps([line.partition(" ")[0] for line in done()]))
"""


@pytest.mark.usefixtures("broker")
def test_sidekiq(machine: Machine) -> None:
    """Each job is done once. A process that is to stop first takes no more jobs, and later ends."""
    with running(machine, SIDEKIQ), calling(machine, "python3", "-c", ENQUEUER % LIMIT_SECONDS) as caller:
        for release in (2, 3):
            SIDEKIQ.deploy(machine, release)
            machine.run("systemctl", "reload", SIDEKIQ.unit)
            caller.wait_for(f"release {release}")
        assert_refuses_broken_code(machine, SIDEKIQ, 4)
        done = json.loads(caller.end())
    assert sorted(done, key=int) == [str(number) for number in range(len(done))]
    said = [entry["MESSAGE"] for entry in machine.journal(SIDEKIQ.unit)]
    assert any("no longer accepting new work" in line for line in said)
