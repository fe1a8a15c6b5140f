"""No phase's own deadline is cut short by systemd's: EXTEND_TIMEOUT_USEC keeps systemd waiting while a phase lasts."""

from __future__ import annotations

import pytest

from tests.support.fifos import Fifo
from tests.support.trial import Trial, source

# systemd's own limits. What is slow below outlasts them by as much again, timed by systemd itself (`outlast`).
LIMIT = "2s"
OUTLAST_SECONDS = 5.0


@pytest.fixture
def hurried(trial: Trial) -> Trial:
    """A unit to which systemd gives little time."""
    trial.install(f"TimeoutStartSec={LIMIT}", f"TimeoutStopSec={LIMIT}")
    return trial


def slow(fifo: Fifo) -> str:
    """Code that goes on when the FIFO is written to."""
    return f"print('being slow'); open({fifo.path!r}).readline()"


def outlast(trial: Trial) -> None:
    """Wait until systemd's clock says that its limit is over, twice; a timer of systemd's own tells."""
    name = f"{trial.name}-clock"
    trial.machine.run(
        "systemd-run",
        f"--unit={name}",
        f"--on-active={OUTLAST_SECONDS}",
        "--timer-property=AccuracySec=1ms",
        "echo",
        "it is time",
    )
    trial.machine.follow_journal(f"{name}.service", after=trial.began).wait_for("it is time")


def outlasts(trial: Trial, verb: str, go_on: Fifo) -> None:
    """`systemctl VERB` waits longer than systemd's limits, and ends well when what it waits for goes on."""
    with trial.calling(verb) as call:
        outlast(trial)
        assert call.poll() is None
        go_on.write("now\n")
        assert call.wait(20) == 0


def test_a_slow_start(hurried: Trial) -> None:
    """A worker that warms up for longer than TimeoutStartSec= gets the time."""
    go_on = hurried.fifo("go_on")
    hurried.deploy(1, source(1, warm_up=slow(go_on)))
    outlasts(hurried, "start", go_on)
    hurried.assert_serves(1)


def test_a_slow_reload(hurried: Trial) -> None:
    """New code that warms up for longer than TimeoutStartSec=, which bounds reloads too, gets the time."""
    go_on = hurried.fifo("go_on")
    hurried.start()
    hurried.deploy(2, source(2, warm_up=slow(go_on)))
    outlasts(hurried, "reload", go_on)
    hurried.assert_serves(2)


def test_a_slow_import_in_a_reload(hurried: Trial) -> None:
    """The same where it is the import that takes long."""
    go_on = hurried.fifo("go_on")
    hurried.start()
    hurried.deploy(2, source(2, top=f"open({go_on.path!r}).readline()"))
    outlasts(hurried, "reload", go_on)
    hurried.assert_serves(2)


def test_a_longer_reload_timeout(hurried: Trial) -> None:
    """New code that gives itself more time than the old code did gets that time, from systemd too."""
    go_on = hurried.fifo("go_on")
    hurried.deploy(1, source(1, top="SupervisedDaemon.reload_timeout = 4.0"))
    hurried.start()
    hurried.deploy(2, source(2, top="SupervisedDaemon.reload_timeout = 60.0", warm_up=slow(go_on)))
    outlasts(hurried, "reload", go_on)
    hurried.assert_serves(2)


def test_a_longer_reload_timeout_in_the_file(trial: Trial) -> None:
    """So it does for an import that takes long, where the instance's file gives that time: it is read before."""
    go_on = trial.fifo("go_on")
    file = f"/srv/{trial.name}/{trial.name}.toml"
    text = f'directory = "{trial.current}"\nservice = "trial.py:Trial"\nreload_timeout = '
    trial.machine.write(file, f"{text}4\n")
    trial.install(f"TimeoutStartSec={LIMIT}", command=f"/usr/bin/sdsupervise run --config {file}")
    trial.start()
    trial.machine.write(file, f"{text}60\n")
    trial.deploy(2, source(2, top=f"open({go_on.path!r}).readline()"))
    outlasts(trial, "reload", go_on)
    trial.assert_serves(2)


def test_a_slow_return(hurried: Trial) -> None:
    """An old worker that takes longer than systemd's limits to come back is waited for: the reload has failed when it
    serves again, and STATUS says meanwhile that nobody does."""
    go_on = hurried.fifo("go_on")
    again = f"if os.path.exists({go_on.path!r} + '.again'): {slow(go_on)}"
    hurried.deploy(1, source(1, warm_up=again))
    hurried.start()
    hurried.deploy(2, source(2, top="SupervisedDaemon.probation = 60.0", serve="raise OSError('no disk')"))
    hurried.machine.write(f"{go_on.path}.again", "")
    journal = hurried.follow()
    with hurried.calling("reload") as call:
        outlast(hurried)
        journal.wait_for("being slow")
        assert call.poll() is None
        assert hurried.status == "Nobody serves (generation 1): a worker is starting; generation 2 failed"
        go_on.write("now\n")
        assert call.wait(20) == 1
    hurried.assert_serves(1)
    assert "Generation 1 serves " in hurried.status and "failed: OSError: no disk (on probation)" in hurried.status


def test_a_slow_yield(hurried: Trial) -> None:
    """An old worker that takes longer than systemd's limits to stop for the new one gets the time."""
    go_on = hurried.fifo("go_on")
    hurried.deploy(1, source(1, shut_down=f"open({go_on.path!r}).readline()"))
    hurried.start()
    hurried.deploy(2)
    outlasts(hurried, "reload", go_on)
    hurried.assert_serves(2)
    assert not hurried.story().says("Killing worker")


def test_a_long_probation(hurried: Trial) -> None:
    """A probation longer than systemd's limits is kept to its end."""
    hurried.install(f"TimeoutStartSec={LIMIT}", options=f"--probation {OUTLAST_SECONDS}")
    hurried.start()
    hurried.deploy(2)
    assert hurried.reload() == 0
    hurried.assert_serves(2)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_slow_stop(hurried: Trial, generation: int) -> None:
    """A worker that takes longer than TimeoutStopSec= to shut down gets the time, in every generation."""
    go_on = hurried.fifo("go_on")
    hurried.deploy(1, source(1, shut_down=f"open({go_on.path!r}).readline()"))
    if generation == 2:
        hurried.deploy(0)
        hurried.start()
        hurried.deploy(1, source(1, shut_down=f"open({go_on.path!r}).readline()"))
        assert hurried.reload() == 0
    else:
        hurried.start()
    outlasts(hurried, "stop", go_on)
    hurried.assert_gone()
    story = hurried.story()
    assert story.says("release 1 stops")
    assert not story.says("timed out")


def test_our_own_deadlines_end_what_hangs(trial: Trial) -> None:
    """Systemd waits for us, and we do not wait for ever: a worker that will not stop is killed after stop_timeout, and
    the unit ends well."""
    trial.deploy(1, source(1, shut_down="while True: signal.pause()"))
    trial.install(options="--stop-timeout 0.5")
    trial.start()
    trial.stop()
    trial.assert_gone()
    assert trial.story().says("and still runs; it never sent a ping")
