"""reload_signal: a reload sends a signal to the command, and its verdict is whether the command lives on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Ground
from tests.support.running import Running

QUICK = ("--delay-before-respawn", "0", "--stop-timeout", "5", "--reload-signal", "SIGHUP")
BOTH = pytest.mark.parametrize("handover", ["exclusive", "overlap"])
READS = """
def read(number, frame):
    report("reads")
signal.signal(signal.SIGHUP, read)
"""
READS_LONG = """
def read(number, frame):
    notify("RELOADING=1"); wait_at_gate("reads"); notify("READY=1")
signal.signal(signal.SIGHUP, read)
"""
HOOK = """\
import os
from told import report
report("notified", event=os.environ["SDSUPERVISE_EVENT"], reason=os.environ["SDSUPERVISE_REASON"])
"""
SERVES = 'report("serves", release=release); notify("READY=1"); wait()'


def start(ground: Ground, text: str, *options: object) -> Running:
    ground.program(1, text + SERVES)
    running = ground.run_command("current/program", options=[*QUICK, *options])
    running.expect_line("is ready")
    return running


@BOTH
def test_signal_in_place_of_a_generation(ground: Ground, handover: str) -> None:
    """The command gets the signal and lives on: the reload is done, in the same generation, whatever is on disk."""
    running = start(ground, READS, "--handover", handover)
    before = ground.worker_pids()
    ground.program(2, "sys.exit(3)")
    for _ in range(2):
        done = ground.reload()
        assert done.returncode == 0
        ground.expect("reads")
        sent = rf"RELOADED in [\d.]+ s\. Sent SIGHUP to worker \(pid {before[0]}\); it lives on\.\n"
        assert re.search(sent, done.stdout)
    running.expect_line(rf"Reloaded: Sent SIGHUP to worker \(pid {before[0]}\); it lives on")
    status = ground.status()
    assert (status["generation"], ground.worker_pids()) == (1, before)
    last = status["last_reload"]
    assert isinstance(last, dict) and last["verdict"] == "done"


def test_all_workers_of_a_pool(ground: Ground) -> None:
    """Each worker gets the signal, and programs get the verdict in JSON."""
    start(ground, READS, "--handover", "overlap", "--workers", "3")
    for _ in range(3):
        ground.expect("serves")
    done = ground.finish(ground.run(SDSUPERVISE, "reload", "--json", "--pid-file", ground.pid_file))
    assert done.returncode == 0
    assert {ground.expect("reads").pid for _ in range(3)} == set(ground.worker_pids())
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert (verdict["verdict"], verdict["generation"], verdict["same_code"]) == ("done", 1, True)
    assert verdict["by_signal"].startswith("Sent SIGHUP to 3 workers (pids ")


@BOTH
def test_command_that_says_how_long_it_reads(ground: Ground, handover: str) -> None:
    """After RELOADING=1 the reload waits for READY=1. Meanwhile another one is refused, and a stop ends it."""
    running = start(ground, READS_LONG, "--handover", handover)
    ground.make_gate()
    reload = ground.reload_process()
    ground.expect("reads")
    refused = ground.reload()
    assert refused.returncode == 1 and "A reload is already in progress." in refused.stderr
    assert reload.alive
    ground.open_gate()
    assert reload.wait() == 0
    again = ground.reload_process()
    ground.expect("reads")
    running.signal(signal.SIGTERM)
    assert again.wait() == 1
    assert "NOT RELOADED: A stop was requested. The service is stopping." in again.err
    assert running.wait() == 0


def test_command_that_reads_for_too_long(ground: Ground) -> None:
    """A command that says RELOADING=1 has reload_timeout; it goes on all the same."""
    start(ground, READS_LONG, "--reload-timeout", "1.5")
    ground.make_gate()
    before = ground.worker_pids()
    failed = ground.reload()
    assert failed.returncode == 1
    why = rf"Worker \(pid {before[0]}\) said RELOADING=1, and no READY=1 within 1.5 s\. Generation 1, .*still serves"
    assert re.search(why, failed.stderr)
    assert ground.worker_pids() == before


@BOTH
def test_command_that_dies_of_it(ground: Ground, handover: str) -> None:
    """A command that ends after the signal is started again, and the reload has failed with its status."""
    text = 'signal.signal(signal.SIGHUP, lambda *_: os._exit(3)); report("starts")\n'
    running = start(ground, text, "--handover", handover)
    before = ground.worker_pids()
    failed = ground.reload()
    assert failed.returncode == 1
    why = rf"The worker \(pid {before[0]}\) exited with status 3 after SIGHUP\. Generation 1, .*, still serves; "
    assert re.search(why + "its worker ended and was started again from what is on disk", failed.stderr)
    running.expect_line("Not reloaded: .* exited with status 3 after SIGHUP")
    (now,) = ground.worker_pids()
    assert now != before[0] and ground.status()["state"] == "serving"


def test_command_that_dies_for_good(ground: Ground) -> None:
    """If the command does not start again either, the verdict and notify_command say that nobody serves."""
    program = ground.write("hook", f"#!{PYTHON}\n{HOOK}", 0o755)
    text = """
    if os.path.exists(GROUND + "/broken"):
        sys.exit(4)
    def read(*_):
        open(GROUND + "/broken", "w").close()
        os._exit(3)
    signal.signal(signal.SIGHUP, read)
    """
    start(ground, text, "--notify-command", program)
    failed = ground.reload()
    assert failed.returncode == 1
    why = r"exited with status 3 after SIGHUP\. NOBODY SERVES: generation 1, "
    assert re.search(why, failed.stderr)
    assert re.search(why, ground.expect("notified", event="nobody-serves").said("reason"))


@BOTH
def test_command_that_waits_for_signals(ground: Ground, handover: str) -> None:
    """It has no handler, and blocks the signal only while it works on another one: it gets the signal all the same."""
    text = """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM})
    notify("READY=1")
    while signal.sigwait({signal.SIGHUP, signal.SIGTERM}) == signal.SIGHUP:
        report("reads")
    sys.exit()
    """
    start(ground, text, "--handover", handover)
    for _ in range(2):
        done = ground.reload()
        assert (done.returncode, done.stderr) == (0, "")
        ground.expect("reads")


def test_command_without_a_handler(ground: Ground) -> None:
    """A signal that would end the command is not sent: the reload is refused."""
    start(ground, "")
    before = ground.worker_pids()
    refused = ground.reload()
    assert refused.returncode == 1
    assert f"Worker (pid {before[0]}) has no handler for SIGHUP: it would end, or do nothing" in refused.stderr
    assert ground.worker_pids() == before
    os.kill(before[0], 0)


def outdated(ground: Ground, *words: str) -> subprocess.CompletedProcess[str]:
    """`sdsupervise reload --outdated`."""
    return ground.finish(ground.run(SDSUPERVISE, "reload", "--outdated", *words, "--pid-file", ground.pid_file))


def started_with_configuration(ground: Ground, *before: object) -> tuple[Path, Path]:
    """A program and its configuration, of a command that begins with these words."""
    program, configuration = ground.program(1, READS + SERVES), ground.write("conf", "colour = red")
    ground.run_command(*before, program, configuration, options=QUICK)
    ground.expect("serves")
    return program, configuration


def test_what_was_read_again_is_not_outdated(ground: Ground) -> None:
    """A configuration that a reload has had the command read again is no reason for the next reload."""
    _, configuration = started_with_configuration(ground)
    assert "nothing to reload" in outdated(ground).stdout
    for colour in ("green", "blue"):
        configuration.write_text(f"colour = {colour}")
        assert f"{configuration} has changed on disk" in outdated(ground, "--dry-run").stdout
        done = outdated(ground)
        assert (done.returncode, "RELOADED" in done.stdout) == (0, True)
        ground.expect("reads")
        assert "nothing to reload" in outdated(ground).stdout


@pytest.mark.parametrize("before", [(), (PYTHON,)], ids=["program", "script"])
def test_what_only_a_restart_applies(ground: Ground, before: tuple[str, ...]) -> None:
    """New code is not reported as reloaded: no signal is sent, and a sentence says what to do."""
    program, configuration = started_with_configuration(ground, *before)
    program.write_text(f"{program.read_text()}\n# changed")
    configuration.write_text("colour = green")
    for words in (("--dry-run",), ()):
        refused = outdated(ground, *words)
        assert refused.returncode == 1
        assert "needs a restart: " in refused.stderr and "A reload only sends SIGHUP" in refused.stderr
        assert "RELOADED" not in refused.stdout
    assert not ground.seen("reads")
    assert ground.reload().returncode == 0  # which does what it says
    ground.expect("reads")
    assert "needs a restart" in outdated(ground).stderr
