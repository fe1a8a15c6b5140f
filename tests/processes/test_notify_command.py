"""notify_command: who is told, of what, once, and that nothing depends on it."""

from __future__ import annotations

import contextlib
import os
import re
import signal

import psutil
import pytest

from sdsupervise.hooks.notify_command import VARIABLES
from tests.processes.test_instance import instance_on
from tests.support.harness import PYTHON, Breakpoint, Ground, Report, service
from tests.support.running import wait_gone

_PROGRAM = f"""#!{PYTHON}
import os, signal, subprocess, sys
from told import *
fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)]
given = {{name.lower(): value for name, value in os.environ.items() if name.startswith(("SDSUPERVISE_", "NOTIFY_"))}}
event = given["sdsupervise_event"]
report("told", fds=sorted(fds), group=os.getpgrp(), **given)
"""


def hook(ground: Ground, then: str = "", **settings: object) -> str:
    """The settings of a service with a command that reports what it is told, and then does this."""
    program = ground.write("hook", _PROGRAM + then, 0o755)
    return "\n".join(
        [f"notify_command = [{str(program)!r}]", *(f"{name} = {value!r}" for name, value in settings.items())]
    )


def told(ground: Ground, event: str, **details: object) -> Report:
    """The next that the command was told of this event."""
    given = {f"sdsupervise_{name}": value for name, value in details.items()}
    return ground.expect("told", sdsupervise_event=event, **given)


def events(ground: Ground) -> list[str]:
    """All the command was ever told of."""
    return [report.said("sdsupervise_event") for report in ground.seen("told")]


def stop(ground: Ground) -> None:
    """End whoever is the main supervisor; nothing is left."""
    supervisor = int(ground.pid_file.read_text())
    os.kill(supervisor, signal.SIGTERM)
    wait_gone(supervisor)
    ground.expect_nothing_left()


def test_a_reload(ground: Ground) -> None:
    """The new supervisor has it run, once, with all the facts, and with no descriptor but the standard ones."""
    ground.deploy(1, service(hook(ground)))
    running = ground.serving(pass_fds=[0, 1, 2])
    ground.deploy(2, service(hook(ground)))
    assert ground.reload().returncode == 0
    report = told(ground, "reloaded")
    assert {name.lower() for name in VARIABLES} == {name for name in report.details if name.startswith("sdsupervise")}
    assert not [name for name in report.details if name.startswith("notify")]
    assert report.said("fds") == "['0', '1', '2']"
    assert report.said("sdsupervise_name") == "Service"
    assert report.said("sdsupervise_generation") == "2"
    assert report.said("sdsupervise_verdict") == "done"
    assert report.said("sdsupervise_reason") == ""
    assert report.said("sdsupervise_unit") == ""
    assert re.fullmatch(r"\d+\.\d{3}", report.said("sdsupervise_duration_sec"))
    assert re.search(r"releases/2/service.py \([0-9a-f]+\)", report.said("sdsupervise_code"))
    assert report.said("sdsupervise_pid") == ground.pid_file.read_text().strip()
    assert running.wait() == 0
    stop(ground)
    assert events(ground) == ["reloaded"]


def test_a_reload_that_fails(ground: Ground) -> None:
    """The old supervisor has it run, with the reason; a refused one is nobody's business."""
    ground.deploy(1, service(hook(ground)))
    ground.serving()
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    report = told(ground, "rolled-back", generation=1, verdict="failed")
    assert "No module named 'requsts'" in report.said("sdsupervise_reason")
    assert "releases/1/" in report.said("sdsupervise_code")
    stop(ground)
    assert events(ground) == ["rolled-back"]


def test_a_first_reload_that_fails(ground: Ground) -> None:
    """Whoever asks to be told, and deploys that with code that fails, is told by the old supervisor; and from then on
    of all else that becomes of it."""
    ground.deploy(1, service("delay_before_respawn = 0.01\nrespawn_backoff_limit = 0.05"))
    ground.serving()
    ground.deploy(2, service(f"{hook(ground)}\ndef warm_up(self): raise OSError('no disk')"))
    assert ground.reload().returncode == 1
    report = told(ground, "rolled-back", generation=1, verdict="failed", reason="OSError: no disk")
    assert "releases/1/" in report.said("sdsupervise_code")
    for _ in range(4):
        (worker,) = ground.worker_pids()
        os.kill(worker, signal.SIGKILL)
        ground.expect("serves")
    told(ground, "crash-loop", generation=1)
    stop(ground)
    assert events(ground) == ["rolled-back", "crash-loop"]


