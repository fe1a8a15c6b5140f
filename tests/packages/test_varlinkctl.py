"""systemd's own Varlink client, which Debian has from 13 on, talks to a control socket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.packages.matrix.ground import Ground, packages
from tests.support.fixtures import booted
from tests.support.machine import Machine
from tests.support.trial import Trial

PLACE = "/run/sdsupervise/trial/control"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A Debian 13 with the package, as tests/packages/matrix has it."""
    for machine in booted(packages(), "trixie", bare=True):
        Ground(machine).install()
        yield machine


@pytest.fixture
def trial(machine: Machine) -> Iterator[Trial]:
    """A unit that serves."""
    trial = Trial(machine, "trial")
    trial.deploy(1)
    trial.install()
    trial.start()
    yield trial
    trial.close()


def varlinkctl(trial: Trial, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return trial.machine.run("varlinkctl", *words, check=check)


def objects(text: str) -> list[dict[str, object]]:
    """JSON objects one after the other."""
    found, decoder = [], json.JSONDecoder()
    while text := text.lstrip("\x1e \n"):
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def test_varlinkctl(trial: Trial) -> None:
    """It is told who this is, what it understands (in good Varlink, to systemd's mind), the status, what is wrong with
    a call, and how a reload goes, step by step."""
    info = varlinkctl(trial, "info", PLACE).stdout
    assert "sdsupervise" in info and "io.sdsupervise" in info
    assert varlinkctl(trial, "list-interfaces", PLACE).stdout.split() == ["io.sdsupervise", "org.varlink.service"]
    described = varlinkctl(trial, "introspect", PLACE, "io.sdsupervise").stdout
    assert "method Status() -> (" in described and "error ReloadFailed(" in described.replace("Failed (", "Failed(")
    for interface in "io.sdsupervise", "org.varlink.service":
        text = varlinkctl(trial, "introspect", PLACE, interface).stdout
        checked = trial.machine.run("varlinkctl", "validate-idl", input=text, check=False)
        assert checked.returncode == 0, checked.stderr
    (status,) = objects(varlinkctl(trial, "call", "-j", PLACE, "io.sdsupervise.Status", "{}").stdout)
    assert (status["name"], status["pid"]) == ("Trial", trial.main_pid)
    wrong = varlinkctl(trial, "call", PLACE, "io.sdsupervise.Scale", '{"workers": "many"}', check=False)
    assert wrong.returncode != 0 and "InvalidParameter" in wrong.stderr and "workers" in wrong.stdout
    trial.deploy(2)
    steps = objects(varlinkctl(trial, "call", "-j", "--more", PLACE, "io.sdsupervise.Reload", "{}").stdout)
    assert steps[0]["phase"] == "starting_successor" and steps[-1]["verdict"] == "done"
    trial.assert_serves(2)
