"""`systemctl stop` at every stage of a reload: the unit ends inactive with Result=success, and nothing is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sdsupervise.core.takeover import RULES, Event, State
from tests.docs.documents import CLONE
from tests.support.fifos import Gate
from tests.support.machine import Machine
from tests.support.places import NAMES_MAIN
from tests.support.trial import Trial, source

sys.path.append(str(CLONE / "packaging" / "man"))
from states import good_reload

# A reload that goes well, first as the predecessor and then as the successor goes through it.
_WAY = tuple((state, event) for each in ("old", "new") for who, state, event in good_reload("exclusive") if who == each)
# From here on the caller may have been told already that the reload is done.
_AFTER_THE_COMMIT = ("ON_TRIAL+CHECK_PASSED/1", "ON_TRIAL+PEER_COMMITTED", "COMMITTING+BARRIER_RETURNED/3", "DRAINING+")


def stages(*transitions: tuple[State, Event]) -> list[str]:
    """A place before each effect of these rules, and one after all of them."""
    return [
        f"{state.name}+{event.name}/{effect}"
        for state, event in transitions
        for effect in range(len(RULES[state][event].effects) + 1)
    ]


@contextmanager
def held_reload(trial: Trial, stage: str, *, options: str = "") -> Iterator[Gate]:
    """A `systemctl reload` in which one side has stopped at a breakpoint."""
    gate = trial.gate()
    transition, _, effect = stage.partition("/")
    trial.install(gate.setting(transition, int(effect)), options=options)
    trial.start()
    with trial.calling("reload") as call:
        gate.wait_until_reached()
        yield gate
        gate.open()
        status = call.wait(20)
    if not stage.startswith(_AFTER_THE_COMMIT):
        assert status != 0, "the reload was cut short, and its caller was told that it is done"


def stop_while_held(trial: Trial, gate: Gate) -> None:
    """`systemctl stop`; the breakpoint is opened as soon as systemd has sent its SIGTERM."""
    journal = trial.follow()
    with trial.calling("stop") as stop:
        journal.wait_for("-> stop-sigterm")
        gate.open()
        assert stop.wait(20) == 0
    trial.assert_gone()


@pytest.mark.parametrize("stage", stages(*_WAY))
def test_stop_at_every_stage_of_a_reload(trial: Trial, stage: str) -> None:
    """Wherever a reload is, a stop ends the service: nothing is killed by systemd, nothing is left, no restart, and
    whoever asked for the reload is not told that it is done."""
    trial.main_pid_is_doubtful = stage.startswith(NAMES_MAIN)
    with held_reload(trial, stage) as gate:
        stop_while_held(trial, gate)
    assert trial.show("NRestarts")["NRestarts"] == "0"
    assert_workers_shut_down(trial)


def assert_workers_shut_down(trial: Trial) -> None:
    """Each worker that served was told to stop and did; none was killed."""
    messages = [entry["MESSAGE"] for entry in trial.story().own]
    assert messages.count("release 1 stops") >= messages.count("release 1 serves") > 0
    assert not any(message.startswith("Killing worker") for message in messages)


# The ways back, each with the new code that leads there.
_BROKEN = {
    (State.STARTING_SUCCESSOR, Event.PEER_GONE): source(2, top="import requsts"),
    (State.STARTING_SUCCESSOR, Event.DEADLINE): source(2, top="signal.pause()"),
    (State.CANCELLING, Event.PEER_GONE): source(2, top="signal.pause()"),
    (State.WARMING, Event.WORKER_GONE): source(2, warm_up="1 / 0"),
    (State.FAILED, Event.NO_WORKER): source(2, warm_up="1 / 0"),
    (State.WATCHING, Event.PEER_FAILED): source(2, facts="pass").replace("self.serve(server)", "1 / 0"),
    (State.KILLING_SUCCESSOR, Event.PEER_GONE): source(2, facts="pass").replace("self.serve(server)", "1 / 0"),
    (State.TAKING_LOCK_BACK, Event.LOCK_GAINED): source(2, facts="pass").replace("self.serve(server)", "1 / 0"),
    (State.RESTORING, Event.WORKERS_SETTLED): source(2, facts="pass").replace("self.serve(server)", "1 / 0"),
}


_TOO_SLOW = (("STARTING_SUCCESSOR", "DEADLINE"), ("CANCELLING", "PEER_GONE"))


@pytest.mark.parametrize("stage", stages(*_BROKEN))
def test_stop_at_every_stage_of_a_rollback(trial: Trial, stage: str) -> None:
    """The same while a reload is being taken back."""
    state, event = (stage.partition("/")[0]).split("+")
    trial.deploy(1)
    gate = trial.gate()
    trial.install(
        gate.setting(f"{state}+{event}", int(stage.partition("/")[2])),
        options=f"--probation 20 {'--reload-timeout 0.5' if (state, event) in _TOO_SLOW else ''}",
    )
    trial.start()
    trial.deploy(2, _BROKEN[State[state], Event[event]])
    with trial.calling("reload") as call:
        gate.wait_until_reached()
        stop_while_held(trial, gate)
        assert call.wait(20) != 0
    assert trial.show("NRestarts")["NRestarts"] == "0"


def test_stop_without_a_reload(trial: Trial) -> None:
    """STOPPING=1 comes at once; the worker's supervised_shutdown runs; systemd need not kill anybody."""
    trial.start()
    trial.stop()
    story = trial.story()
    assert story.told("STOPPING") == ["1"]
    assert story.says("release 1 stops")
    assert not story.says("SIGKILL")
    assert story.changes[-2:] == [("running", "stop-sigterm"), ("stop-sigterm", "dead")]
    assert not trial.machine.exists(f"/run/sdsupervise/{trial.name}/control")


