"""The journal of a unit's life: one entry for each transition, with its fields, and what `journalctl -x` says to it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from sdsupervise.systemd.catalog import CatalogEntry
from tests.support.journal import Entry
from tests.support.trial import Trial, source

CATALOG = Path(__file__).parents[2] / "units/sdsupervise.catalog"


def events(trial: Trial) -> list[Entry]:
    """The entries of all transitions, in order."""
    return [entry for entry in trial.story().own if "SDSUPERVISE_EVENT" in entry]


def only(trial: Trial, word: str) -> Entry:
    """The only entry of this event."""
    (entry,) = (entry for entry in events(trial) if entry["SDSUPERVISE_EVENT"] == word)
    return entry


def crash_and_reload(trial: Trial) -> int:
    """Kill the worker, fail to reload, and reload; the pid of that worker."""
    journal = trial.follow()
    worker = trial.worker_pid
    trial.kill(worker, signal.SIGKILL)
    journal.wait_for("of generation 1 is ready")
    trial.deploy(2, source(2, top="import requsts"))
    assert trial.reload() == 1
    trial.deploy(3)
    assert trial.reload() == 0
    return worker


def test_a_life(trial: Trial) -> None:
    """A start, a crash, a reload that fails, one that does not, and a stop: each transition has one entry, which tells
    whom, why and how long."""
    trial.start()
    first = trial.main_pid
    worker = crash_and_reload(trial)
    trial.machine.wait_until_gone(first, timeout_seconds=10)
    trial.stop()
    told = events(trial)
    assert [entry["SDSUPERVISE_EVENT"] for entry in told if entry["_PID"] == str(first)] == [
        *("starting", "worker-ready", "serving", "worker-crashed", "worker-ready"),
        *("reload-started", "rolled-back"),
        *("reload-started", "reload-phase", "reload-phase", "reload-phase", "reloaded", "drained"),
    ]
    assert [entry["SDSUPERVISE_EVENT"] for entry in told if entry["_PID"] != str(first)] == [
        *("starting", "worker-ready", "stopping", "stopped"),
    ]
    for entry in told:
        assert CatalogEntry(entry["MESSAGE_ID"]).word == entry["SDSUPERVISE_EVENT"]
        assert entry["SDSUPERVISE_ROLE"] == "supervisor" and entry["SYSLOG_IDENTIFIER"] == "Trial"
    crash = only(trial, "worker-crashed")
    assert (crash["SDSUPERVISE_WORKER_PID"], crash["SDSUPERVISE_WORKER_INDEX"]) == (str(worker), "0")
    assert (crash["SDSUPERVISE_REASON"], crash["PRIORITY"]) == ("was killed by SIGKILL", "4")
    assert float(crash["SDSUPERVISE_DURATION_SEC"]) > 0
    failed = only(trial, "rolled-back")
    assert (failed["SDSUPERVISE_VERDICT"], failed["SDSUPERVISE_GENERATION"]) == ("failed", "1")
    assert failed["SDSUPERVISE_REASON"].endswith("ModuleNotFoundError: No module named 'requsts'")
    done = only(trial, "reloaded")
    assert (done["SDSUPERVISE_VERDICT"], done["SDSUPERVISE_GENERATION"]) == ("done", "2")
    assert re.fullmatch(r"\d+\.\d{3}", done["SDSUPERVISE_DURATION_SEC"])
    phases = [entry["SDSUPERVISE_PHASE"] for entry in told if entry["SDSUPERVISE_EVENT"] == "reload-phase"]
    assert phases == ["yielding", "yielded", "committing"]
    assert only(trial, "stopping")["SDSUPERVISE_REASON"] == "A stop was requested."
    # There is no before_commit here, and no probation: no status speaks of them.
    assert not [text for text in trial.story().told("STATUS") if "checked" in text or "probation" in text]


def test_what_the_catalog_says(trial: Trial) -> None:
    """It can be compiled, and `journalctl -x` says what an entry means and what to do, with the entry's own words."""
    machine = trial.machine
    machine.write("/usr/lib/systemd/catalog/sdsupervise.catalog", CATALOG.read_text())
    compiled = machine.run("journalctl", "--update-catalog")
    assert "sdsupervise" not in compiled.stdout + compiled.stderr
    listed = machine.run("journalctl", "--list-catalog").stdout
    assert {line.split()[0] for line in listed.splitlines() if "sdsupervise" in line} == {
        news.value for news in CatalogEntry
    }
    trial.start()
    worker = crash_and_reload(trial)
    machine.run("journalctl", "--sync")
    shown = machine.run("journalctl", "--catalog", f"--after-cursor={trial.began}", "SYSLOG_IDENTIFIER=Trial").stdout
    for sentence in (
        f"Worker 0 (pid {worker}) was killed by SIGKILL. Another worker",
        f"journalctl _PID={worker}",
        "Subject: A reload has failed, the old code keeps serving",
        "ModuleNotFoundError: No module named 'requsts'\n░░ \n░░ Generation 1 serves as before.",
        "Subject: The service has been reloaded",
        "Generation 2 serves after 0.",
    ):
        assert sentence in shown
    assert not re.search("@SDSUPERVISE_[A-Z_]+@", shown)


