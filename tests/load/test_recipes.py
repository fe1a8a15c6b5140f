"""The page of recipes leaves none out, and every unit that it names is one that systemd takes as it stands."""

from __future__ import annotations

import re

from tests.load.ground import EXAMPLE
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(programs=True)

PAGE = (EXAMPLE / "README.md").read_text()


def test_every_example_is_on_the_page() -> None:
    """Each file of units/example is linked to, and every link leads to one."""
    linked = set(re.findall(r"\]\(([^)]+)\)", PAGE))
    assert linked >= {path.name for path in EXAMPLE.glob("*.service")}
    assert [name for name in linked if not (EXAMPLE / name).is_file()] == []


def test_systemd_has_nothing_to_say(machine: Machine) -> None:
    """`systemd-analyze verify` finds no fault in any unit."""
    units = sorted(EXAMPLE.glob("*.service"))
    for unit in units:
        machine.write(f"/run/verify/{unit.name}", unit.read_text())
    done = machine.run("systemd-analyze", "verify", *(f"/run/verify/{unit.name}" for unit in units), check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