JOURNALD = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service")


def test_stop_without_a_journal(fresh_machine: Machine) -> None:
    """Whoever read what the supervisor wrote has gone: a reload that fails and a stop end as they do else."""
    machine = fresh_machine
    trial = Trial(machine, "unheard")
    trial.deploy(1)
    trial.install()
    trial.start()
    machine.run("systemctl", "stop", *JOURNALD, "systemd-journald-audit.socket")
    trial.deploy(2, source(2, top="import requsts"))
    assert trial.reload() == 1
    trial.assert_serves(1)
    trial.stop()
    trial.assert_gone()
    assert trial.show("ExecMainStatus") == {"ExecMainStatus": "0"}


def test_stop_while_starting(trial: Trial) -> None:
    """A start that is stopped ends at once; the worker that warms up is told."""
    warming = trial.fifo("warming")
    trial.deploy(1, source(1, warm_up=f"open({warming.path!r}, 'w').write('here'); signal.pause()"))
    with trial.calling("start") as start:
        assert warming.read() == "here"
        trial.stop()
        assert start.wait(20) == 1
    trial.assert_gone()
    assert trial.story().says("release 1 stops")


def test_stop_while_the_start_still_imports(trial: Trial) -> None:
    """A start that is stopped before the service is even loaded leaves nothing."""
    warming = trial.fifo("warming")
    trial.deploy(1, source(1, top=f"open({warming.path!r}, 'w').write('here'); signal.pause()"))
    with trial.calling("start") as start:
        assert warming.read() == "here"
        trial.stop()
        assert start.wait(20) == 1
    trial.assert_gone()


def test_stop_while_the_new_code_is_imported(trial: Trial) -> None:
    """A stop does not wait for new code that hangs in its import."""
    warming = trial.fifo("warming")
    trial.start()
    trial.deploy(2, source(2, top=f"open({warming.path!r}, 'w').write('here')\nwhile True: signal.pause()"))
    with trial.calling("reload") as call:
        assert warming.read() == "here"
        trial.stop()
        assert call.wait(20) == 1
    trial.assert_gone()
