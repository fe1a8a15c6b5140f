"""Who serves when a reload has failed or workers die: what is said of it is so, also that nobody does."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from tests.processes.test_metrics import metrics, numbers, value
from tests.processes.test_notify_command import hook, told
from tests.processes.test_pool import member, serving
from tests.support.harness import SDSUPERVISE, Ground, service
from tests.support.running import Running

SERVES = 'be_the_only_one(); report("serves", release=release); notify("READY=1"); wait()'
BROKEN = "sys.exit(3)"
# An exclusive command that is not up again soon by itself.
SLOWLY = ("--handover", "exclusive", "--delay-before-respawn", "1000")


def json_of(ground: Ground, *words: object) -> list[dict[str, object]]:
    """What a command prints, one object a line."""
    done = ground.finish(ground.run(SDSUPERVISE, *words, "--json", "--pid-file", ground.pid_file))
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_down(ground: Ground, why: str) -> None:
    """Everybody says that nobody serves, and why."""
    status = ground.status()
    assert (status["state"], status["serves"], status["healthy"]) == ("down", False, False)
    assert re.match(rf"Nobody serves \(generation 1\): {why}", str(status["status"]))
    shown = ground.finish(ground.run(SDSUPERVISE, "status", "--pid-file", ground.pid_file)).stdout
    assert re.match(r"● \S+   down · generation 1", shown) and re.search(rf"status +Nobody serves.*{why}", shown)
    (facts,) = json_of(ground, "status")
    assert (facts["state"], facts["serves"]) == ("down", False)
    found = numbers(metrics(ground))
    assert (value(found, "up"), value(found, "serving"), value(found, "healthy")) == (1, 0, 0)
    assert value(found, "workers", state="serving") == 0


def stop(ground: Ground, running: Running) -> None:
    """End the service; nothing is left."""
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()


def test_a_command_broken_in_place(ground: Ground) -> None:
    """The new command does not start, and the old one's program is overwritten by it: the caller, in words and in JSON,
    the log, and whoever asks from then on hear that nobody serves; until somebody does again."""
    ground.program(1, SERVES)
    running = ground.run_command("current/program", options=SLOWLY)
    ground.expect("serves")
    ground.program(1, BROKEN)
    failed = ground.reload()
    outcome = (
        r"NOBODY SERVES: generation 1, \S+ \(\w+\), was started again from what is on disk and does not become "
        "ready: the "
        r"worker exited with status 3, the next starts [\d.]+ s later\."
    )
    assert failed.returncode == 1
    assert re.search(f"NOT RELOADED: .*exited with status 3.* {outcome}\n", failed.stderr)
    assert "still serves" not in failed.stderr
    running.expect_line(f"Not reloaded: .*exited with status 3.* {outcome}")
    why = r"the worker exited with status 3, the next starts [\d.]+ s later"
    is_down(ground, why)
    assert re.search(r"\. Reload \d\d:\d\d:\d\d failed: .*exited with status 3", str(ground.status()["status"]))
    *_, verdict = json_of(ground, "reload")
    assert (verdict["verdict"], verdict["serves"], verdict["serving"]) == ("failed", False, 0)
    assert re.fullmatch(outcome, str(verdict["outcome"]))
    ground.program(1, SERVES)
    assert ground.reload().returncode == 0
    ground.expect("serves")
    status = ground.status()
    assert (status["generation"], status["state"], status["serves"]) == (2, "serving", True)


def test_whoever_is_notified(ground: Ground) -> None:
    """It is an event of its own for notify_command, with both reasons."""
    program = f"{hook(ground)}\ndelay_before_respawn = 1000.0\nstop_timeout = 5.0"
    # What its worker needs goes with the first one.
    body = 'def warm_up(self):\n    os.rename(os.environ["GROUND"] + "/ticket", os.environ["GROUND"] + "/used")'
    (ground.directory / "ticket").touch()
    ground.deploy(1, service(f"{program}\n{body}"))
    ground.serving()
    ground.deploy(2, service("def serve(self): raise OSError('no disk')", before="SupervisedDaemon.probation = 60.0"))
    failed = ground.reload()
    outcome = (
        r"NOBODY SERVES: generation 1, \S+ \(\w+\), was started again and does not become ready: the worker exited "
        "with "
        r"status 1 \(FileNotFoundError: .*\), the next starts 1000 s later\."
    )
    assert failed.returncode == 1 and re.search(rf"NOT RELOADED: OSError: no disk.* {outcome}\n", failed.stderr)
    report = told(ground, "nobody-serves", generation=1, verdict="failed")
    assert re.fullmatch(rf"OSError: no disk.* {outcome}", report.said("sdsupervise_reason"))


def held_while_the_old_code_comes_back(ground: Ground, body: str) -> tuple[Running, Running]:
    """The service and its reload: the new code has failed, and a worker of the old, which has this body, warms up."""
    ground.deploy(1, service(body))
    running = ground.serving()
    (ground.directory / "held").touch()
    ground.deploy(2, service("probation = 60.0\ndef serve(self): raise OSError('no disk')"))
    reload = ground.reload_process()
    ground.expect("held")
    return running, reload


def test_the_verdict_waits_until_the_old_code_serves_again(ground: Ground) -> None:
    """Where the old workers were stopped it is only known then that they still serve; until then nobody does, which is
    said meanwhile."""
    os.mkfifo(ground.directory / "go")
    body = """
