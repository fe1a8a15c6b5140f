"""What a service of another user finds of a login: the same as systemd itself sets by User=."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.support.fixtures import booted
from tests.support.machine import Machine

NAMES = ("HOME", "USER", "LOGNAME", "SHELL")
OF_ROOT = ("HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh")
OURS = {
    "bash": "folk:x:4711:4711::/home/folk:/bin/bash",
    "no home": "homeless:x:4712:4712::/:/bin/sh",
    "no shell": "shellless:x:4713:4713::/srv:",
    "false": "liar:x:4714:4714:::/bin/false",
}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with some more users."""
    for machine in booted():
        for file, lines in {
            "/etc/passwd": list(OURS.values()),
            "/etc/group": [f"{line.partition(':')[0]}:x:{line.split(':')[3]}:" for line in OURS.values()],
        }.items():
            machine.write(file, "\n".join([machine.read(file).rstrip("\n"), *lines, ""]))
        yield machine


def login_of(machine: Machine, *command: str, check: bool = True) -> Mapping[str, str]:
    """What `env` prints at the end of this command, as far as it is of a login."""
    lines = machine.run(*command, check=check).stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    assert "PATH" in found
    return {name: found[name] for name in NAMES if name in found}


@pytest.mark.parametrize("user", ["root", "daemon", "sync", "nobody", *(line.split(":")[0] for line in OURS.values())])
def test_as_systemd_sets_it(machine: Machine, user: str) -> None:
    """In a unit, and from a session of root's."""
    as_unit = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect")
    expected = login_of(machine, *as_unit, "-p", f"User={user}", "env")
    assert expected["USER"] == user
    ours = ("sdsupervise", "run", "--no-pid-file", "--user", user, "--crash-limit", "1", "--", "env")
    assert login_of(machine, *as_unit, *ours, check=False) == expected
    assert login_of(machine, "env", *OF_ROOT, *ours, check=False) == expected
