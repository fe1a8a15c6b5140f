"""The RPM package, as Debian's rpmbuild makes it: what is in it, and a life of it on a booted Debian 13.

What only Fedora could tell is listed in packaging/README.md.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import sdsupervise
from tests.packages.built import SHIPPED, TREE, build, built
from tests.packages.matrix.ground import NEXT_VERSION, VERSION, Ground
from tests.packages.matrix.rows import WEB_TOML
from tests.support.fixtures import booted

CONFIG = TREE / "packaging" / "rpm" / "rpmlint.toml"
UNIT = "sdsupervise@web.service"


def rpms(directory: Path) -> tuple[Path, Path]:
    """The source package and the binary one."""
    (source,), (binary,) = directory.glob("*.src.rpm"), directory.glob("*.noarch.rpm")
    return source, binary


def query(*arguments: str, of: Path | None = None) -> set[str]:
    """What rpm says of the binary package, line by line."""
    command = ["rpm", "--query", "--package", *arguments, str(of or rpms(built("rpm"))[1])]
    return set(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines())


def test_contents() -> None:
    """It has what the Debian package has, where Fedora wants it."""
    files = query("--list")
    assert files >= {
        "/etc/default/sdsupervise",
        "/etc/sdsupervise",
        "/usr/bin/sdsupervise",
        "/usr/lib/systemd/system/sdsupervise@.service",
        "/usr/libexec/sdsupervise/upgraded",
    }
    assert {re.sub(".*/site-packages/", "", name) for name in files if "/site-packages/" in name} >= SHIPPED
    assert query("--configfiles") == {"/etc/default/sdsupervise"}


def test_dependencies() -> None:
    """The generators have written what it imports, from the wheel's metadata."""
    needed = {re.sub(r"^python3\.\d+dist", "dist", line.split()[0]) for line in query("--requires")}
    assert needed >= {"dist(psutil)", "dist(sdnotify)", "dist(systemd-python)", "python(abi)", "systemd"}
    assert query("--queryformat", "%{VERSION}") == {sdsupervise.__version__}


def test_rpmlint() -> None:
    """rpmlint finds nothing in either, beyond what the checked-in file says why it is none."""
    command = ["rpmlint", "--config", str(CONFIG), *map(str, rpms(built("rpm")))]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert "0 errors, 0 warnings" in done.stdout, done.stdout


def test_reproducible(tmp_path: Path) -> None:
    """Built again from the same tree, each file of it is the same, its time, owner and mode too. (Not the package: its
    header tells of the directory that it was built in.)"""
    build("rpm", tmp_path / "again")
    _, again = rpms(tmp_path / "again")
    assert query("--dump") == query("--dump", of=again)


@pytest.fixture
def ground() -> Iterator[Ground]:
    """A Debian 13 with rpm, and with what dnf would have brought: the libraries."""
    shown = {f"/packages/{VERSION}": built("rpm"), f"/packages/{NEXT_VERSION}": built("rpm", NEXT_VERSION)}
    for machine in booted(shown, suite="trixie", bare=True):
        ground = Ground(machine)
        ground.apt("install", "rpm", "python3", "python3-systemd", "python3-sdnotify", "python3-psutil")
        yield ground


def test_life(ground: Ground) -> None:
    """Installed it starts and enables nothing; upgraded, it touches no running service and says which run the old
    version; erased, it stops instances, and names what will not start without it."""

    def rpm(*arguments: str) -> str:
        done = ground.machine.run("rpm", "--nodeps", *arguments, timeout=120)
        return done.stdout + done.stderr

    def package(version: str) -> str:
        return ground.sh(f"ls /packages/{version}/*.noarch.rpm").strip()

    rpm("--install", package(VERSION))
    # It was built for the Python of another Debian.
    (built_for,) = {name for name in query("--list") if name.endswith("/site-packages/sdsupervise")}
    ground.sh(f"echo {built_for.removesuffix('/sdsupervise')} >/usr/lib/python3/dist-packages/rpm.pth")
    assert ground.sh("systemctl list-units --no-legend 'sdsupervise*'") == ""
    assert "enabled" not in ground.sh("systemctl list-unit-files --no-legend 'sdsupervise*' | awk '{print $2}'")

    ground.machine.write("/etc/sdsupervise/web.toml", WEB_TOML)
    ground.deploy(1)
    ground.systemctl("enable", "--now", UNIT)
    main_pid = ground.main_pid(UNIT)
    told = rpm("--upgrade", package(NEXT_VERSION))
    assert f"these instances run another version than {NEXT_VERSION}: web\n" in told
    assert (ground.main_pid(UNIT), ground.version_of("web")) == (main_pid, VERSION)
    ground.deploy(2)
    ground.systemctl("reload", UNIT)
    assert (ground.ask(), ground.version_of("web")) == ("release 2", NEXT_VERSION)

    ground.machine.write("/etc/systemd/system/other.service", "[Service]\nExecStart=/usr/bin/sdsupervise run other\n")
    told = rpm("--erase", "sdsupervise")
    assert "other.service names sdsupervise and will not start again without it" in told
    assert ground.show(UNIT, "ActiveState") == "inactive"
    assert ground.machine.processes(UNIT) == []
    # Bytecode that Python has written meanwhile is Fedora's rpmbuild's to package; Debian's does not.
    assert not ground.sh("find /usr -path '*sdsupervise*' ! -type d ! -name '*.pyc'")
    assert not ground.sh("find /usr/share /usr/libexec -name '*sdsupervise*'")
    assert not ground.machine.exists(f"/etc/systemd/system/multi-user.target.wants/{UNIT}")
