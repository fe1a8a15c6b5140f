"""Several instances on one machine, as their operator sees and reloads them by name."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.docs.documents import CLONE
from tests.support.machine import Machine
from tests.support.trial import Trial, source

TEMPLATE = (CLONE / "units/sdsupervise@.service").read_text()


@pytest.fixture
def trials(machine: Machine) -> Iterator[list[Trial]]:
    """Three units that serve."""
    trials = [Trial(machine, name) for name in ("one", "three", "two")]
    for trial in trials:
        trial.deploy(1)
        trial.install()
        trial.start()
    yield trials
    for trial in trials:
        trial.close()


def sdsupervise(machine: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    return machine.run("/usr/bin/sdsupervise", *words, check=False)


def listed(machine: Machine) -> dict[str, dict[str, object]]:
    """What list says of each, by name."""
    found = [json.loads(line) for line in sdsupervise(machine, "list", "--json").stdout.splitlines()]
    return {str(facts["instance"]): facts for facts in found}


def test_failed(machine: Machine) -> None:
    """An instance whose start has failed is not just stopped: list and status give its last word."""
    machine.write("/etc/sdsupervise/wrong.toml", 'service = "/srv/nothing.py:Nothing"\n')
    machine.write("/etc/systemd/system/sdsupervise@.service", TEMPLATE)
    machine.run("systemctl", "daemon-reload")
    try:
        assert machine.run("systemctl", "start", "sdsupervise@wrong", check=False).returncode != 0
        facts = listed(machine)["wrong"]
        assert facts["state"] == "failed" and "/srv/nothing.py" in str(facts["error"])
        asked = sdsupervise(machine, "status", "wrong")
        assert asked.returncode == 69
        why, hint = r"wrong is not running. It has failed: .*/srv/nothing\.py", "'systemctl status sdsupervise@wrong'"
        assert re.search(f"{why}.* {hint} shows more", asked.stderr)
    finally:
        machine.run("systemctl", "reset-failed", "sdsupervise@wrong")
        machine.remove("/etc/sdsupervise/wrong.toml")
        machine.remove("/etc/systemd/system/sdsupervise@.service")
        machine.run("systemctl", "daemon-reload")


def test_failed_of_a_user(machine: Machine) -> None:
    """Of a user's own instance that user's own systemd is asked, and named in what is to be typed."""
    machine.run("useradd", "--create-home", "anna")
    uid = machine.run("id", "-u", "anna").stdout.strip()
    places = {"XDG_RUNTIME_DIR": f"/run/user/{uid}", "HOME": "/home/anna"}
    become = ("setpriv", "--reuid=anna", "--regid=anna", "--init-groups")
    machine.write("/home/anna/.config/sdsupervise/wrong.toml", 'service = "/srv/nothing.py:Nothing"\n')
    machine.write(
        "/home/anna/.config/systemd/user/sdsupervise@.service",
        "[Service]\nType=notify\nExecStart=/usr/bin/sdsupervise run %i\n",
    )
    # What pam_systemd would say, which is not on this machine.
    where = "/run/systemd/system/user@.service.d/where.conf"
    machine.write(where, "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n")
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", f"user@{uid}.service")
        start = machine.run(*become, "systemctl", "--user", "start", "sdsupervise@wrong", env=places, check=False)
        assert start.returncode != 0
        seen = machine.run(*become, "sdsupervise", "list", env=places)
        assert re.search(r"^wrong +failed +.*/srv/nothing\.py", seen.stdout, re.MULTILINE), seen
        asked = machine.run(*become, "sdsupervise", "status", "wrong", env=places, check=False)
        assert "'systemctl --user status sdsupervise@wrong' shows more" in asked.stderr, asked
    finally:
        machine.run("systemctl", "stop", f"user@{uid}.service")
        machine.run("userdel", "--remove", "anna", check=False)
        machine.remove(where)
        machine.run("systemctl", "daemon-reload")


def test_list(machine: Machine, trials: list[Trial]) -> None:
    """All that run or are configured are listed: one that hangs, is dead or stopped as that, the others as ever."""
    one, *_ = trials
    machine.write("/etc/sdsupervise/later.toml", "")
    machine.run("python3", "-c", DEAD)
    one.kill(one.main_pid, signal.SIGSTOP)
    try:
        table = sdsupervise(machine, "list")
        states = dict(line.split()[:2] for line in table.stdout.splitlines()[1:])
        assert states == {"dead": "dead", "later": "stopped", "one": "hangs", "three": "serving", "two": "serving"}
        assert table.returncode == 0 and table.stderr == ""
        assert re.search(r"^one +hangs +The supervisor on /run/sdsupervise/one/control ", table.stdout, re.MULTILINE)
        assert re.search(
            r"^three +serving +1 +exclusive +1/1 +\S+ +/srv/three/releases/1/trial.py$", table.stdout, re.M
        )
        everything = sdsupervise(machine, "status")
        assert everything.returncode == 69 and everything.stderr == ""
        assert "○ one   hangs" in everything.stdout and "● three (Trial)   serving" in everything.stdout
    finally:
        one.kill(one.main_pid, signal.SIGCONT)
        machine.remove("/run/sdsupervise/dead")
        machine.remove("/etc/sdsupervise/later.toml")
    assert listed(machine).keys() == {"one", "three", "two"}


DEAD = """
import os, socket
os.mkdir("/run/sdsupervise/dead")
socket.socket(socket.AF_UNIX).bind("/run/sdsupervise/dead/control")
"""


def test_status_for_anybody(machine: Machine, trials: list[Trial]) -> None:
    """Another user sees the same as root, but for what the kernel keeps to itself; it ends with where the logs are."""
    words = ("/usr/bin/sdsupervise", "status", "three.service")
    roots = machine.run(*words).stdout.splitlines()
    anybodys = machine.run("setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", *words).stdout.splitlines()
    assert "PSS" in "".join(roots) and "RSS" in "".join(anybodys)
    for lines in roots, anybodys:
        assert lines[0].startswith("● three (Trial)   serving · generation 1 · exclusive · since ")
        assert "  code       /srv/three/current → releases/1/trial.py (" in "\n".join(lines)
        assert "  unit       three.service" in lines
        assert lines[-1] == "  logs       journalctl -u three.service"
        assert any(re.search(rf"├─ worker 0 +{trials[1].worker_pid} +serving", line) for line in lines)


def test_several_reloads(machine: Machine, trials: list[Trial]) -> None:
    """One after the other, up to the first that fails, whose exit status it is; with --keep-going all of them. The last
    line says what became of each."""
    _, three, two = trials
    two.deploy(2)
    three.deploy(2, "1/0")
    done = sdsupervise(machine, "reload", "two", "three", "one")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "Reloaded 1: two; not reloaded 1: three; not tried 1: one."
    assert "[2/3] three" in done.stdout and "NOT RELOADED: " in done.stderr
    done = sdsupervise(machine, "reload", "--all", "--keep-going")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "Reloaded 2: one, two; not reloaded 1: three."
    assert [facts["generation"] for facts in listed(machine).values()] == [2, 1, 3]


def test_what_is_not_theirs(machine: Machine, trials: list[Trial]) -> None:
    """Who reloads all that run reloads their own, though others' come first, which refuse and run on."""
    *_, two = trials
    two.install("User=games")
    two.systemctl("restart")
    games = ("setpriv", "--reuid=games", "--regid=games", "--clear-groups")
    done = machine.run(*games, "/usr/bin/sdsupervise", "reload", "--all", check=False)
    assert (done.returncode, done.stderr) == (77, "Only root and uid 0 may reload.\n" * 2)
    assert done.stdout.splitlines()[-1] == "Reloaded 1: two; not reloaded 2: one, three."
    assert [facts["generation"] for facts in listed(machine).values()] == [1, 1, 2]


def test_outdated(machine: Machine, trials: list[Trial]) -> None:
    """--outdated finds what has another code on disk: by the symlink of --directory, or by content. Others are left."""
    one, *_ = trials
    one.deploy(2)
    machine.write("/srv/three/releases/1/trial.py", source(1) + "# changed\n")
    would = sdsupervise(machine, "reload", "--outdated", "--dry-run").stdout.splitlines()
    assert would == [
        "Would reload one: /srv/one/current is /srv/one/releases/2 now, and it runs in /srv/one/releases/1.",
        "Would reload three: /srv/three/releases/1/trial.py has changed on disk.",
    ]
    done = sdsupervise(machine, "reload", "--outdated")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "Reloaded 2: one, three."
    again = sdsupervise(machine, "reload", "--outdated")
    assert (again.returncode, again.stdout) == (0, "3 instances run what is on disk: nothing to reload.\n")
    assert [facts["generation"] for facts in listed(machine).values()] == [2, 2, 1]
