"""A command that goes to the background: what it leaves there is found and ended, and it is told how not to."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from sdsupervise.errors import ExitStatus
from sdsupervise.settings import background_programs
from tests.support.harness import Ground
from tests.support.running import Running

QUICK = ("--delay-before-respawn", "0.1", "--stop-timeout", "2")
BOTH = pytest.mark.parametrize("handover", ["exclusive", "overlap"])

# As daemon(3), and more: by two forks, in a session of its own, with no descriptor, no environment, and a title.
DAEMONIZE = """
def daemonize(forks=2, session=True, closes=True, forgets=True):
    for number in range(forks):
        if os.fork():
            os._exit(0)
        if session and not number:
            os.setsid()
    os.chdir("/")
    if closes:
        os.closerange(0, 1000)
        for _ in range(3):
            os.open(os.devnull, os.O_RDWR)
    if forgets:
        kept = {name: os.environ[name] for name in ("GROUND", "PYTHONPATH")}
        os.execve(sys.executable, ["a daemon", "-c", PROGRAM], kept)
PROGRAM = "from told import *; report('daemon'); wait()"
"""
HOW = {
    "one fork": "forks=1, closes=False, forgets=False",
    "no session": "forks=1, session=False",
    "two forks": "closes=False, forgets=False",
    "as a good daemon": "",
}
GOES = DAEMONIZE + "daemonize(); report('daemon'); wait()"
SERVES = 'report("serves", release=release); notify("READY=1"); wait()'
SENTENCE = (
    r"The command went to the background: it exited with status 0 and left pid \d+ \(.+\) running\. Run it in the "
)


def start(ground: Ground, text: str, *options: object) -> Running:
    ground.program(1, text)
    return ground.run_command("current/program", options=[*QUICK, *options])


def expect_failed_start(ground: Ground, running: Running) -> None:
    """It gives up, with a status by which systemd does not start it again, and nothing is left."""
    running.expect_line(r"left a process behind: pid \d+ ")
    running.expect_line(f"{SENTENCE}foreground")
    running.expect_line("The service did not get ready: ")
    assert running.wait() == ExitStatus.CONFIG
    ground.expect_nothing_left()


@BOTH
@pytest.mark.parametrize("how", HOW)
def test_first_start(ground: Ground, handover: str, how: str) -> None:
    """However it hides, it is found and ended, and the start has failed: it is not tried again and again."""
    text = f"{DAEMONIZE}daemonize({HOW[how]}); report('daemon'); wait()"
    running = start(ground, text, "--handover", handover)
    expect_failed_start(ground, running)
    assert len(ground.seen("daemon")) <= 1
    assert running.err.count("went to the background") == 2  # of the worker, and of the service


@BOTH
def test_with_ready_after(ground: Ground, handover: str) -> None:
    """One that would be ready if it lived so long has not."""
    expect_failed_start(ground, start(ground, GOES, "--handover", handover, "--ready-after", "5"))


@BOTH
def test_a_script_that_does_not_wait(ground: Ground, handover: str) -> None:
    """A shell script that ends with a & behind its program is told to exec it."""
    words = ("sh", "-c", "sleep 1000 & sleep 1001 & exit 0")
    running = ground.run_command(*words, options=[*QUICK, "--handover", handover])
    running.expect_line(f"{SENTENCE}foreground: in a script, exec the program as the last command, without a & behind")
    assert running.wait() == ExitStatus.CONFIG
    ground.expect_nothing_left()


@BOTH
def test_one_that_says_that_it_is_ready(ground: Ground, handover: str) -> None:
    """READY=1 from the background, and then the process that was started ends: it is ended and started again, each time
    later, for it did serve."""
    text = f"{DAEMONIZE}notify('READY=1'); barrier(); daemonize()"
    running = start(ground, text, "--handover", handover)
    for _ in range(2):
        running.expect_line(f"{SENTENCE}foreground: the script must not fork and end")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()


@BOTH
def test_reload(ground: Ground, handover: str) -> None:
    """Of new code it is the reason for which the reload fails; the old serves."""
    running = start(ground, SERVES, "--handover", handover)
    ground.expect("serves")
    running.expect_line("is ready")
    ground.program(2, GOES)
    done = ground.reload()
    assert done.returncode == 1
    assert re.search(f"NOT RELOADED: {SENTENCE}foreground: the script must not fork and end", done.stderr)
    (worker,) = ground.worker_pids()
    assert ground.status()["state"] == "serving"
    assert [process.pid for process in ground.leftovers() if psutil.pid_exists(process.pid)].count(worker) == 1
    assert not [process for process in ground.leftovers() if process.cmdline()[:1] == ["a daemon"]]
    os.kill(running.pid, signal.SIGTERM)
    ground.expect_nothing_left()


@BOTH
def test_when_it_is_started_again(ground: Ground, handover: str) -> None:
    """A program that was replaced on disk, and goes to the background where it did not before: a crash, and the next is
    started later each time; a stop leaves nothing."""
    text = f'{DAEMONIZE}if not os.path.exists(GROUND + "/goes"):\n    {SERVES}\ndaemonize()'
    running = start(ground, text, "--handover", handover)
    worker = ground.expect("serves").pid
    running.expect_line("is ready")
    ground.write("goes", "")
    os.kill(worker, signal.SIGKILL)
    running.expect_line("was killed by SIGKILL")
    for _ in range(2):
        running.expect_line(f"{SENTENCE}foreground")
    assert isinstance(crashes := ground.status()["crashes"], int) and crashes >= 2
    os.remove(ground.directory / "goes")
    ground.expect("serves")
    running.expect_line("is ready")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()


@BOTH
def test_what_ends_well_and_leaves_nothing(ground: Ground, handover: str) -> None:
    """One that ends before it was ready has not started: it is tried again, later each time."""
    running = start(ground, 'report("ran"); sys.exit(0)', "--handover", handover)
    running.expect_line("A crash loop: the worker exited with status 0, again and again")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert "background" not in running.err


def test_what_is_left_after_a_long_life(ground: Ground) -> None:
    """A worker that served for long, and leaves something behind when it ends, went nowhere."""
    text = f"{SERVES.replace('wait()', 'os.fork() or wait()')}"
    running = start(ground, text, "--handover", "overlap", "--respawn-forgiven-after", "0")
    running.expect_line("left a process behind")
    ground.expect("serves")
    running.signal(signal.SIGTERM)
    running.wait()
    assert "background" not in running.err
    ground.expect_nothing_left()


def test_a_mark_is_no_limit(ground: Ground) -> None:
    """What marks the processes of a worker keeps no program from locking files."""
    text = """
    import fcntl
    for number in range(100):
        file = open(f"{GROUND}/{number}", "w"); fcntl.lockf(file, fcntl.LOCK_EX); globals()[f"f{number}"] = file
    """
    running = start(ground, text + SERVES, "--handover", "overlap")
    ground.expect("serves")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_advice(tmp_path: Path) -> None:
    """What is known is said, and what is not known is not."""
    assert background_programs.in_foreground("/usr/sbin/nginx") == ": nginx -g 'daemon off;'"
    assert background_programs.in_foreground("php-fpm8.2") == ": php-fpm --nodaemonize"
    assert background_programs.in_foreground("any") == "; its manual says how"
    script = tmp_path / "script"
    for first, advice in (
        ("/bin/sh -e", "exec the program as the last command"),
        ("/usr/bin/env bash", "exec the program as the last command"),
        ("/usr/bin/perl -T", "the script must not fork and end"),
    ):
        script.write_text(f"#!{first}\n")
        assert advice in background_programs.in_foreground(str(script))
    assert background_programs.goes_to_background("memcached") and not background_programs.goes_to_background("sh")


@BOTH
def test_a_stop_on_its_way(ground: Ground, handover: str) -> None:
    """A stop comes when the daemon is there, and the process that was started is still: both are ended."""
    text = f'{DAEMONIZE}if os.fork():\n    wait_at_gate("forked")\n    os._exit(0)\ndaemonize()'
    ground.make_gate()
    running = start(ground, text, "--handover", handover)
    ground.expect("forked")
    ground.expect("daemon")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()