def warm_up(self):
    if os.path.exists(os.environ["GROUND"] + "/held"):
        report("held")
        open(os.environ["GROUND"] + "/go").close()
"""
    running, reload = held_while_the_old_code_comes_back(ground, body)
    reload.expect_line(r"Nobody serves \(generation 1\): a worker is starting; generation 2 failed", stream="out")
    status = ground.status()
    assert (status["state"], status["serves"]) == ("restoring", False)
    assert status["status"] == "Nobody serves (generation 1): a worker is starting; generation 2 failed"
    refused = ground.reload()
    assert refused.returncode == 1 and "NOT RELOADED. A reload is already in progress." in refused.stderr
    assert reload.alive
    os.close(os.open(ground.directory / "go", os.O_WRONLY))
    assert reload.wait() == 1
    assert re.search(r"still serves; its worker was stopped and started again\.\n", reload.err)
    assert ground.status()["state"] == "serving"
    phases = ground.status()["last_reload"]
    assert isinstance(phases, dict) and phases["phases"]["restoring"] > 0
    stop(ground, running)


def test_the_verdict_does_not_wait_for_ever(ground: Ground) -> None:
    """An old worker that hangs when it is started anew is not waited for longer than it may take to start."""
    # Stopped it hears of nothing but SIGKILL, which comes six seconds after its start_timeout.
    body = """
start_timeout = 2.0
takeover_timeout = 2.0
stop_timeout = 0.5
def warm_up(self):
    if os.path.exists(os.environ["GROUND"] + "/held"):
        os.kill(os.getpid(), signal.SIGSTOP)
"""
    ground.deploy(1, service(body))
    running = ground.serving()
    (ground.directory / "held").touch()
    ground.deploy(2, service("probation = 60.0\ndef serve(self): raise OSError('no disk')"))
    failed = ground.reload()
    assert failed.returncode == 1
    outcome = (
        r"NOBODY SERVES: generation 1, \S+ \(\w+\), was started again and does not become ready: its worker was not "
        "ready in"
    )
    assert re.search(f"{outcome} time", failed.stderr)
    is_down(ground, "(a worker is starting|the worker was killed by SIGKILL)")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_a_pool_of_which_some_come_back(ground: Ground) -> None:
    """The verdict says how many serve, and why the others do not."""
    body = """
