"""Instances on a real systemd: a file, the template unit, and an operator's first session."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.fixtures import Equipment
from tests.support.machine import Machine
from tests.support.units import UNITS

MACHINE = Equipment(units=True)

TEMPLATE = "sdsupervise@.service"

TICKER = '''\
import time
from sdsupervise import SupervisedDaemon

class Ticker(SupervisedDaemon):
    """Ticks once a second; never two at once."""
    can_do_hot_reload = True

    def supervised_process(self):
        self.ready_to_take_over()      # warmed up: wait for our turn
        while True:
            print("tick")
            self.ping_supervisor()
            time.sleep(1)

    def supervised_shutdown(self):
        print("bye")
'''
FILE = 'directory = "/srv/ticker/current"\nservice   = "ticker.py:Ticker"\n'
UNIT = "sdsupervise@ticker"
CONFIGURED = "/etc/sdsupervise/ticker.toml"


@pytest.fixture
def ticker(machine: Machine) -> Iterator[Machine]:
    """With the instance ticker and three releases of it; not started."""
    machine.write(CONFIGURED, FILE)
    for release in 1, 2:
        machine.write(f"/srv/ticker/releases/{release}/ticker.py", f"{TICKER}# {release}\n")
    machine.write("/srv/ticker/releases/3/ticker.py", "import requsts\n")
    machine.symlink("releases/1", "/srv/ticker/current")
    yield machine
    machine.run("systemctl", "stop", UNIT)
    shown = machine.show(f"{UNIT}.service", "ActiveState", "Result")
    assert shown == {"ActiveState": "inactive", "Result": "success"}
    assert machine.processes(f"{UNIT}.service") == []


def reload(machine: Machine) -> int:
    return machine.run("systemctl", "reload", UNIT, check=False).returncode


def status_text(machine: Machine) -> str:
    return machine.show(f"{UNIT}.service", "StatusText")["StatusText"]


def test_the_first_minutes(ticker: Machine) -> None:
    """A file is all it takes: it starts, serves new code after a reload, and is known by its name to status, reload,
    the journal and its pid file; a broken deployment is told, and changes nothing."""
    assert ticker.run("sdsupervise", "check", "ticker").stdout == "ticker: ok\n"
    ticker.run("systemctl", "start", UNIT)
    ticker.symlink("releases/2", "/srv/ticker/current")
    would = ticker.run("sdsupervise", "reload", "--outdated", "--dry-run").stdout
    assert would.startswith("Would reload ticker: /srv/ticker/current is /srv/ticker/releases/2 now, ")
    assert reload(ticker) == 0
    first, *lines = ticker.run("sdsupervise", "status", "ticker").stdout.splitlines()
    assert re.match(r"● ticker +serving · generation 2 · exclusive", first)
    assert any(re.match(r" +code +/srv/ticker/current → releases/2", line) for line in lines)
    assert any(re.match(r" +reload +\d\d:\d\d:\d\d done in ", line) for line in lines)
    said = ticker.journal(None, f"_SYSTEMD_UNIT={UNIT}.service", "SYSLOG_IDENTIFIER=ticker")
    assert any("Generation 2" in entry["MESSAGE"] for entry in said)
    ticker.symlink("releases/3", "/srv/ticker/current")
    assert reload(ticker) == 1
    assert re.search(r"Reload .* failed: .*ModuleNotFoundError: No module named 'requsts'", status_text(ticker))
    by_hand = ticker.run("sdsupervise", "reload", "ticker", check=False)
    assert by_hand.returncode == 1 and "NOT RELOADED" in by_hand.stderr
    facts = json.loads(ticker.run("sdsupervise", "status", "ticker", "--json").stdout)
    assert (facts["name"], facts["generation"], facts["healthy"]) == ("ticker", 2, True)
    assert facts["pid_file"] == "/run/sdsupervise/ticker/ticker.pid"
    assert facts["pid"] == int(ticker.read(facts["pid_file"]))


def test_a_reload_reads_the_file_anew(ticker: Machine) -> None:
    """A bad file fails `systemctl reload` with its own sentence as the reason; a good one comes into force."""
    ticker.run("systemctl", "start", UNIT)
    ticker.write(CONFIGURED, FILE + "\nworkers = 0\nstop_timout = 5\n")
    assert reload(ticker) == 1
    assert f"failed: {CONFIGURED}:4:11: workers is 0; it must be" in status_text(ticker)
    ticker.write(CONFIGURED, FILE + '\nworkers = 2\nstop_timeout = 5\nlisten.http = "127.0.0.1:8080"\n')
    assert reload(ticker) == 0
    facts = json.loads(ticker.run("sdsupervise", "status", "ticker", "--json").stdout)
    assert facts["pool"] == {"workers": 2, "serving": 2, "max_workers": 2, "automatic": False}
    assert [(each["name"], each["address"]) for each in facts["sockets"]] == [("http", "127.0.0.1:8080")]
    ticker.write(CONFIGURED, 'command = ["/bin/sleep", "1000"]\nready_after = 0.1\n')
    assert reload(ticker) == 0
    facts = json.loads(ticker.run("sdsupervise", "status", "ticker", "--json").stdout)
    assert (facts["name"], facts["pool"], facts["sockets"]) == (
        "ticker",
        {"workers": 1, "serving": 1, "max_workers": 1, "automatic": False},
        [],
    )


def test_another_user(ticker: Machine) -> None:
    """A successor that may do more than its predecessor would have to believe it; one that may do less could not open
    the pid file. So a reload that would change the user fails, and says what to do."""
    ticker.write(CONFIGURED, FILE + "user = 'daemon'\n")
    ticker.run("systemctl", "start", UNIT)
    uid = ticker.run("id", "-u", "daemon").stdout.strip()
    for user, other in (("nobody", ticker.run("id", "-u", "nobody").stdout.strip()), ("root", "0")):
        ticker.write(CONFIGURED, FILE + f"user = '{user}'\n")
        assert reload(ticker) == 1
        why = f"The service runs as uid {uid} and would run as uid {other}; a reload does not change the user"
        assert why in status_text(ticker)
    ticker.run("systemctl", "restart", UNIT)
    assert status_text(ticker).startswith("Generation 1 serves ")


def test_the_system_s_file_is_root_s(ticker: Machine) -> None:
    """A unit's user cannot put a file of their own in place of the one in /etc."""
    ticker.write("/srv/home/.config/sdsupervise/ticker.toml", "not even TOML")
    drop_in = f"/run/systemd/system/{UNIT}.service.d/user.conf"
    try:
        ticker.write(drop_in, "[Service]\nUser=nobody\nEnvironment=HOME=/srv/home\n")
        ticker.run("systemctl", "daemon-reload")
        ticker.run("systemctl", "start", UNIT)
        assert reload(ticker) == 0
        assert status_text(ticker).startswith("Generation 2 serves ")
        ticker.run("systemctl", "stop", UNIT)
    finally:
        ticker.run("rm", "-rf", drop_in, "/srv/home")
        ticker.run("systemctl", "daemon-reload")


