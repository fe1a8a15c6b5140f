"""restart and restart_prevent: after some ends of a command the service ends, as the command did."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.harness import Ground
from tests.support.running import Running

BOTH = pytest.mark.parametrize("handover", ["exclusive", "overlap"])
ENDS = 'report("serves"); notify("READY=1"); wait_at_gate("waits"); {deed}'
ON_FAILURE, ON_ABNORMAL, PREVENT = ("--restart", "on-failure"), ("--restart", "on-abnormal"), ("--restart-prevent", "3")


def start(ground: Ground, deed: str, *options: str) -> Running:
    ground.make_gate()
    ground.program(1, ENDS.format(deed=deed))
    running = ground.run_command("current/program", options=["--delay-before-respawn", "0", *options])
    ground.expect("waits")
    return running


@BOTH
@pytest.mark.parametrize(
    ("deed", "options", "status", "why"),
    [
        ("sys.exit(0)", ON_FAILURE, 0, 'exited with status 0, and restart is "on-failure"'),
        ("os.kill(os.getpid(), signal.SIGTERM)", ON_FAILURE, 0, 'killed by SIGTERM, and restart is "on-failure"'),
        ("sys.exit(4)", ON_ABNORMAL, 4, 'exited with status 4, and restart is "on-abnormal"'),
        ("sys.exit(3)", PREVENT, 3, "exited with status 3, which restart_prevent lists"),
        ("sys.exit(0)", ("--restart-prevent", "0,3"), 0, "exited with status 0, which restart_prevent lists"),
        ("sys.exit(3)", (*ON_FAILURE, *PREVENT), 3, "exited with status 3, which restart_prevent lists"),
    ],
)
def test_service_ends(
    ground: Ground, deed: str, options: tuple[str, ...], status: int, why: str, handover: str
) -> None:
    """The supervisor stops the other workers, and ends with the status of the command; a clean signal is status 0."""
    running = start(ground, deed, "--handover", handover, "--workers", "3", *options)
    running.expect_line("Generation 1 serves")
    ground.open_gate()
    running.expect_line(f"The command (was )?{why}: the service ends$")
    assert running.wait() == status
    ground.expect_nothing_left()


@BOTH
@pytest.mark.parametrize(
    ("deed", "options"),
    [
        ("sys.exit(0)", PREVENT),
        ("sys.exit(4)", (*ON_FAILURE, *PREVENT)),
        ("os.kill(os.getpid(), signal.SIGKILL)", (*ON_FAILURE, *PREVENT)),
        ("os.kill(os.getpid(), signal.SIGKILL)", (*ON_ABNORMAL, *PREVENT)),
        ('notify("WATCHDOG=trigger"); signal.pause()', (*ON_FAILURE, *PREVENT)),
    ],
)
def test_command_starts_again(ground: Ground, deed: str, options: tuple[str, ...], handover: str) -> None:
    """Any other end is one after which it starts again."""
    running = start(ground, deed, "--handover", handover, *options)
    first = ground.expect("serves").pid
    ground.open_gate()
    assert ground.expect("serves").pid != first
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


@BOTH
def test_start_with_a_status_that_is_final(ground: Ground, handover: str) -> None:
    """A status of restart_prevent ends the service before the command was ready, too: another start would not help."""
    ground.program(1, "sys.exit(3)")
    running = ground.run_command("current/program", options=["--handover", handover, *PREVENT])
    assert running.wait() == 3
    assert running.err.count("Worker (pid") == 1
    assert "The command exited with status 3, which restart_prevent lists: the service ends" in running.err


@BOTH
def test_clean_end_before_it_is_ready(ground: Ground, handover: str) -> None:
    """A command that ends with status 0 before it sends READY=1 has failed to start, and is tried again."""
    ground.program(1, 'report("starts"); sys.exit(0)')
    options = ["--handover", handover, "--delay-before-respawn", "0.01", *ON_FAILURE, "--restart-prevent", "0"]
    running = ground.run_command("current/program", options=options)
    assert ground.expect("starts").pid != ground.expect("starts").pid
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


@BOTH
@pytest.mark.parametrize("deed", ["sys.exit(0)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_clean_end_within_ready_after(ground: Ground, deed: str, handover: str) -> None:
    """A command that need not send READY=1 may have nothing to do."""
    ground.program(1, deed)
    running = ground.run_command(
        "current/program", options=["--handover", handover, "--ready-after", "50", *ON_FAILURE]
    )
    assert running.wait() == 0
    assert running.err.count("Worker (pid") == 1


HEEDS = 'signal.signal(signal.SIGHUP, lambda *_: os._exit(3)); report("serves"); notify("READY=1"); wait()'
WARMS = 'report("starts"); wait_at_gate("warms"); {deed}; notify("READY=1"); report("serves"); wait()'


@pytest.mark.parametrize("fails", [False, True])
def test_end_during_a_reload(ground: Ground, fails: bool) -> None:
    """The reload goes on when an old command ends. If it is done, the new code serves; if it fails, the service ends
    with the status of the old command."""
    ground.program(1, HEEDS)
    running = ground.run_command("current/program", options=["--handover", "overlap", *PREVENT])
    old = ground.expect("serves")
    ground.make_gate()
    ground.program(2, WARMS.format(deed="sys.exit(4)" if fails else "pass"))
    reload = ground.reload_process()
    ground.expect("warms")
    os.kill(old.pid, signal.SIGHUP)
    running.expect_line("exited with status 3$")
    ground.open_gate()
    if fails:
        assert reload.wait() == 1
        running.expect_line("exited with status 3, which restart_prevent lists: the service ends$")
        assert running.wait() == 3
    else:
        ground.expect("serves")
        assert reload.wait() == 0
        assert running.wait() == 0
        assert ground.status()["state"] == "serving"


@BOTH
def test_end_by_a_reload_signal(ground: Ground, handover: str) -> None:
    """If the signal of a reload makes the command end for good, the reload has failed, and the service ends."""
    ground.program(1, HEEDS)
    running = ground.run_command(
        "current/program", options=["--handover", handover, "--reload-signal", "SIGHUP", *PREVENT]
    )
    ground.expect("serves")
    running.expect_line("Generation 1 serves")
    failed = ground.reload()
    assert failed.returncode == 1, failed
    assert running.wait() == 3
