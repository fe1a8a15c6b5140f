"""`systemctl freeze` and `thaw`: the whole control group sleeps, for longer than any worker may be silent."""

from __future__ import annotations

import time

import pytest

from tests.support.trial import Trial, source

PINGS = """
server.settimeout(0.05)
while True:
    self.ping_supervisor()
    try:
        client, _ = server.accept()
    except TimeoutError:
        continue
    with client:
        client.sendall(json.dumps(self.facts()).encode())
"""


@pytest.mark.parametrize("rounds", [1, 3])
def test_freeze_and_thaw(trial: Trial, rounds: int) -> None:
    """Every worker that served before serves after it, none is aborted, and a reload works as ever."""
    trial.deploy(1, source(1, serve=PINGS))
    trial.install(options="--worker-timeout 2.5")
    trial.start()
    serving = (trial.main_pid, trial.assert_serves(1)["pid"])
    for _ in range(rounds):
        trial.systemctl("freeze")
        time.sleep(4)
        trial.systemctl("thaw")
        for _ in range(5):
            trial.assert_serves(1)
    assert (trial.main_pid, trial.assert_serves(1)["pid"]) == serving
    assert not trial.story().says("sent no ping")
    trial.deploy(2, source(2, serve=PINGS))
    assert trial.reload() == 0
    trial.assert_serves(2)