delay_before_respawn = 1000.0
def warm_up(self):
    if self.index == "1" and os.path.exists(os.environ["GROUND"] + "/bad"):
        raise OSError("no disk")
"""
    ground.deploy(1, member(body))
    ground.start()
    serving(ground)
    (ground.directory / "bad").touch()
    ground.deploy(2, member("probation = 60.0\ndef serve(self): raise OSError('no luck')"))
    reload = ground.reload_process()
    assert reload.wait() == 1
    told = (
        r"Generation 1, \S+ \(\w+\), still serves with 2 of 3 workers: worker 1 exited with status 1 \(OSError: no "
        r"disk\), the next starts 1000 s later; its workers were stopped and started again\."
    )
    assert re.search(f"NOT RELOADED: OSError: no luck.* {told}", reload.err)
    status = ground.status()
    assert (status["state"], status["serves"], status["healthy"]) == ("serving", True, False)


def test_a_stop_while_the_old_code_comes_back(ground: Ground) -> None:
    """It ends the waiting: the caller hears that the service stops, and nothing is left."""
    body = """
def warm_up(self):
    if os.path.exists(os.environ["GROUND"] + "/held"):
        report("held")
        wait_for_signal()
"""
    running, reload = held_while_the_old_code_comes_back(ground, body)
    reload.expect_line("generation 2 failed$", stream="out")
    running.signal(signal.SIGTERM)
    assert reload.wait() == 1
    assert "NOT RELOADED: A stop was requested. The service is stopping." in reload.err
    assert running.wait() == 0
    ground.expect_nothing_left()


def test_a_crash_between(ground: Ground) -> None:
    """A service whose worker has died, and whose next one has to wait, is down; it is reloaded from there, and a failed
    reload does not say that it still serves."""
    ground.deploy(1, service("delay_before_respawn = 1000.0"))
    running = ground.serving()
    os.kill(ground.worker_pids()[0], signal.SIGKILL)
    running.expect_line(r"Worker \(pid .*\) was killed by SIGKILL")
    is_down(ground, "the worker was killed by SIGKILL, the next starts 1000 s later")
    ground.deploy(2, "import requsts")
    reload = ground.reload_process()
    assert reload.wait() == 1
    down = r"Nobody serves \(generation 1\): the worker was killed by SIGKILL, the next starts 1000 s later"
    assert re.search(f"^{down}; generation 2 is starting$", reload.out, re.MULTILINE)
    assert re.search(
        r"NOT RELOADED: .*requsts.*\. NOBODY SERVES: generation 1, \S+ \(\w+\), is down: the worker was killed by "
        r"SIGKILL, the next starts 1000 s later\.\n",
        reload.err,
    )
    ground.deploy(3)
    assert ground.reload().returncode == 0
    assert ground.status()["state"] == "serving"


def test_serving_is_said_when_somebody_does(ground: Ground) -> None:
    """A successor whose predecessor has died carries on; that it serves is in the log when its command is up."""
    ground.make_gate()
    ground.program(1, f'wait_at_gate("starts"); {SERVES}')
    running = ground.run_command("current/program", options=SLOWLY)
    ground.expect("starts")
    assert "Generation 1 serves" not in running.err
    ground.open_gate()
    ground.expect("serves")
    running.expect_line("Generation 1 serves")


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
def test_nothing_waits_where_nothing_was_stopped(ground: Ground, handover: str) -> None:
    """A reload that fails before the old workers are told anything is answered at once, in a phase nobody hears of."""
    ground.deploy(1, service(f"handover = {handover!r}"))
    running = ground.serving()
    ground.deploy(2, service(f"handover = {handover!r}\ndef warm_up(self): raise OSError('no disk')"))
    failed = ground.reload()
    assert failed.returncode == 1 and "still serves; its worker was never stopped." in failed.stderr
    assert "generation 2 failed" not in failed.stdout and "generation 2 failed" not in running.err
