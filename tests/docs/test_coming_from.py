"""The instances of packaging/doc/coming-from.md start, and the page says of every section of ours what it is."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from sdsupervise.imports.supervisord_program import _KNOWN
from sdsupervise.instances.keys import FILE_KEYS
from tests.docs.documents import CLONE
from tests.support.fixtures import Equipment
from tests.support.machine import Machine

MACHINE = Equipment(units=True, programs=True)

PAGE = (CLONE / "packaging" / "doc" / "coming-from.md").read_text()
INSTANCES = dict(re.findall(r"```toml\n# /etc/sdsupervise/(\w+)\.toml\n(.*?)```", PAGE, re.DOTALL))
LOOPS = "#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 0.2; done\n"
# What runs in them; uWSGI is compiled for one Python, so that no machine of the tests has it.
FILES: Mapping[str, tuple[str, str]] = {
    "queue": ("/srv/mail/queue", LOOPS),
    "api": ("/srv/api/server", LOOPS.replace("while", "sdsupervise ready\nwhile")),
    "site": ("/srv/hello/current/hello.py", (CLONE / "units" / "example" / "hello.py").read_text()),
    "jobs": ("/srv/jobs/jobs.py", "import signal\nsignal.pause()\n"),
    "ticker": ("/srv/ticker/ticker.pl", "sleep 1 while 1;\n"),
}
NOT_STARTED = {"app"}


def test_all_are_started() -> None:
    """Each instance on the page has what it runs."""
    assert INSTANCES.keys() == FILES.keys() | NOT_STARTED


@pytest.mark.parametrize("name", FILES)
def test_it_starts(machine: Machine, name: str) -> None:
    """It has no mistake, and runs as it stands on the page."""
    path, text = FILES[name]
    machine.write(path, text, mode=0o755)
    machine.write(f"/etc/sdsupervise/{name}.toml", INSTANCES[name])
    assert machine.run("sdsupervise", "check", name).stdout == f"{name}: ok\n"
    machine.run("systemctl", "start", f"sdsupervise@{name}")
    assert machine.run("systemctl", "is-active", f"sdsupervise@{name}").stdout == "active\n"
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
