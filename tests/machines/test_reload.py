"""`systemctl reload` with good code and with every kind of broken code."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

import pytest

from tests.support.trial import Trial, source, wait_for_all

RELOADS_IN_A_ROW = 100


def test_a_reload_moves_to_the_new_code(trial: Trial) -> None:
    """rc 0, the new release serves, MainPID is the successor's, and systemd counts no restart."""
    trial.start()
    old = trial.main_pid
    trial.deploy(2)
    assert trial.reload() == 0
    new = trial.main_pid
    assert new != old
    assert trial.assert_serves(2)["environment"]["INVOCATION_ID"] == trial.show("InvocationID")["InvocationID"]
    assert trial.show("NRestarts", "Result") == {"NRestarts": "0", "Result": "success"}
    assert trial.status.startswith(f"Generation 2 serves /srv/{trial.name}/releases/2/trial.py (")
    assert trial.strays == []


def test_the_unit_never_leaves_active_or_reloading(trial: Trial) -> None:
    """In systemd's own words the unit goes running > reload > running, and hears MAINPID= and READY=1 in one datagram.
    It is not told of RELOADING=1: it waits for ExecReload= itself, and should not wait on if we die."""
    trial.start()
    old, cursor = trial.main_pid, trial.machine.journal_cursor()
    assert trial.reload() == 0
    assert changes_and_words(trial, cursor) == (
        [("running", "reload"), ("reload", "running")],
        [(old, ["MAINPID", "READY", "STATUS", "WATCHDOG"])],
    )


def test_a_reload_that_systemd_did_not_ask_for(trial: Trial) -> None:
    """By SIGUSR2, or `sdsupervise reload` by its own user, the unit goes the same way, by our word: RELOADING=1 with
    its time stamp, then MAINPID= and READY=1."""
    trial.install("User=games")
    trial.start()
    for by_signal in (True, False):
        old, cursor, journal = trial.main_pid, trial.machine.journal_cursor(), trial.follow()
        if by_signal:
            trial.kill(old, signal.SIGUSR2)
        else:
            trial.machine.run("setpriv", "--reuid=games", "--clear-groups", "sdsupervise", "reload", trial.name)
        wait_for_all(journal, "-> reload", "-> running")
        assert changes_and_words(trial, cursor) == (
            [("running", "reload"), ("reload", "running")],
            [
                (old, ["MONOTONIC_USEC", "RELOADING", "STATUS"]),
                (old, ["MAINPID", "READY", "STATUS", "WATCHDOG"]),
            ],
        )


def changes_and_words(trial: Trial, cursor: str) -> tuple[list[tuple[str, str]], list[tuple[int, list[str]]]]:
    """How the unit went from there, and what it was told that bears on it, by whom."""
    story = trial.story(after=cursor)
    told = [said for said in story.notifications if {"RELOADING", "READY", "MAINPID"} & said.fields.keys()]
    named = [said.fields["MAINPID"] for said in told if "MAINPID" in said.fields]
    assert named == [str(trial.main_pid)]
    return story.changes, [(said.sender, sorted(said.fields)) for said in told]


def test_a_hundred_reloads_in_a_row(trial: Trial) -> None:
    """Each has a main pid of its own, none fails, nothing is left over, and descriptors do not pile up."""
    trial.start()
    main_pids, descriptors = [trial.main_pid], []
    for _ in range(RELOADS_IN_A_ROW):
        assert trial.reload() == 0
        main_pids.append(trial.main_pid)
        with trial.machine.inside.directory(f"/proc/{main_pids[-1]}/fd") as directory:
            descriptors.append(len(os.listdir(directory)))
    assert len(set(main_pids)) == RELOADS_IN_A_ROW + 1
    assert trial.show("NRestarts", "ActiveState") == {"NRestarts": "0", "ActiveState": "active"}
    assert trial.strays == []
    assert trial.status.startswith(f"Generation {RELOADS_IN_A_ROW + 1} serves")
    # A predecessor that has not quite gone accounts for a few.
    assert min(descriptors[-10:]) - min(descriptors[:10]) <= 1, descriptors
    story = trial.story()
    assert [said.fields["MAINPID"] for said in story.notifications if "MAINPID" in said.fields] == [
        str(pid) for pid in main_pids[1:]
    ]
    assert story.changes.count(("running", "reload")) == RELOADS_IN_A_ROW
    assert story.states == {"start", "running", "reload"}


class Broken(NamedTuple):
    """New code, and what is to be said of it."""

    code: str
    reason: str
    options: str = ""


