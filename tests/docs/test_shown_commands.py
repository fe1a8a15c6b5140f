"""Every command that a document, a unit's comment or `--help` shows is run: here, as it stands, or by the test that is
named; or it stands in a list of those that cannot be, with the reason.

What is shown without its operand (`systemctl reload`), or with one to be replaced (NAME), is run as the list has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.documents import CLONE, prepare
from tests.docs.shown_commands import all_of_them, texts
from tests.docs.shown_commands import shown as shown_in
from tests.load.ground import shown
from tests.support.fixtures import booted
from tests.support.machine import Machine

SHOWN = all_of_them()
INSTANCE = "sdsupervise@counter"
# What scripts below use beside what is shown.
FUNCTIONS = """
cd /srv/example; PATH=$PATH:/srv/hello/venv/bin; export LC_ALL=C.UTF-8
get() { python3 -c 'import sys, urllib.request as r; print(r.urlopen("http://" + sys.argv[1]).read().decode())' $1; }
until_so() { until "$@"; do sleep 0.1; done 2>/dev/null; }
has() { word=$1; shift; "$@" | grep -aq -- "$word"; }
answers() { (exec 3<>/dev/tcp/127.0.0.1/$1) 2>/dev/null; }
"""
# A command that goes on until it is stopped: until it serves, which another command tells.
SERVES = "exec >/tmp/log 2>&1 </dev/null; {command} & pid=$!\nuntil_so {serves}; kill $pid; wait $pid"
SWITCHED = "systemctl stop gunicorn && systemctl daemon-reload && systemctl start gunicorn"  # as it says itself
STATUS = "sdsupervise status --pid-file /tmp/counter.pid"


class Run(NamedTuple):
    """How commands are run, in bash; {command} is the one that is shown, or {0}, {1} … where there are several."""

    script: str = "{command}"
    operand: str = ""  # what is run instead, where what is shown is no whole command


def served(serves: str, operand: str = "") -> Run:
    """It is stopped when it serves, and must end well then."""
    return Run(SERVES.replace("{serves}", serves), operand)


def of(operand: str) -> Run:
    """What is shown is named there, and run with an operand."""
    return Run(operand=operand)


def wait_for(generation: int) -> str:
    return f"until_so has 'generation {generation} .*serving' {STATUS}\n"


# In this order, in one machine: units/example is /srv/example, counter runs as an instance.
HERE: Mapping[str | tuple[str, ...], Run] = {
    "sdsupervise --version": Run(),
    "sdsupervise COMMAND --help": of("sdsupervise status --help"),
    "sdsupervise run TARGET --help": of("sdsupervise run counter.py --help"),
    "sdsupervise run": of("sdsupervise run --help"),
    "sdsupervise unit": of("sdsupervise unit --help"),
    "sdsupervise import": of("sdsupervise import --help"),
    "sdsupervise config --example": Run(),
    "python3 -m compileall --invalidation-mode checked-hash": of(
        "python3 -m compileall --invalidation-mode checked-hash /srv/example"
    ),
    # A supervisor of one's own.
    (
        "sdsupervise run --pid-file /tmp/counter.pid counter.py:Counter --state /tmp/last &",
        "kill -USR2 $(cat /tmp/counter.pid)",
        "sdsupervise status --pid-file /tmp/counter.pid",
        "kill $(cat /tmp/counter.pid)",
        "kill -USR2",
    ): Run(
        f"exec >/tmp/log 2>&1 </dev/null\n{{0}}\n{wait_for(1)}{{1}}\n{wait_for(2)}{{2}}\n"
        f"{{4}} $(cat /tmp/counter.pid)\n{wait_for(3)}{{3}}\nwhile {STATUS}; do sleep 0.1; done; true"
    ),
    "chmod +x counter.py && ./counter.py --no-fork": Run(
        "exec >/tmp/log 2>&1 </dev/null; {command} &\nuntil_so answers 7000; kill $(cat /run/Counter.pid); wait $!"
    ),
    "sdsupervise run counter.py:Counter": served("answers 7000"),
    "sdsupervise run package.module:Class": served("answers 7000", "sdsupervise run company.counter:Counter"),
    # Programs of others.
    "sdsupervise run --handover overlap --listen http=127.0.0.1:8000 -- gunicorn --preload app:wsgi": served(
        "has wsgi get 127.0.0.1:8000"
    ),
    "hypercorn --bind fd://{http}": served(
        "has release get 127.0.0.1:8000",
        "sdsupervise run --listen http=127.0.0.1:8000 --ready-after 1 "
        "-- hypercorn --bind fd://{http} --workers 0 hello:app",
    ),
    ("sdsupervise ready", "sdsupervise ping"): served(
        "test -e /tmp/pinged",
        "sdsupervise run --pid-file /tmp/sh.pid -- sh -c '{0} && {1} && touch /tmp/pinged && exec sleep 60'",
    ),
    "sdsupervise unit wrap": of("sdsupervise unit wrap gunicorn.service"),
    "sdsupervise unit wrap UNIT": of("sdsupervise unit wrap gunicorn.service"),
    "sdsupervise unit wrap gunicorn.service": Run("has ExecStart=/usr/bin/sdsupervise {command}"),
    (
        "sdsupervise unit wrap --write gunicorn.service",
        "sdsupervise unit lint",
        "sdsupervise unit unwrap gunicorn.service",
        "sdsupervise unit wrap --write",
        "sdsupervise unit unwrap UNIT",
    ): Run(
        f"{{0}} && {SWITCHED} && has wsgi get 127.0.0.1:8000 && has serving sdsupervise status gunicorn && {{1}} && "
        f"{{2}} && {SWITCHED} && {{3}} gunicorn && sdsupervise unit unwrap gunicorn && {SWITCHED}"
    ),
    "sdsupervise unit wrap --write sdsupervise@NAME": Run(
        "sed '$a user = \"daemon\"' /etc/sdsupervise/counter.toml >/etc/sdsupervise/fit.toml\n"
        "{command} && grep User=daemon /etc/systemd/system/sdsupervise@fit.service.d/*; rm /etc/sdsupervise/fit.toml",
        "sdsupervise unit wrap --write sdsupervise@fit",
    ),
    "sdsupervise check": Run(),
    # An instance, from here on.
    "systemctl enable --now sdsupervise@NAME": of(f"systemctl enable --now {INSTANCE}"),
    "nc 127.0.0.1 7000": Run("has release cat </dev/tcp/127.0.0.1/7000"),  # which needs no package
    "sdsupervise config counter": Run(),
    "sdsupervise list": Run("has counter {command}"),
    "sdsupervise status": Run("has counter {command}"),
    "sdsupervise status --json": Run("has counter {command}"),
    "systemctl status": of(f"systemctl status {INSTANCE}"),
    "systemctl daemon-reload": Run(),
    "systemctl reload": of(f"systemctl reload {INSTANCE}"),
    "sdsupervise reload": Run("RUNTIME_DIRECTORY=/run/sdsupervise/counter {command}"),
    "sdsupervise reload --outdated": Run("echo '# changed' >>counter.py; has RELOADED {command}"),
    "sdsupervise scale": of("sdsupervise scale --help"),
    "kill -9": Run(
        f"{{command}} $(systemctl show -P MainPID {INSTANCE}); until_so has serving sdsupervise status counter"
    ),
    "systemctl kill": of(f"systemctl kill -s USR2 --kill-whom=main {INSTANCE}"),
    "systemctl kill --kill-whom=main": Run(f"{{command}} -s USR2 {INSTANCE}"),
    "journalctl -u sdsupervise@counter SDSUPERVISE_EVENT=worker-crashed": Run(
        "until_so has serving sdsupervise status counter\n"
        "kill -9 $(sdsupervise status --json counter | python3 -c "
        '\'import json, sys; print(json.load(sys.stdin)["workers"][0]["pid"])\')\n'
        "until_so has SIGKILL {command}"
    ),
    "journalctl -u sdsupervise@NAME": Run(f"has serves journalctl -u {INSTANCE}"),
    "journalctl _PID=N": of("journalctl _PID=1"),
    "journalctl --update-catalog": Run(),
    "journalctl -x": Run("has 'The service serves' {command}"),
    "systemctl daemon-reload && systemctl restart sdsupervise@NAME": of(
        f"systemctl daemon-reload && systemctl restart {INSTANCE}"
    ),
    "systemctl restart": of(f"systemctl restart {INSTANCE}"),
    "systemctl stop sdsupervise.target": Run(f"{{command}}; ! systemctl is-active {INSTANCE}"),
    "systemctl start": of(f"systemctl start {INSTANCE}"),
    ("sdsupervise check web && systemctl enable --now sdsupervise@web", "sdsupervise scale web 6"): Run(
        "{0} && get 127.0.0.1:8081 && has '6 workers' {1}"
    ),
}

OF_INSTANCE = [*HERE][[*HERE].index("systemctl enable --now sdsupervise@NAME") :]

# Command: a file of tests, and what in it shows that it is run there.
THERE: Mapping[str, tuple[str, str]] = {
    "python -m sdsupervise": ("tests/machines/test_command.py", "/usr/bin/python3 -m sdsupervise"),
    "make demo": ("tests/docs/test_demo.py", '"-m", "tests.demo"'),
    "make bench": ("tests/docs/test_bench.py", "tests.bench"),
    "make deb": ("tests/packages/built.py", "packaging"),
    "make rpm": ("tests/packages/test_rpm.py", 'built("rpm"'),
    "make deb && apt install ./dist/sdsupervise_*_all.deb": ("tests/packages/test_deb.py", "dpkg"),
    "systemd-analyze security": ("tests/machines/units/test_template_sandbox.py", '"systemd-analyze", "security"'),
    "gunicorn --config yours.py --config /usr/share/sdsupervise/gunicorn_ready.py app:wsgi": (
        "tests/load/test_gunicorn_ready.py",
        "--config /srv/hello/yours.py",
    ),
    "sdsupervise check NAME": ("tests/machines/test_recipes.py", '"sdsupervise", "check"'),
    "man sdsupervise": ("tests/docs/test_pages.py", 'pages.run("man"'),
    "man sdsupervise@.service": ("tests/docs/test_pages.py", 'pages.run("man"'),
    "man sdsupervise-protocol": ("tests/docs/test_pages.py", 'pages.run("man"'),
    "varlinkctl introspect /run/sdsupervise/counter/control io.sdsupervise": (
        "tests/packages/test_varlinkctl.py",
        '"introspect", PLACE, "io.sdsupervise"',
    ),
    "varlinkctl introspect control io.sdsupervise": (
        "tests/packages/test_varlinkctl.py",
        '"introspect", PLACE, "io.sdsupervise"',
    ),
    "varlinkctl call control io.sdsupervise.Status '{}'": (
        "tests/packages/test_varlinkctl.py",
        '"call", "-j", PLACE, "io.sdsupervise.Status", "{}"',
    ),
    "cd DIR && COMMAND": ("tests/unit/test_import_procfile.py", '"cd src && exec node server.js"'),
    "sdsupervise import supervisord /etc/supervisor/supervisord.conf": (
        "tests/machines/test_import.py",
        '"import", "supervisord", "/etc/supervisor/supervisord.conf"',
    ),
    "sdsupervise import supervisord /etc/supervisor/supervisord.conf --write": (
        "tests/machines/test_import.py",
        '*command, "--write"',
    ),
    "sdsupervise import procfile /srv/shop/Procfile --prefix shop-": (
        "tests/machines/test_import.py",
        '"import", "procfile", "/srv/shop/Procfile", "--prefix", "shop-"',
    ),
    "sdsupervise import procfile /srv/shop/Procfile --prefix shop- --write": (
        "tests/machines/test_import.py",
        '"--prefix", "shop-", "--write"',
    ),
    "sdsupervise run NAME": ("tests/machines/test_trust.py", '"sdsupervise", "run", *words'),
    "sdsupervise run FILE.py": ("tests/processes/test_logging.py", 'SDSUPERVISE, "run", "current/service.py"'),
    "sdsupervise metrics": ("tests/processes/test_metrics.py", '"metrics"'),
    "sdsupervise metrics --output /var/lib/prometheus/node-exporter/sdsupervise.prom": (
        "tests/processes/test_metrics.py",
        '"--output"',
    ),
    "python -m tests.load": ("tests/load/test_reload.py", "tests.load"),
    "curl --local-port 61000-61999": ("tests/processes/test_before_commit.py", "words = shown_on(page)"),
    "curl --unix-socket /run/myapp/http.sock.next http://localhost/health": (
        "tests/processes/test_before_commit.py",
        '"--unix-socket", f"{path}.next"',
    ),
    "systemctl enable --now sdsupervise@NAME.socket": (
        "tests/machines/units/test_templates.py",
        "sdsupervise@web.socket",
    ),
    "rm /run/sdsupervise/NAME": ("tests/packages/matrix/rows.py", "/run/sdsupervise/"),
}

CANNOT: Mapping[str, str] = {
    "make test": "it is what runs this",
    "make release": "it tags a commit; tests/packages/test_release.py runs it in a repository of its own",
    "make release TESTED=yes": "the same",
    "make matrix": "it boots every Debian there is, for minutes; what it runs there is tests/packages/matrix",
    "make matrix SUITES='bookworm trixie bookworm-backports sid'": "the same",
    "systemctl disable --now supervisor": "no machine of the tests has supervisord",
    "systemctl edit": "it opens an editor on a terminal",
    "systemctl edit sdsupervise@NAME": "it opens an editor on a terminal",
    "systemctl edit sdsupervise@NAME.socket": "it opens an editor on a terminal",
    "cd /run/sdsupervise/ticker": "it is where the commands after it are typed, for which see varlinkctl",
    "apt-get install --no-install-recommends python3-venv python3-psutil python3-sdnotify python3-systemd": (
        "it needs the network"
    ),
    "apt-get install gcc libc6-dev pkg-config libsystemd-dev python3-dev": "it needs the network",
    "python3 -m venv --system-site-packages /opt/sdsupervise && /opt/sdsupervise/bin/pip install sdsupervise": (
        "it installs what PyPI has; tests/packages/test_wheel.py installs the wheel of this tree so"
    ),
    "pip install --no-deps": "a flag that is named; tests/packages/test_wheel.py uses it",
    "docker kill -s USR2": "it needs an engine; tests/processes/test_container.py signals pid 1 of a container",
    "systemctl kill --kill-whom=main --signal=USR1 nginx": "an example; tests/machines/test_signals.py does so",
    "rpm --nodeps": "a flag that is named; it needs an RPM system",
    "dnf builddep sdsupervise.spec && rpmbuild --rebuild sdsupervise-*.src.rpm": "it needs Fedora",
    "mock sdsupervise-*.src.rpm": "it needs Fedora",
    "dnf install ./sdsupervise-*.noarch.rpm": "it needs Fedora",
    "systemctl enable --now sdsupervise@NAME; dnf remove sdsupervise; systemctl status 'sdsupervise@*'": (
        "it needs Fedora"
    ),
    "fedora-review -n sdsupervise": "it needs Fedora",
    "ausearch -m AVC -ts recent": "it needs SELinux",
    "setenforce 1": "it needs SELinux",
}

APP = """\
def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"wsgi\\n"]
"""
GUNICORN = """\
[Service]
ExecStart=/srv/hello/venv/bin/gunicorn --bind 127.0.0.1:8000 app:wsgi
WorkingDirectory=/srv/example
"""


def test_every_command_is_accounted_for() -> None:
    """Each that is shown is in one of the lists; and nothing else is."""
    here = [command for commands in HERE for command in ([commands] if isinstance(commands, str) else commands)]
    known = [*here, *THERE, *CANNOT]
    assert len(known) == len(set(known))
    missing = {command: where for command, where in SHOWN.items() if command not in known}
    assert missing == {}, "run it in HERE, name the test that does in THERE, or say in CANNOT why none can"
    assert sorted(set(known) - set(SHOWN)) == []


@pytest.mark.parametrize("command", THERE)
def test_what_is_run_elsewhere(command: str) -> None:
    """The test that is named is there, and has what shows it."""
    file, sign = THERE[command]
    assert sign in (CLONE / file).read_text()


def test_commands_are_found() -> None:
    """In blocks and beside them, in each kind of document; those of sessions are run where they stand."""
    session = "<!-- run -->\n```console\n# systemctl a b\nc\n```\n"
    markdown = f"{session}\n```console\n$ x y \\\n> z   # so\n```\n`kill -9` `workers = 4`"
    assert list(shown_in("README.md", markdown)) == ["x y \\ z", "kill -9"]
    session = ".. run\n\n::\n\n  # systemctl a b\n\nx\n\n"
    page = f"{session}::\n\n  # kill 5\n  out\n\n**systemctl edit sdsupervise@**\\ *NAME*\n"
    assert list(shown_in("x.rst", page)) == ["kill 5", "systemctl edit sdsupervise@NAME"]
    unit = "# Try `systemctl\n# start x`; then\n#     kill 5\n[Unit]\nExecStart=kill 6\n"
    assert list(shown_in("x.service", unit)) == ["systemctl start x", "kill 5"]
    assert list(shown_in("x --help", "see 'sdsupervise run --help'")) == ["sdsupervise run --help"]
    assert {name for name, _ in texts()} >= {"README.md", "sdsupervise.1.rst", "sdsupervise reload --help"}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Where sdsupervise and its templates are installed, and other people's programs in a virtual environment."""
    for machine in booted(shown()):
        prepare(machine)
        for path in (CLONE / "units" / "example").iterdir():
            machine.write(f"/srv/example/{path.name}", path.read_text(), mode=path.stat().st_mode & 0o777)
        machine.write("/srv/example/company/__init__.py", "")
        machine.write("/srv/example/company/counter.py", (CLONE / "units/example/counter.py").read_text())
        machine.write("/srv/example/app.py", APP)
        machine.write(
            "/usr/lib/systemd/catalog/sdsupervise.catalog", Path(CLONE, "units/sdsupervise.catalog").read_text()
        )
        machine.write("/etc/systemd/system/gunicorn.service", GUNICORN)
        machine.write("/etc/sdsupervise/counter.toml", "directory = '/srv/example'\nservice = 'counter.py:Counter'\n")
        machine.write("/etc/sdsupervise/web.toml", (CLONE / "units/example/web.toml").read_text())
        machine.run("mkdir", "-p", "/var/lib/counter", "/srv/web")
        machine.symlink("/srv/example", "/srv/web/current")
        machine.run("systemctl", "daemon-reload")
        yield machine


@pytest.mark.parametrize("commands", HERE, ids=str)
def test_they_are_run(machine: Machine, commands: str | tuple[str, ...]) -> None:
    """As they stand, and do what they are shown for."""
    script, operand = HERE[commands]
    machine.run("systemctl", "start" if commands in OF_INSTANCE else "stop", INSTANCE)
    script = script.replace("{command}", operand or str(commands))
    for number, command in enumerate(commands if isinstance(commands, tuple) else ()):
        script = script.replace(f"{{{number}}}", command)
    done = machine.run("bash", "-c", f"{FUNCTIONS}{script}", check=False)
    log = machine.run("bash", "-c", "cat /tmp/log 2>/dev/null", check=False).stdout
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}{log}"