def test_a_command_that_is_told(trial: Trial) -> None:
    """notify_command runs in the unit, of which it has the name, and with nothing of systemd's."""
    fifo = trial.fifo("told")
    command = ["/bin/sh", "-c", f"env | sort >{fifo.path}"]
    told = f"can_do_hot_reload = True; notify_command = {command}"
    trial.deploy(1, source(1).replace("can_do_hot_reload = True", told))
    trial.install("WatchdogSec=30")
    trial.start()
    trial.deploy(2, source(2, top="1 / 0"))
    assert trial.reload() == 1
    environment = dict(line.split("=", 1) for line in fifo.read().splitlines())
    assert environment["SDSUPERVISE_EVENT"] == "rolled-back"
    assert environment["SDSUPERVISE_UNIT"] == trial.unit
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"} & environment.keys()
    trial.deploy(3, source(3).replace("can_do_hot_reload = True", told))
    assert trial.reload() == 0
    assert f"SDSUPERVISE_PID={trial.main_pid}\n" in fifo.read()


def test_giving_up_is_told_before_the_unit_fails(trial: Trial) -> None:
    """The command is given its time, though the start has failed already; the unit's status is the reason."""
    fifo = trial.fifo("told")
    code = source(1, warm_up="raise OSError('no disk')")
    command = ["/bin/sh", "-c", f"read line <{fifo.path}; echo $SDSUPERVISE_EVENT: $SDSUPERVISE_REASON"]
    trial.deploy(1, code.replace("can_do_hot_reload = True", f"can_do_hot_reload = True; notify_command = {command}"))
    trial.install("Restart=no")
    trial.ends_failed = True
    with trial.calling("start") as call:
        journal = trial.follow()
        journal.wait_for(lambda entry: entry.get("SDSUPERVISE_EVENT") in ("gave-up", "stopping"))
        fifo.write("go on\n")
        assert call.wait(20) == 1
    gave_up = only(trial, "gave-up")
    assert "The service did not get ready" in gave_up["MESSAGE"] and "OSError: no disk" in gave_up["SDSUPERVISE_REASON"]
    assert trial.status == gave_up["SDSUPERVISE_REASON"]
    assert trial.processes == []


def test_a_crash_loop(trial: Trial) -> None:
    """It is said once, the status says why no worker is there, and a reload to better code is the cure."""
    bad = source(1, serve="raise OSError('no disk')")
    trial.deploy(1, bad.replace("delay_before_respawn = 0", "delay_before_respawn = 0.05; respawn_backoff_limit = 0.4"))
    journal = trial.follow()
    trial.start()
    told = journal.wait_for(lambda entry: entry.get("SDSUPERVISE_EVENT") == "crash-loop")
    assert told["SDSUPERVISE_REASON"] == "the worker exited with status 1 (OSError: no disk)"
    for _ in range(2):
        journal.wait_for("exited with status 1")
    statuses = [text for text in trial.story().told("STATUS") if "no disk" in text]
    assert (
        "Nobody serves (generation 1): the worker exited with status 1 (OSError: no disk), the next starts 0.4 s later"
        in statuses[-1]
    )
    trial.deploy(2)
    assert trial.reload() == 0
    assert only(trial, "crash-loop")["MESSAGE"].endswith("(OSError: no disk), again and again")