def test_no_start_with_a_bad_file(ticker: Machine) -> None:
    """systemd shows the first mistake, does not try again, and starts it once the file is mended."""
    ticker.write(CONFIGURED, FILE.replace("service ", "servise "))
    assert ticker.run("systemctl", "start", UNIT, check=False).returncode == 1
    shown = ticker.show(f"{UNIT}.service", "ActiveState", "ExecMainStatus", "NRestarts", "StatusText")
    assert (shown["ActiveState"], shown["ExecMainStatus"], shown["NRestarts"]) == ("failed", "78", "0")
    assert shown["StatusText"].startswith(f"{CONFIGURED}:2:1: There is no key servise; did you mean service?")
    ticker.write(CONFIGURED, FILE)
    ticker.run("systemctl", "start", UNIT)


WHO = "import os, sys\nprint('imported by', os.getuid(), 'in', os.getcwd(), file=sys.stderr)\n"


def test_who_imports(ticker: Machine) -> None:
    """`check --import` imports as the unit's user, in the unit's directory; where it names none, as the file's. What
    the unit says is shown by `config` as the unit's."""
    ticker.write("/srv/ticker/releases/1/ticker.py", WHO + TICKER)
    ticker.write(CONFIGURED, FILE + "user = 'daemon'\n")
    check = ("sdsupervise", "check", "--import", "ticker")
    assert ticker.run(*check).stderr == "imported by 1 in /srv/ticker/releases/1\n"
    drop_in = f"/run/systemd/system/{UNIT}.service.d/user.conf"
    try:
        ticker.write(drop_in, "[Service]\nUser=nobody\nGroup=nogroup\nWorkingDirectory=/srv/ticker/current\n")
        ticker.run("systemctl", "daemon-reload")
        ticker.write(CONFIGURED, 'service = "ticker.py:Ticker"\nuser = "daemon"\n')
        imported, *lint = ticker.run(*check).stderr.splitlines()
        assert imported == "imported by 65534 in /srv/ticker/releases/1"
        assert any("only root can change to user daemon; it stays nobody" in line for line in lint)
        lines = ticker.run("sdsupervise", "config", "ticker").stdout.splitlines()
        for key, value in ("user", "nobody"), ("group", "nogroup"), ("directory", "/srv/ticker/current"):
            assert any(re.fullmatch(rf'{key} += "{value}" +# sdsupervise@ticker\.service', line) for line in lines)
    finally:
        ticker.run("rm", drop_in)
        ticker.run("systemctl", "daemon-reload")


