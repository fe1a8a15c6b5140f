"""A pool under systemd: READY=1 when all are ready, a number that is changed by `systemctl kill`, a reload of all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support.trial import Trial, source


def workers(trial: Trial) -> list[Mapping[str, Any]]:
    """As status shows them."""
    shown = trial.machine.run("/usr/bin/sdsupervise", "status", "--json", trial.name)
    found = json.loads(shown.stdout)["workers"]
    assert isinstance(found, list)
    return found


def test_a_pool(trial: Trial) -> None:
    """`systemctl start` returns when every worker serves. SIGTTIN and SIGTTOU to the whole unit mean its supervisor and
    stop no worker; a reload keeps the number, and leaves no worker of the old code."""
    trial.deploy(1, source(1))
    trial.install(options="--workers 3 --max-workers 4")
    trial.start()
    main, journal = trial.main_pid, trial.follow()
    assert len(workers(trial)) == 3
    trial.systemctl("kill", "--signal=TTIN")
    journal.wait_for("Scaling from 3 to 4 workers, asked by SIGTTIN")
    journal.wait_for("is ready")
    old = workers(trial)
    assert [worker["index"] for worker in old] == [0, 1, 2, 3]
    stats = [trial.machine.run("cat", f"/proc/{worker['pid']}/stat").stdout for worker in old]
    assert not any(") T " in stat for stat in stats)
    trial.systemctl("kill", "--signal=TTOU")
    journal.wait_for(f"Worker 3 (pid {old[3]['pid']}) has left")
    trial.deploy(2)
    assert trial.reload() == 0
    trial.machine.wait_until_gone(main, timeout_seconds=10)
    assert [worker["index"] for worker in workers(trial)] == [0, 1, 2]
    trial.stop()
    trial.assert_gone()
