"""The source package builds on Debian 13 too, by what it says it needs, into the same package."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.packages.built import built
from tests.packages.matrix.ground import Ground
from tests.support.fixtures import booted

BUILD = "cd /tmp && dpkg-source --extract {dsc} tree && cd tree && dpkg-buildpackage --build=binary --no-sign 2>&1"


def contents(deb: Path) -> set[str]:
    """Its files, by their paths on a merged /usr."""
    listed = subprocess.run(["dpkg-deb", "--contents", deb], stdout=subprocess.PIPE, text=True, check=True).stdout
    names = {re.sub(r"^\./lib/", "./usr/lib/", line.split(maxsplit=5)[5]) for line in listed.splitlines()}
    # What pip and its kin note of themselves differs.
    return {name for name in names if not name.endswith(("/", ".dist-info/INSTALLER", ".dist-info/RECORD"))}


def test_build() -> None:
    """On a fresh Debian 13 with its Build-Depends, and nothing else, it builds, and has the same files."""
    for machine in booted({"/source": built("deb")}, "trixie", bare=True):
        ground = Ground(machine)
        (dsc,) = built("deb").glob("*.dsc")
        ground.apt("build-dep", f"/source/{dsc.name}")
        machine.run("sh", "-ec", BUILD.format(dsc=f"/source/{dsc.name}"), timeout=300)
        ground.sh("cp /tmp/*.deb /exchange/")
        (theirs,) = machine.exchange.glob("*.deb")
        (ours,) = built("deb").glob("*.deb")
        assert contents(theirs) == contents(ours)