ASK = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8081', timeout=30).read().decode(), end='')"


def test_the_example(machine: Machine) -> None:
    """units/example/web.toml works as it stands, as the user it names, with the listener it names."""
    machine.write("/etc/sdsupervise/web.toml", (UNITS / "example" / "web.toml").read_text())
    code = (UNITS / "example" / "web.py").read_text()
    for release in 1, 2:
        machine.write(f"/srv/web/releases/{release}/web.py", code.replace("RELEASE = 1", f"RELEASE = {release}"))
    machine.symlink("releases/1", "/srv/web/current")
    try:
        assert machine.run("sdsupervise", "check", "--import", "web").stdout == "web: ok\n"
        machine.run("systemctl", "start", "sdsupervise@web")
        assert "1" in machine.run("python3", "-c", ASK).stdout
        machine.symlink("releases/2", "/srv/web/current")
        assert machine.run("systemctl", "reload", "sdsupervise@web").returncode == 0
        assert "2" in machine.run("python3", "-c", ASK).stdout
        main_pid = machine.show("sdsupervise@web.service", "MainPID")["MainPID"]
        assert "\nUid:\t65534\t65534\t65534\t" in machine.read(f"/proc/{main_pid}/status")
    finally:
        machine.run("systemctl", "stop", "sdsupervise@web")
        machine.run("rm", "/etc/sdsupervise/web.toml")


