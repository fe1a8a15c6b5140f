"""The instances of packaging/doc/coming-from.md start, and the page says of every section of ours what it is."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from sdsupervise.imports.supervisord_program import _KNOWN
from sdsupervise.instances.keys import FILE_KEYS
from tests.docs.documents import CLONE
from tests.support.fifos import Fifo
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(units=True, programs=True)

PAGE = (CLONE / "packaging" / "doc" / "coming-from.md").read_text()
INSTANCES = dict(re.findall(r"```toml\n# /etc/sdsupervise/(\w+)\.toml\n(.*?)```", PAGE, re.DOTALL))
LOOPS = "#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 0.2; done\n"
CODE = dict(re.findall(r"```\w+\n# (/srv/\S+)\n(.*?)```", PAGE, re.DOTALL))
# What runs in them.
FILES: Mapping[str, tuple[str, str]] = {
    "queue": ("/srv/mail/queue", LOOPS),
    "api": ("/srv/api/server", LOOPS.replace("while", "sdsupervise ready\nwhile")),
    "site": ("/srv/hello/current/hello.py", (CLONE / "units" / "example" / "hello.py").read_text()),
    "jobs": ("/srv/jobs/jobs.py", "import signal\nsignal.pause()\n"),
    "ticker": ("/srv/ticker/ticker.pl", "sleep 1 while 1;\n"),
}
TOLD_APART = {"app", "clock"}  # each has a test of its own
UWSGI = "/srv/app/current/venv/bin/uwsgi"
# The one from PyPI has one Python in it, and Debian's has Pythons as plugins.
UWSGI_OF_DEBIAN = '#!/bin/sh\nexec /usr/bin/uwsgi --plugin python3 "$@"\n'
WSGI = """\
def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        with open("/exchange/began", "w") as began:
            began.write("began")
        with open("/exchange/go") as go:
            go.readline()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"release RELEASE"]
"""
ASK = "import sys, urllib.request as r; print(r.urlopen('http://127.0.0.1:8000' + sys.argv[1]).read().decode())"


def test_all_are_started() -> None:
    """Each instance on the page has what it runs."""
    assert INSTANCES.keys() == FILES.keys() | TOLD_APART


@pytest.mark.parametrize("name", FILES)
def test_it_starts(machine: Machine, name: str) -> None:
    """It has no mistake, and runs as it stands on the page."""
    path, text = FILES[name]
    machine.write(path, text, mode=0o755)
    start(machine, name)
    stop(machine, name)


def test_uwsgi(machine: Machine) -> None:
    """With the uwsgi.ini of the page it serves. A reload brings the new release, and the old one ends its request."""
    began, go = Fifo(machine, "began"), Fifo(machine, "go")
    for release in ("1", "2"):
        machine.write("/srv/app/current/app.py", WSGI.replace("RELEASE", release))
        machine.write("/srv/app/current/app.ini", CODE["/srv/app/current/app.ini"])
        machine.write(UWSGI, UWSGI_OF_DEBIAN, mode=0o755)
        if release == "1":
            start(machine, "app")
            slow = machine.popen("python3", "-c", ASK, "/slow")
            assert began.read() == "began"
        else:
            machine.run("systemctl", "reload", "sdsupervise@app")
        assert machine.run("python3", "-c", ASK, "/").stdout == f"release {release}\n"
    go.write("go\n")
    assert slow.communicate(timeout=30)[0] == "release 1\n"
    stop(machine, "app")
    began.close()
    go.close()


def test_a_class(machine: Machine) -> None:
    """The class in Python that a class of App::Base becomes works, is reloaded, and is shut down."""
    machine.write("/srv/clock/clock.py", CODE["/srv/clock/clock.py"])
    start(machine, "clock")
    machine.run("systemctl", "reload", "sdsupervise@clock")
    stop(machine, "clock")
    said = [entry["MESSAGE"] for entry in machine.journal(None, "_SYSTEMD_UNIT=sdsupervise@clock.service")]
    assert said.count("tick") >= 2 and said.count("bye") == 2


def start(machine: Machine, name: str) -> None:
    """Write an instance as it stands on the page, check it, and start it."""
    machine.write(f"/etc/sdsupervise/{name}.toml", INSTANCES[name])
    assert machine.run("sdsupervise", "check", name).stdout == f"{name}: ok\n"
    machine.run("systemctl", "start", f"sdsupervise@{name}")
    assert machine.run("systemctl", "is-active", f"sdsupervise@{name}").stdout == "active\n"


def stop(machine: Machine, name: str) -> None:
    machine.run("systemctl", "stop", f"sdsupervise@{name}")
    assert machine.show(f"sdsupervise@{name}", "Result")["Result"] == "success"


def test_keys() -> None:
    """What a table says is a key of an instance is one, and every option of a program of supervisord has its row."""
    here = [
        row.split("|")[2] for row in PAGE.replace(r"\|", "").splitlines() if row.startswith("| ") and "---" not in row
    ]
    words = {word for cell in here for word in re.findall(r"`([a-z]+_[a-z_]+)(?: = [^`]*)?`", cell)}
    others = {"ready_to_take_over", "ping_supervisor"}
    assert words - FILE_KEYS.keys() - others == set()
    section = PAGE.partition("## supervisord")[2].partition("\n## ")[0]
    left = {option for option in _KNOWN if f"`{option}" not in section and f", {option}" not in section}
    assert {option for option in left if not option.startswith(("std", "redirect_", "process_name", "numprocs_"))} == {
        "serverurl"
    }