BROKEN = {
    "syntax error": Broken(source(2, top="def :"), "SyntaxError: invalid syntax"),
    "import error": Broken(source(2, top="import requsts"), "ModuleNotFoundError: No module named 'requsts'"),
    "raises while imported": Broken(source(2, top="1 / 0"), "ZeroDivisionError: division by zero"),
    "exits while imported": Broken(source(2, top="sys.exit(0)"), "SystemExit: 0"),
    "exits at once": Broken(source(2, top="os._exit(0)"), "died without a message"),
    "crashes at once": Broken(source(2, top="os.kill(os.getpid(), signal.SIGSEGV)"), "died without a message"),
    "killed at once": Broken(source(2, top="os.kill(os.getpid(), signal.SIGKILL)"), "died without a message"),
    "speaks and dies": Broken(
        source(2, top="print('no licence', file=sys.stderr); sys.stderr.flush(); os._exit(3)"), "no licence"
    ),
    "no such class": Broken("from sdsupervise import SupervisedDaemon", "name one subclass"),
    "bad setting": Broken(source(2, facts="pass").replace("delay_before_respawn = 0", "stop_timeout = -1"), "-1"),
    "worker raises": Broken(source(2, warm_up="raise RuntimeError('no database')"), "RuntimeError: no database"),
    "worker exits": Broken(source(2, warm_up="sys.exit(0)"), "exited with status 0"),
    "worker crashes": Broken(source(2, warm_up="os.kill(os.getpid(), signal.SIGSEGV)"), "was killed by SIGSEGV"),
    "worker killed": Broken(source(2, warm_up="os.kill(os.getpid(), signal.SIGKILL)"), "was killed by SIGKILL"),
    "never imported": Broken(source(2, top="signal.pause()"), "was not ready within 1 s", "--reload-timeout 1"),
    "never ready": Broken(source(2, warm_up="signal.pause()"), "was not ready within its 1 s", "--reload-timeout 1"),
    "worker too slow": Broken(
        source(2, warm_up="while True: signal.pause()"), "was not ready in 0.5 s", "--start-timeout 0.5"
    ),
}


def assert_failed_reload(trial: Trial, reason: str, *, serving: tuple[int, int]) -> None:
    """A reload fails; the same processes serve on and were never stopped; the reason can be read; and the next good
    reload works."""
    cursor = trial.machine.journal_cursor()
    assert trial.reload() == 1
    answer = trial.assert_serves(1)
    assert (trial.main_pid, answer["pid"]) == serving
    assert reason in trial.status
    story = trial.story(after=cursor)
    said = [entry for entry in story.own if reason in entry["MESSAGE"] and entry.get("PRIORITY") == "3"]
    assert said, "the reason is not in the journal as an error"
    assert story.states == {"reload", "running"}
    assert story.told("MAINPID") == []
    assert trial.strays == []
    assert trial.show("NRestarts", "Result") == {"NRestarts": "0", "Result": "success"}


def assert_next_reload_works(trial: Trial) -> None:
    """Good code after bad."""
    trial.deploy(3)
    assert trial.reload() == 0
    trial.assert_serves(3)
    assert "failed" not in trial.status


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_code_does_not_get_in(trial: Trial, kind: str) -> None:
    """rc 1, the old code serves in the same processes, its worker never stopped; the reason is in STATUS and the
    journal; the next good reload works."""
    broken = BROKEN[kind]
    trial.install(options=broken.options)
    trial.start()
    serving = (trial.main_pid, trial.worker_pid)
    trial.deploy(2, broken.code)
    assert_failed_reload(trial, broken.reason, serving=serving)
    assert_next_reload_works(trial)


def test_an_interpreter_that_is_gone(trial: Trial) -> None:
    """A release without its interpreter does not get in."""
    trial.machine.symlink("/usr/bin/python3", f"/srv/{trial.name}/releases/1/python")
    trial.install(command=f"{trial.current}/python {trial.command}")
    trial.start()
    serving = (trial.main_pid, trial.worker_pid)
    trial.deploy(2)
    assert_failed_reload(trial, f"Cannot execute {trial.current}/python", serving=serving)
    trial.machine.symlink("/usr/bin/python3", f"/srv/{trial.name}/releases/3/python")
    assert_next_reload_works(trial)


def test_a_directory_that_is_gone(trial: Trial) -> None:
    """A symlink to nowhere does not get in."""
    trial.start()
    serving = (trial.main_pid, trial.worker_pid)
    trial.machine.symlink("releases/2", trial.current)
    assert_failed_reload(trial, f"Cannot change to the directory {trial.current}", serving=serving)
    assert_next_reload_works(trial)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_successor_that_is_killed(trial: Trial, number: signal.Signals) -> None:
    """However a successor is killed while it warms up, the old code serves on. (How it died only systemd could tell,
    whose child it is.)"""
    warming = trial.fifo("warming")
    trial.start()
    serving = (trial.main_pid, trial.worker_pid)
    trial.deploy(2, source(2, warm_up=f"open({warming.path!r}, 'w').write(str(os.getppid())); signal.pause()"))
    with trial.calling("reload") as call:
        trial.kill(int(warming.read()), number)
        assert call.wait(20) == 1
    assert (trial.main_pid, trial.assert_serves(1)["pid"]) == serving
    assert "The successor died without a message." in trial.status
    assert trial.story().says("Not reloaded: ")
    assert_next_reload_works(trial)
    assert trial.strays == []