def test_units_are_checked(ticker: Machine) -> None:
    """With the instance its unit is: what does not work is a mistake, and measured by the instance's own settings."""
    ticker.write(CONFIGURED, FILE + "stop_timeout = 600\n")
    drop_in = f"/run/systemd/system/{UNIT}.service.d/type.conf"
    try:
        checked = ticker.run("sdsupervise", "check", "ticker", check=False)
        assert (checked.returncode, checked.stdout) == (0, "ticker: ok\n")
        assert re.search(rf"^{UNIT}\.service: warning: .*stop_timeout", checked.stderr, re.MULTILINE)
        ticker.write(CONFIGURED, FILE + 'listen.http = { address = "127.0.0.1:9", lanes = true }\n')
        assert ticker.run("sdsupervise", "check", "ticker").stdout == "ticker: ok\n"  # if its class says overlap
        ticker.write(drop_in, "[Service]\nDynamicUser=yes\n")
        ticker.run("systemctl", "daemon-reload")
        ticker.write("/srv/ticker/releases/1/ticker.py", WHO + TICKER)
        ticker.write(CONFIGURED, FILE)
        checked = ticker.run("sdsupervise", "check", "--import", "ticker")
        assert checked.stdout == "ticker: ok\n"
        assert checked.stderr.startswith("imported by 65534 in /srv/ticker/releases/1\nticker: checked as nobody; ")
        ticker.write(drop_in, "[Service]\nType=simple\n")
        ticker.run("systemctl", "daemon-reload")
        checked = ticker.run("sdsupervise", "check", "ticker", check=False)
        assert (checked.returncode, checked.stdout) == (78, "")
        assert re.search(rf"^{UNIT}\.service: error: .*Type", checked.stderr, re.MULTILINE)
        ticker.run("systemctl", "mask", "--runtime", UNIT)
        checked = ticker.run("sdsupervise", "check", "ticker", check=False)
        assert (checked.returncode, checked.stdout) == (78, "")
        assert checked.stderr.startswith(f"{UNIT}.service is masked; ")
    finally:
        ticker.run("systemctl", "unmask", "--runtime", UNIT)
        ticker.run("rm", "-f", drop_in)
        ticker.run("systemctl", "daemon-reload")


def test_before_commit_beside_a_socket_unit(ticker: Machine) -> None:
    """`check` knows that systemd passes the sockets, which both generations of an overlap share."""
    unit = f"{UNIT}.socket"
    checked = f"{FILE}handover = 'overlap'\nbefore_commit = ['true']\nlisten.http = '/run/sdsupervise/ticker/http'\n"
    ticker.write(CONFIGURED, checked)
    try:
        assert ticker.run("sdsupervise", "check", "--import", "ticker").stdout == "ticker: ok\n"
        ticker.write(f"/run/systemd/system/{unit}", "[Socket]\nListenStream=/run/ticker.sock\n")
        ticker.run("systemctl", "daemon-reload")
        ticker.run("systemctl", "start", unit)
        refused = ticker.run("sdsupervise", "check", "--import", "ticker", check=False)
        assert (refused.returncode, refused.stdout) == (78, "")
        assert "cannot reach only the new code through the sockets of a .socket unit" in refused.stderr
        ticker.write(CONFIGURED, checked.replace("overlap", "exclusive"))
        assert ticker.run("sdsupervise", "check", "--import", "ticker").stdout == "ticker: ok\n"
    finally:
        ticker.run("systemctl", "stop", unit, check=False)
        ticker.run("rm", "-f", f"/run/systemd/system/{unit}")
        ticker.run("systemctl", "daemon-reload")
        ticker.write(CONFIGURED, FILE)


def test_check_of_all(ticker: Machine) -> None:
    """Without a NAME every instance of the machine is checked, and every mistake of each is said."""
    ticker.write("/etc/sdsupervise/second.toml", 'command = ["nosuch"]\nworkers = 0\n')
    try:
        done = ticker.run("sdsupervise", "check", check=False)
        assert (done.returncode, done.stdout) == (78, "ticker: ok\n")
        first, second = done.stderr.splitlines()
        assert first.startswith("/etc/sdsupervise/second.toml:1:12: There is no program nosuch in PATH (")
        assert second.startswith("/etc/sdsupervise/second.toml:2:11: workers is 0; it must be ")
        assert ticker.run("sdsupervise", "check", "sdsupervise@ticker.service").stdout == "ticker: ok\n"
    finally:
        ticker.run("rm", "/etc/sdsupervise/second.toml")