def test_a_first_reload_that_cannot_load_its_code(ground: Ground) -> None:
    """What the file says is known before the code is loaded: its notify_command is told also where that fails."""
    with instance_on(ground) as instance:
        ground.deploy(1)
        text = f'directory = "{ground.current}"\nservice = "service.py"\n'
        instance.say(text)
        instance.run()
        ground.expect("serves")
        program = ground.write("hook", _PROGRAM, 0o755)
        instance.say(f'{text}notify_command = ["{program}"]\n')
        ground.deploy(2, "import requsts")
        assert instance.reload().wait() == 1
        report = told(ground, "rolled-back", generation=1)
        assert "No module named 'requsts'" in report.said("sdsupervise_reason")
        instance.stop()


def test_a_crash_loop(ground: Ground) -> None:
    """It is told once when it begins, with the last crash, and once when it is over."""
    body = hook(ground, delay_before_respawn=0.01, respawn_backoff_limit=0.05, respawn_forgiven_after=3.0)
    body += """
def serve(self):
    if os.path.exists(os.environ["GROUND"] + "/bad"):
        raise OSError("no disk")
    super().serve()
"""
    (ground.directory / "bad").touch()
    ground.deploy(1, service(body))
    running = ground.start()
    report = told(ground, "crash-loop", generation=1)
    assert report.said("sdsupervise_reason") == "the worker exited with status 1 (OSError: no disk)"
    running.expect_line("A crash loop: the worker exited with status 1 .OSError: no disk., again and again")
    for _ in range(8):
        ground.expect("serves")
    (ground.directory / "bad").unlink()
    told(ground, "crash-loop-over", reason="")
    running.expect_line("The crash loop is over")
    counters = ground.status()["counters"]
    assert isinstance(counters, dict) and counters["crash_loops"] == {"all": 1}
    stop(ground)
    assert events(ground) == ["crash-loop", "crash-loop-over"]


def test_giving_up(ground: Ground) -> None:
    """The supervisor waits for the command before it leaves."""
    body = hook(ground, crash_limit=2, delay_before_respawn=0.01)
    ground.deploy(1, service(f"{body}\ndef serve(self): raise OSError('no \\x1b[31mdisk')"))
    running = ground.start()
    assert running.wait() == 75
    running.expect_line(r"Gave up after 2 crashes: .* \(OSError: no \?\[31mdisk\)\.$")
    assert "OSError: no ?[31mdisk" in told(ground, "gave-up", verdict="").said("sdsupervise_reason")
    ground.expect_nothing_left()
    assert events(ground) == ["gave-up"]


def test_a_command_that_fails(ground: Ground) -> None:
    """The log says so with its last words, and that is all."""
    ground.deploy(1, service(hook(ground, "sys.exit('no \\x1b[1mnetwork')")))
    running = ground.serving()
    ground.deploy(2, "import requsts")
    worker = ground.worker_pids()
    assert ground.reload().returncode == 1
    running.expect_line(
        r"The event rolled-back may not have been reported: notify_command \(\S+hook\) exited with status 1: "
        r"no \?\[1mnetwork$"
    )
    assert ground.worker_pids() == worker
    stop(ground)


def test_a_command_that_is_missing(ground: Ground) -> None:
    """The log names it."""
    ground.deploy(1, service("notify_command = ['/no/such/program']"))
    running = ground.serving()
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    running.expect_line(r"notify_command \(/no/such/program\) exited with status 127: cannot be executed: No such file")
    stop(ground)


_HANGS = "subprocess.Popen(['sleep', '1000'])\nsignal.pause()"


