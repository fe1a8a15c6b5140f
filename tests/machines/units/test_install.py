"""`sdsupervise unit wrap --write` where somebody has been before: nothing that is planted there is followed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(units=True, programs=True)

UNIT = "[Service]\nExecStart=/bin/sleep infinity\n"
DIRECTORY = "/etc/systemd/system/planted.service.d"
DROP_IN = f"{DIRECTORY}/zz-sdsupervise.conf"
CANARY = "/srv/canary"


@pytest.fixture
def planted(machine: Machine) -> Iterator[Machine]:
    """A machine with a unit, and with a file that nobody is to change."""
    machine.write("/etc/systemd/system/planted.service", UNIT)
    machine.write(CANARY, "root's", mode=0o640)
    machine.run("systemctl", "daemon-reload")
    yield machine
    assert machine.read(CANARY) == "root's"
    assert machine.run("stat", "--format=%a %u", CANARY).stdout == "640 0\n"
    machine.run("rm", "-rf", "/etc/systemd/system/planted.service", DIRECTORY, CANARY, "/srv/elsewhere")


def write(machine: Machine) -> subprocess.CompletedProcess[str]:
    return machine.run("sdsupervise", "unit", "wrap", "planted", "--write", check=False)


def test_modes_do_not_follow_the_umask(planted: Machine) -> None:
    """Everybody may read what a unit is, whatever root's umask."""
    planted.run("sh", "-c", "umask 077 && sdsupervise unit wrap planted --write")
    assert planted.run("stat", "--format=%a %u", DIRECTORY, DROP_IN).stdout == "755 0\n644 0\n"
    assert planted.run("ls", "--almost-all", DIRECTORY).stdout == "zz-sdsupervise.conf\n"
    planted.run("sdsupervise", "unit", "unwrap", "planted")
    assert not planted.exists(DIRECTORY)


@pytest.mark.parametrize("verb", [("wrap", "planted", "--write"), ("unwrap", "planted")])
@pytest.mark.parametrize(
    "plant",
    [
        f"ln -s {CANARY} {DROP_IN}",
        f"ln -s /dev/null {DROP_IN}",
        f"printf '\\377' >{DROP_IN}",
        f"ln {CANARY} {DROP_IN}",
    ],
    ids=["symlink", "masked", "no text", "hard link"],
)
def test_what_is_not_ours_stays(planted: Machine, plant: str, verb: tuple[str, ...]) -> None:
    """Neither followed, nor replaced, nor removed. (What systemd cannot read, such as a FIFO, it waits for itself.)"""
    planted.run("sh", "-c", f"mkdir {DIRECTORY} && {plant}")
    before = planted.run("stat", "--format=%F %i", DROP_IN).stdout
    done = planted.run("sdsupervise", "unit", *verb, check=False)
    assert done.returncode == 78, done
    assert f"{DROP_IN} is not by sdsupervise unit wrap" in done.stderr
    assert planted.run("stat", "--format=%F %i", DROP_IN).stdout == before


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (f"mkdir {DIRECTORY} && chown nobody {DIRECTORY}", "belongs to uid 65534"),
        (f"mkdir /srv/elsewhere && ln -s /srv/elsewhere {DIRECTORY}", "Not a directory"),
    ],
    ids=["another user's", "symlink"],
)
def test_directories_that_are_not_root_s(planted: Machine, plant: str, why: str) -> None:
    """What systemd runs as root is written where root alone may write."""
    planted.run("sh", "-c", plant)
    done = write(planted)
    assert done.returncode in (69, 77)
    assert why in done.stderr
    assert not planted.exists(DROP_IN)
