"""A worker that dies is replaced: when, how often, and what is said."""

from __future__ import annotations

import os
import re
import resource
import signal

import pytest

from tests.support.harness import Ground, service
from tests.support.running import Running


def crash(ground: Ground, running: Running, number: signal.Signals = signal.SIGKILL) -> str:
    """End the worker that serves; the status sentence while there is none."""
    os.kill(ground.expect("serves").pid, number)
    running.expect_line(f"was killed by {number.name}")
    return str(ground.status()["status"])


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"was killed by SIGSEGV( \(core dumped\))?"),
        ("os._exit(3)", "exited with status 3"),
        ("pass", "exited with status 0"),
        ("1 / 0", "exited with status 1"),
        ("os.kill(os.getpid(), 40)", "was killed by SIGRTMIN[+]6"),
    ],
)
def test_exit_in_words(ground: Ground, deed: str, words: str) -> None:
    """A worker's end is a warning that says how it ended in words; another one serves."""
    ground.deploy(1, service(f"def serve(self):\n    {deed}"))
    running = ground.start()
    first = ground.expect("serves").pid
    running.expect_line(rf"^Service\[{running.pid}\]: Worker \(pid {first}\) {words}$")
    assert ground.expect("serves").pid != first


def test_traceback_of_a_worker(ground: Ground) -> None:
    """A worker's exception is its own traceback on standard error, without a frame of ours."""
    ground.deploy(1, service("def serve(self):\n    self.sell()\ndef sell(self):\n    raise LookupError('sold out')"))
    running = ground.start()
    running.expect_line("^Traceback")
    running.expect_line("^LookupError: sold out$")
    running.expect_line("exited with status 1$")
    assert "in sell" in running.err and "sdsupervise/" not in running.err
    assert "During handling" not in running.err


def test_delay(ground: Ground) -> None:
    """While a worker is missing, the status says why, and in how many seconds the next one starts."""
    ground.deploy(1, service("delay_before_respawn = 0.25"))
    running = ground.start()
    assert "Nobody serves (generation 1): the worker was killed by SIGKILL, the next starts 0.25 s later" in crash(
        ground, running
    )
    assert ground.expect("serves").pid == ground.worker_pids()[0]


def test_backoff(ground: Ground) -> None:
    """With each crash in a row the delay doubles, up to its limit."""
    ground.deploy(1, service("delay_before_respawn = 0.15\nrespawn_backoff_limit = 0.4"))
    running = ground.start()
    delays = [re.findall(r"next starts (\S+) s later", crash(ground, running)) for _ in range(4)]
    assert delays == [["0.15"], ["0.3"], ["0.4"], ["0.4"]]
    assert ground.status()["crashes"] == 4


def test_backoff_is_forgotten(ground: Ground) -> None:
    """A worker that lived long enough has paid for the crashes before it."""
    ground.deploy(1, service("delay_before_respawn = 0.15\nrespawn_forgiven_after = 0.0"))
    running = ground.start()
    delays = [re.findall(r"next starts (\S+) s later", crash(ground, running)) for _ in range(3)]
    assert delays == [["0.15"]] * 3


def test_no_backoff(ground: Ground) -> None:
    """respawn_backoff_limit = 0: the original's constant delay."""
    ground.deploy(1, service("delay_before_respawn = 0.15\nrespawn_backoff_limit = 0.0"))
    running = ground.start()
    delays = [re.findall(r"next starts (\S+) s later", crash(ground, running)) for _ in range(3)]
    assert delays == [["0.15"]] * 3


@pytest.mark.parametrize("where", ["warm_up", "serve"])
def test_give_up(ground: Ground, where: str) -> None:
    """After crash_limit crashes within crash_window the supervisor stops with the reason and exit status 75, whether
    or not a worker ever was ready."""
    ground.deploy(
        1, service(f"crash_limit = 3\ndelay_before_respawn = 0.01\ndef {where}(self):\n    raise OSError('no disk')")
    )
    running = ground.start()
    assert running.wait() == 75
    assert len(re.findall(r"Worker \(pid \d+\) (?:exited|was killed)", running.err)) == 3
    assert re.search(r"Gave up after 3 crashes: the worker exited with status 1 \(OSError: no disk\)", running.err)
    ground.expect_nothing_left()


def test_no_give_up(ground: Ground) -> None:
    """Crashes further apart than crash_window do not add up, nor do workers that return."""
    ground.deploy(
        1, service("crash_limit = 2\ncrash_window = 0.0\ndelay_before_respawn = 0.01\ndef serve(self): 1 / 0")
    )
    running = ground.start()
    for _ in range(4):
        ground.expect("serves")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.deploy(2, service("crash_limit = 2\ndelay_before_respawn = 0.01\ndef serve(self): pass"))
    running = ground.start()
    for _ in range(4):
        ground.expect("serves", release=2)
    assert running.alive


