"""Servers of HTTP, each under the unit of its documentation, live their story on a real systemd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.load.environment import PLACE
from tests.load.ground import Program
from tests.machines.units.real import BROKEN_PYTHON, Real, Site, live
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(units=True, programs=True, recipes=True)

HELLO = {"hello.py": Program("hello").code(1).replace("RELEASE = 1\n", "RELEASE = %N%\n")}
TELL = """
if "NOTIFY_SOCKET" in os.environ:
    subprocess.call(["sdsupervise", "ready"])
"""
GUNICORN = "Type=notify\nExecReload=/bin/kill -s HUP $MAINPID\nKillMode=mixed\nTimeoutStopSec=5\n"
GUNICORN += f"ExecStart={PLACE}/bin/gunicorn --workers 2 {{}} hello:application"
NOTIFY = "Type=notify\nNotifyAccess=all\n"
ASGI = f"{NOTIFY}ExecStart={PLACE}/bin/"
NODE = """\
const ready = () => require("child_process").spawnSync("sdsupervise", ["ready"]);
require("http").createServer((request, response) => response.end("release %N%\\n")).listen(8000, "127.0.0.1", ready);
"""
PUMA = 'system("sdsupervise ready") if ENV["NOTIFY_SOCKET"]\n'
PUMA += 'run lambda { |env| [200, {"Content-Type" => "text/plain"}, ["release %N%\\n"]] }\n'
REAL = (
    Real("gunicorn", HELLO, BROKEN_PYTHON, "requsts", GUNICORN.format("--bind 127.0.0.1:8000")),
    Real(
        "gunicorn-of-debian",
        {**HELLO, "gunicorn.conf.py": "bind = '127.0.0.1:8000'\nworkers = 2\n"},
        BROKEN_PYTHON,
        "requsts",
        GUNICORN.format("").replace(f"{PLACE}/bin/gunicorn --workers 2", "/usr/bin/gunicorn"),
        note="--config /usr/share/sdsupervise/gunicorn_ready.py added",
    ),
    Real(
        "gunicorn-unix",
        HELLO,
        BROKEN_PYTHON,
        "requsts",
        GUNICORN.format("--bind unix:/run/hello/http.sock"),
        address="/run/hello/http.sock",
    ),
    Real(
        "gunicorn-activated",
        HELLO,
        BROKEN_PYTHON,
        "requsts",
        GUNICORN.format(""),
        socket="/run/hello.sock",
        address="/run/hello.sock",
    ),
    Real(
        "uvicorn",
        HELLO,
        BROKEN_PYTHON,
        "requsts",
        f"{ASGI}uvicorn --host 127.0.0.1 --port 8000 --no-access-log hello:app",
    ),
    Real("hypercorn", HELLO, BROKEN_PYTHON, "requsts", f"{ASGI}hypercorn --bind 127.0.0.1:8000 --workers 0 hello:app"),
    Real(
        "daphne",
        {"hello.py": HELLO["hello.py"] + TELL},
        BROKEN_PYTHON,
        "requsts",
        f"{NOTIFY}ExecStart=/usr/bin/daphne -b 127.0.0.1 -p 8000 hello:app",
        loses="under way",
        note="daphne ends the requests that it works on when it stops, so a reload cuts those off",
    ),
    Real(
        "uwsgi",
        HELLO,
        BROKEN_PYTHON,
        "requsts",
        "Type=notify\nKillSignal=SIGQUIT\n"
        "ExecStart=/usr/bin/uwsgi --plugin python3 --http-socket 127.0.0.1:8000 --master -p 2 -w hello",
    ),
    Real(
        "puma",
        {"config.ru": PUMA},
        "raise(\n",
        "config.ru",
        f"{NOTIFY}ExecStart=/usr/bin/puma -e production -b tcp://127.0.0.1:8000 /srv/hello/current/config.ru",
    ),
    Real(
        "node",
        {"server.js": NODE},
        "throw new Error('broken');\n",
        "broken",
        f"{NOTIFY}ExecStart=/usr/bin/node server.js",
        loses="in a gap",
        note="a Node server opens its own socket, so each reload refuses clients for the time of one stop",
    ),
)


@pytest.fixture
def site(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Site]:
    """One of the programs, not started."""
    site = Site(machine, request.param)
    yield site
    site.close()


@pytest.mark.parametrize("site", REAL, ids=[real.name for real in REAL], indirect=True)
def test_its_story(site: Site) -> None:
    """From the plain unit through reloads and kills to the plain unit again."""
    live(site)