def wait_for_end_of_group(group: int) -> None:
    """Of all its processes."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group:
                wait_gone(process.pid)


def test_a_command_that_hangs(ground: Ground) -> None:
    """The verdict does not wait for it; after notify_timeout it is killed, with all it has started."""
    ground.deploy(1, service(hook(ground, _HANGS, notify_timeout=0.5)))
    running = ground.serving()
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    group = int(told(ground, "rolled-back").said("group"))
    running.expect_line("notify_command .* took longer than 0.5 s")
    wait_for_end_of_group(group)
    stop(ground)


def test_what_a_command_leaves(ground: Ground) -> None:
    """What it has started in its process group ends with it."""
    ground.deploy(1, service(hook(ground, "subprocess.Popen(['sleep', '1000'])")))
    ground.serving()
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    group = int(told(ground, "rolled-back").said("group"))
    wait_gone(group)
    wait_for_end_of_group(group)
    stop(ground)


def test_a_stop_while_it_hangs(ground: Ground) -> None:
    """It has as long as the workers have to stop; then the supervisor leaves, and nothing else is left."""
    ground.deploy(1, service(hook(ground, _HANGS, notify_timeout=1000.0, stop_timeout=0.5)))
    running = ground.serving()
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    told(ground, "rolled-back")
    running.signal(signal.SIGTERM)
    running.expect_line("notify_command .* was killed because the supervisor leaves")
    assert running.wait() == 0
    ground.expect_nothing_left()


def test_a_supervisor_that_is_killed_meanwhile(ground: Ground) -> None:
    """The command ends with it: nobody else could end it."""
    ground.deploy(1, service(hook(ground, "signal.pause()")))
    running = ground.serving()
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    command = told(ground, "rolled-back").pid
    running.signal(signal.SIGKILL)
    wait_gone(command)
    ground.expect_nothing_left()


def test_leaving_after_a_commit(ground: Ground) -> None:
    """A supervisor that leaves after a reload lets its own command end first; its successor's runs meanwhile, and the
    next reload does not wait for either."""
    ground.make_gate()
    body = hook(ground, "if event == 'rolled-back':\n    wait_at_gate('waits')\n    report('finished')")
    ground.deploy(1, service(body))
    running = ground.serving()
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    ground.expect("waits")
    for generation in (2, 3):
        ground.deploy(generation, service(body))
        assert ground.reload().returncode == 0
        told(ground, "reloaded", generation=generation)
    assert running.alive
    ground.open_gate()
    ground.expect("finished")
    assert running.wait() == 0
    stop(ground)
    assert events(ground) == ["rolled-back", "reloaded", "reloaded"]


def test_a_stop_after_a_commit(ground: Ground) -> None:
    """A command of a generation that has left but for it does not keep the service from stopping."""
    body = hook(ground, "if event == 'rolled-back':\n    signal.pause()", notify_timeout=1000.0)
    ground.deploy(1, service(body))
    running = ground.serving()
    ground.deploy(2, "import requsts")
    assert ground.reload().returncode == 1
    told(ground, "rolled-back")
    ground.deploy(3, service(body))
    assert ground.reload().returncode == 0
    told(ground, "reloaded")
    stop(ground)
    assert running.wait() == 0


def test_too_many_events(ground: Ground) -> None:
    """Few wait for their turn; the oldest of them are dropped, which is said."""
    ground.make_gate()
    once = """
if not os.path.exists(GROUND + "/waited"):
    open(GROUND + "/waited", "w")
    wait_at_gate("waits")
"""
    ground.deploy(1, service(hook(ground, once)))
    running = ground.serving()
    ground.deploy(2, "raise LookupError('this one')")
    for _ in range(7):
        assert ground.reload().returncode == 1
    ground.expect("waits")
    for _ in range(2):
        running.expect_line(
            "The event rolled-back may not have been reported: notify_command is not run: 4 others wait for their turn"
        )
    ground.open_gate()
    for _ in range(5):
        told(ground, "rolled-back")
    stop(ground)
    assert len(events(ground)) == 5


def test_a_predecessor_that_dies_before_its_verdict(ground: Ground) -> None:
    """It has committed, so the new code serves: people are told all the same, once."""
    ground.deploy(1, service(hook(ground)))
    breakpoint = Breakpoint(ground, "COMMITTING+BARRIER_RETURNED/1")
    ground.serving(environment=breakpoint.environment)
    ground.deploy(2, service(hook(ground)))
    caller = ground.reload_process()
    os.kill(breakpoint.wait(), signal.SIGKILL)
    assert caller.wait() != 0
    ground.expect("serves", release=2)
    told(ground, "reloaded", generation=2, duration_sec="")
    stop(ground)
    assert events(ground) == ["reloaded"]


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
@pytest.mark.parametrize(
    "trial",
    [
        "before_commit = ['/bin/false']; listen = {'a': os.environ['GROUND'] + '/a'}",
        "probation = 60.0\ndef serve(self): sys.exit(9)",
    ],
)
def test_new_code_that_is_called_back(ground: Ground, handover: str, trial: str) -> None:
    """New code that has served already, and was found bad, says nothing of it by itself: the old one does, once."""
    ground.deploy(1, service(f"handover = {handover!r}\n{hook(ground)}", base="Member"))
    ground.start()
    for _ in range(3):
        ground.expect("serves", release=1)
    ground.deploy(2, service(f"handover = {handover!r}\n{hook(ground)}\n{trial}", base="Member"))
    assert ground.reload().returncode == 1
    told(ground, "rolled-back", generation=1)
    stop(ground)
    assert events(ground) == ["rolled-back"]
