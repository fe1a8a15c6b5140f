"""Overlap under systemd: generations drain for as long as they may, and no stop cuts them short."""

from __future__ import annotations

from tests.machines.test_timeouts import LIMIT, outlast
from tests.support.fifos import Fifo
from tests.support.trial import Trial, source

OVERLAP = "--handover overlap --stop-timeout 60 --takeover-timeout 2"


def drains(trial: Trial, release: int) -> Fifo:
    """Deploy a release whose worker, told to stop, says so and finishes when there is something in the FIFO."""
    fifo = trial.fifo(f"drain-{release}")
    shut_down = f"os.write(1, f'release {release} drains\\n'.encode())\nopen({fifo.path!r}).readline()"
    trial.deploy(release, source(release, shut_down=shut_down))
    return fifo


def test_a_stop_waits_for_three_generations(trial: Trial) -> None:
    """They drain longer than TimeoutStopSec= allows; all of them finish, and the unit ends well."""
    trial.install(f"TimeoutStopSec={LIMIT}", options=OVERLAP)
    journal = trial.follow()
    fifos = [drains(trial, 1)]
    trial.start()
    for release in 2, 3:
        fifos.append(drains(trial, release))
        assert trial.reload() == 0
        journal.wait_for(f"release {release - 1} drains")
        trial.assert_serves(release)
    with trial.calling("stop") as call:
        journal.wait_for("release 3 drains")
        outlast(trial)
        assert call.poll() is None
        for fifo in fifos:
            fifo.write("go\n")
        assert call.wait(20) == 0
    trial.assert_gone()
    story = trial.story()
    assert [story.says(f"release {release} stops") for release in (1, 2, 3)] == [True] * 3


def test_a_restart_waits_for_a_generation_that_drains(trial: Trial) -> None:
    """`systemctl restart` lets it finish, then the new one starts."""
    trial.install(options=OVERLAP)
    journal = trial.follow()
    fifo = drains(trial, 1)
    trial.start()
    trial.deploy(2)
    assert trial.reload() == 0
    journal.wait_for("release 1 drains")
    with trial.calling("restart") as call:
        journal.wait_for("release 2 stops")
        fifo.write("go\n")
        assert call.wait(20) == 0
    journal.wait_for("release 1 stops")
    trial.assert_serves(2)


def test_a_check_that_fails_is_the_reason(trial: Trial) -> None:
    """`systemctl reload` fails, the status says what before_commit said, and the old worker has served all along."""
    trial.install(options=f"{OVERLAP} --listen http=/run/sdsupervise/{trial.name}/http")
    trial.deploy(1)
    trial.start()
    before = (trial.main_pid, trial.worker_pid)
    command = "['/bin/sh', '-c', 'echo the page says 500; exit 1']"
    trial.deploy(
        2, source(2).replace("can_do_hot_reload = True", f"can_do_hot_reload = True; before_commit = {command}")
    )
    assert trial.reload() == 1
    assert "exited with status 1: the page says 500" in trial.status
    assert (trial.main_pid, trial.assert_serves(1)["pid"]) == before
    trial.deploy(3)
    assert trial.reload() == 0
    trial.assert_serves(3)
