"""`systemctl status` shows which process of a unit is which."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from tests.support.trial import Trial, source

WITHOUT = "/srv/without"  # a directory in which setproctitle is not installed


def control_group(trial: Trial) -> Sequence[tuple[int, str]]:
    """The pids and command lines in the CGroup lines of `systemctl status`."""
    shown = trial.systemctl("status", "--lines=0", "--full", check=False).stdout.partition("CGroup: ")[2]
    found = re.findall(r"[├└]─\s*(\d+) (.+)", shown)
    return [(int(pid), text.strip().strip('"')) for pid, text in found]


def short_names(trial: Trial) -> dict[int, str]:
    """Of all processes of the unit, as top shows them."""
    return {process.pid: trial.machine.read(f"/proc/{process.pid}/comm").rstrip("\n") for process in trial.processes}


@pytest.mark.parametrize("is_installed", [True, False], ids=["with setproctitle", "without"])
def test_which_process_is_which(trial: Trial, is_installed: bool) -> None:
    """In the middle of a reload, and after it: the lines of the control group, and the names that top shows. A command
    line is what is left where setproctitle is not installed."""
    if not is_installed:
        trial.machine.write(f"{WITHOUT}/sitecustomize.py", "import sys\nsys.modules['setproctitle'] = None\n")
    began, may_go_on, stops, may_stop = (trial.fifo(name) for name in ("began", "may-go-on", "stops", "may-stop"))
    old = source(1, shut_down=f"open({stops.path!r}, 'w').write('stops'); open({may_stop.path!r}).read(1)")
    new = source(2, warm_up=f"open({began.path!r}, 'w').write('began'); open({may_go_on.path!r}).read(1)")
    trial.deploy(1, old)
    trial.install(*["Environment=PYTHONPATH=/srv/without"] * (not is_installed), options="--handover overlap")
    trial.start()
    first = trial.main_pid
    first_worker = trial.worker_pid
    shown = trial.systemctl("status", "--lines=0").stdout
    assert f"Main PID: {first} (Trial/1:sup)" in shown
    expected = {first: "sdsupervise: Trial supervisor (generation 1)"}
    expected[first_worker] = "sdsupervise: Trial worker 0 (generation 1)"
    spares = [(pid, text) for pid, text in control_group(trial) if pid not in expected]
    if is_installed:
        assert {pid: text for pid, text in control_group(trial) if pid in expected} == expected
        assert [text for _, text in spares] == ["sdsupervise: Trial spare worker (generation 1)"]
    else:
        assert all("sdsupervise run" in text for _, text in control_group(trial))
    names = short_names(trial)
    assert [names[first], names[first_worker]] == ["Trial/1:sup", "Trial/1:w0"]
    assert [names[pid] for pid, _ in spares] == ["Trial/1:spare"]

    trial.deploy(2, new)
    with trial.calling("reload") as call:
        assert began.read() == "began"
        found = sorted(short_names(trial).values())
        assert found == ["Trial/1:spare", "Trial/1:sup", "Trial/1:w0", "Trial/2:next", "Trial/2:w0", _reload(trial)]
        if is_installed:
            assert sorted(text.removeprefix("sdsupervise: ") for _, text in control_group(trial)) == [
                "Trial spare worker (generation 1)",
                "Trial successor (generation 2)",
                "Trial supervisor (generation 1)",
                "Trial worker 0 (generation 1)",
                "Trial worker 0 (generation 2)",
                f"{trial.name} reload",
            ]
        may_go_on.write("x")
        assert call.wait(20) == 0
    assert stops.read() == "stops"
    second = trial.main_pid
    assert second != first
    names = short_names(trial)
    assert [names[second], names[first], names[first_worker]] == ["Trial/2:sup", "Trial/1:old", "Trial/1:d0"]
    if is_installed:
        lines = dict(control_group(trial))
        assert lines[first] == "sdsupervise: Trial draining supervisor (generation 1)"
        assert lines[first_worker] == "sdsupervise: Trial draining worker 0 (generation 1)"
        assert lines[second] == "sdsupervise: Trial supervisor (generation 2)"
    may_stop.write("x")
    trial.assert_serves(2)


def _reload(trial: Trial) -> str:
    """The short name of the process of ExecReload=; its unit's name is what it knows."""
    return f"{trial.name[: 15 - len(':reload')]}:reload"
