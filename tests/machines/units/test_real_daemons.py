"""Daemons under their units from Debian, and workers of queues, live their story on a real systemd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.load.environment import PLACE
from tests.machines.units.real import BROKEN_PYTHON, Real, Site, live
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(units=True, programs=True, recipes=True)

HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend hello
    bind BIND
    http-request return status 200 content-type text/plain string "release %N%\\n"
"""
FPM = (
    "[www]\nuser = www-data\nlisten = /run/php/php%PHP%-fpm.sock\npm = static\npm.max_children = 4\n"
    "env[RELEASE] = %N%\n"
)
PHP = "<?php echo 'release ', getenv('RELEASE'), \"\\n\";\n"
REDIS = 'bind 127.0.0.1\nsave ""\ndir /var/lib/redis\nlogfile ""\nmaxclients 100%N%\n'
MEMCACHED = "-m 64\n-p 11211\n-u memcache\n-l 127.0.0.1\n-P /run/memcached/memcached.pid\n-c 100%N%\n"
MOSQUITTO = "listener 1883 127.0.0.1\nallow_anonymous true\n"
TASKS = """\
import subprocess

from celery import Celery
from celery.signals import worker_ready

app = Celery("tasks", broker="redis://127.0.0.1", backend="redis://127.0.0.1")
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1)

@worker_ready.connect
def tell(**_):
    subprocess.call(["sdsupervise", "ready"])

@app.task
def work():
    return "release %N%"
"""
SETTINGS = """\
import subprocess

REDIS_URL = "redis://127.0.0.1"
subprocess.call(["sdsupervise", "ready"])
"""
JOBS = {"settings.py": SETTINGS, "tasks.py": 'def work():\n    return "release %N%"\n'}

REAL = (
    Real(
        "php%PHP%-fpm",
        {"/etc/php/%PHP%/fpm/pool.d/www.conf": FPM, "/srv/hello/index.php": PHP},
        "[www]\npm = nonsense\n",
        "exited with status 78 after SIGUSR2",
        protocol="fastcgi",
        address="/run/php/php%PHP%-fpm.sock",
        loses="under way",
        note="--reload-signal SIGUSR2: ",
        afterwards="nobody",
    ),
    Real(
        "haproxy",
        {"/etc/haproxy/haproxy.cfg": HAPROXY},
        "frontend hello\n    nonsense\n",
        "nonsense",
        listen="http=127.0.0.1:8000",
        plain=("bind 127.0.0.1:8000", 'bind "fd@${HTTP}"'),
    ),
    Real(
        "celery",
        {"tasks.py": TASKS},
        BROKEN_PYTHON,
        "requsts",
        "Type=notify\nNotifyAccess=all\n"
        f"ExecStart={PLACE}/bin/celery --app tasks worker --concurrency 1 --without-mingle --without-gossip",
        protocol="celery",
        # A worker that must stop may just have taken a task from redis, which gives it away again after an hour.
        loses="under way",
        note="while the old worker finishes its tasks, the new one begins others",
        address="127.0.0.1:6379",
        needs_redis=True,
        python=f"{PLACE}/bin/python3",
    ),
    Real(
        "rq",
        JOBS,
        BROKEN_PYTHON,
        "requsts",
        "Type=notify\nNotifyAccess=all\nKillMode=mixed\nExecReload=/bin/kill -s HUP $MAINPID\n"
        "ExecStop=/bin/kill -s TERM $MAINPID\n"
        "ExecStart=/usr/bin/rq worker -c settings",
        protocol="rq",
        loses="under way",  # rq's signal handler may stop a worker that has just taken a job from redis
        address="127.0.0.1:6379",
        needs_redis=True,
    ),
    Real(
        "memcached",
        {"/etc/memcached.conf": MEMCACHED},
        "--nonsense\n",
        "Illegal argument",
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
        "",
        protocol="mqtt",
        address="127.0.0.1:1883",
        note="--reload-signal SIGHUP: ",
        afterwards="goes on",
        shows_release=False,
    ),
    Real(
        "redis-server",
        {"/etc/redis/redis.conf": REDIS},
        "nonsense\n",
        "nonsense",
        protocol="redis",
        address="127.0.0.1:6379",
        loses="in a gap",
        note="exclusive: the old process stops before the new one starts",
        afterwards="nobody",
    ),
)


@pytest.fixture
def site(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Site]:
    """One of the programs, not started."""
    site = Site(machine, request.param)
    yield site
    site.close()


@pytest.mark.parametrize("site", REAL, ids=[real.name.replace("%PHP%", "") for real in REAL], indirect=True)
def test_its_story(site: Site) -> None:
    """From the plain unit through reloads and kills to the plain unit again."""
    live(site)