def test_reload_cures_a_crash_loop(ground: Ground) -> None:
    """While no worker stays alive a reload to better code still works, also between two attempts."""
    ground.deploy(1, service("delay_before_respawn = 1000.0\ndef serve(self): 1 / 0"))
    running = ground.start()
    running.expect_line("exited with status 1")
    ground.deploy(2)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    assert running.wait() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who may have no process")
def test_fork_failure(ground: Ground) -> None:
    """When the kernel will not fork: a warning, the same delay, another attempt, until it will."""
    ground.deploy(
        1,
        service(
            run="""
            import resource
            os.setresgid(61234, 61234, 61234)
            os.setresuid(61234, 61234, 61234)
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1000))
            sys.exit(Service().run())
            """
        ),
    )
    ground.directory.chmod(0o777)
    running = ground.start()
    for _ in range(2):
        running.expect_line("Cannot fork a worker: Resource temporarily unavailable; trying again in 0.05 s")
    # Its own user may raise a limit; root may not everywhere.
    raised = ground.run("prlimit", "--nproc=1000:1000", "--pid", running.pid, user=61234, group=61234)
    assert raised.wait() == 0, raised.err
    ground.expect("serves")


@pytest.mark.parametrize("whose", ["the caller's", "the service's"])
def test_children_that_nobody_reaps(ground: Ground, whose: str) -> None:
    """A supervisor learns how its worker ended also where SIGCHLD was ignored, by its caller or by the service."""
    ignore = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    ground.deploy(1, service(before=ignore if whose == "the service's" else ""))

    def ignore_sigchld() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    running = ground.serving(preexec_fn=ignore_sigchld if whose == "the caller's" else None)
    os.kill(ground.seen("serves")[0].pid, signal.SIGKILL)
    running.expect_line("was killed by SIGKILL")
    ground.expect("serves")


def test_no_descriptor_for_a_worker(ground: Ground) -> None:
    """A supervisor that has no descriptor left for a worker's link says so and tries again."""
    running = ground.serving()
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{running.pid}/fd")) - 2, 1000))
    os.kill(ground.seen("serves")[0].pid, signal.SIGKILL)
    running.expect_line("Cannot fork a worker: Too many open files; trying again")
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (1000, 1000))
    ground.expect("serves")


def test_never_ready(ground: Ground) -> None:
    """A worker that is not ready within start_timeout shows where it hangs, is ended, and replaced."""
    ground.deploy(
        1,
        service(
            """
            start_timeout = 0.2
            def warm_up(self):
                if not os.path.exists(os.environ["GROUND"] + "/tried"):
                    open(os.environ["GROUND"] + "/tried", "w").close()
                    self.wait_for_the_database()
            def wait_for_the_database(self):
                time.sleep(1000)
            """
        ),
    )
    running = ground.start()
    running.expect_line(r"Worker \(pid \d+\) was not ready in 0\.2 s, ending it")
    running.expect_line("in wait_for_the_database")
    running.expect_line("was killed by SIGABRT")
    ground.expect("serves")


def test_spare(ground: Ground) -> None:
    """Without a delay a spare process is kept. It runs no service code before it is needed; it is the next worker."""
    ground.deploy(1, service("delay_before_respawn = 0\nrespawn_backoff_limit = 0"))
    running = ground.start()
    for _ in range(3):
        serving = ground.expect("serves").pid
        spare = ground.status()["spare"]
        assert isinstance(spare, int)
        assert ground.worker_pids() == [serving]
        assert [report for report in ground.seen("warm") if report.pid == spare] == []
        os.kill(serving, signal.SIGKILL)
        assert ground.expect("serves").pid == spare
        os.kill(spare, signal.SIGKILL)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()


def test_death_of_a_spare(ground: Ground) -> None:
    """A spare that dies is no crash, and the next death of a worker is mended without it."""
    ground.deploy(1, service("delay_before_respawn = 0\nrespawn_backoff_limit = 0"))
    running = ground.start()
    serving, spare = ground.expect("serves").pid, ground.status()["spare"]
    assert isinstance(spare, int)
    os.kill(spare, signal.SIGKILL)
    running.expect_line(rf"The spare worker \(pid {spare}\) was killed by SIGKILL")
    assert (ground.status()["spare"], ground.status()["crashes"]) == (None, 0)
    os.kill(serving, signal.SIGKILL)
    assert ground.expect("serves").pid not in (serving, spare)


def test_no_spare_with_a_delay(ground: Ground) -> None:
    """Where a dead worker is replaced after a delay there is time to fork then."""
    ground.deploy(1, service("delay_before_respawn = 0.1"))
    ground.start()
    ground.expect("serves")
    assert ground.status()["spare"] is None


def test_reload_with_spares(ground: Ground) -> None:
    """A reload leaves no spare of the old generation behind."""
    ground.deploy(1, service("delay_before_respawn = 0"))
    running = ground.start()
    ground.expect("serves")
    old = {*ground.worker_pids(), ground.status()["spare"]}
    assert ground.reload().returncode == 0
    ground.expect("serves")
    running.wait()
    assert old.isdisjoint(process.pid for process in ground.leftovers())
