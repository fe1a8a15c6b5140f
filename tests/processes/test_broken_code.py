"""New code that does not work, of every kind: the old worker is never stopped, and the caller hears why."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.support.harness import PYTHON, SDSUPERVISE, Breakpoint, Ground, installed_package, service
from tests.support.running import wait_gone

# What is deployed, the sentence the caller gets, and what the traceback beside it says.
BROKEN: dict[str, tuple[str, str, list[str]]] = {
    "syntax error": ("def broken(:", r"SyntaxError: ", ["service.py", "def broken(:"]),
    "import error": (
        "import requsts",
        r"ModuleNotFoundError: No module named 'requsts'",
        ["service.py", "line 1", "import requsts"],
    ),
    "raises": ("def f():\n    1 / 0\nf()", r"ZeroDivisionError: division by zero", ["line 2, in f"]),
    "exits at once": ("raise SystemExit(3)", r"died without a message|SystemExit", []),
    "exits well at once": ("import os; os._exit(0)", r"died without a message", []),
    "exits with a message": ("import sys; sys.exit('no license')", r"no license", []),
    "is killed": ("import os; os.kill(os.getpid(), 9)", r"died without a message", []),
    "worker raises while it warms up": (
        service("def warm_up(self):\n    self.connect()\ndef connect(self):\n    raise OSError('no database')"),
        r"OSError: no database",
        ["in connect", "service.py"],
    ),
    "worker exits while it warms up": (
        service("def warm_up(self): sys.exit(4)"),
        r"The worker exited with status 4 before it was ready",
        [],
    ),
    "worker is killed while it warms up": (
        service("def warm_up(self): os.kill(os.getpid(), signal.SIGKILL)"),
        r"The worker was killed by SIGKILL before it was ready",
        [],
    ),
    "worker calls error() while it warms up": (
        service("def warm_up(self): self.error('no paper')"),
        r"no paper",
        [],
    ),
    "worker asks for its death": (
        service("def warm_up(self):\n    self.supervisor_pipe.sendall(b'shutdown\\n')\n    wait_for_signal()"),
        r"The worker was killed by SIGKILL before it was ready",
        [],
    ),
    "supervised_process returns": (
        service("def supervised_process(self): pass"),
        r"The worker exited with status 0 before it was ready",
        [],
    ),
    "worker is never ready": (
        service("start_timeout = 0.2\ndef warm_up(self): self.wait()\ndef wait(self): time.sleep(1000)"),
        r"The worker was not ready in 0\.2 s",
        [],
    ),
    "wrong setting": (service("stop_timeout = 'long'"), r"Service: stop_timeout is 'long'", []),
    "method missing": (service(base="SupervisedDaemon"), r"TypeError: .*supervised_process", []),
    "no service": ("print('hello')", r"died without a message|no subclass|name one subclass", []),
}


def check_serves_on(ground: Ground, worker: int) -> None:
    """The old worker was not touched, and the next good reload works."""
    assert ground.worker_pids() == [worker]
    assert worker not in {report.pid for report in ground.seen("shutdown")}
    ground.deploy(3)
    done = ground.reload()
    assert done.returncode == 0, done
    ground.expect("serves", release=3)


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("way", ["script", "run"])
def test_broken_code(ground: Ground, case: str, way: str) -> None:
    """The reload fails with a sentence and the code's own traceback, without a frame of ours; status tells it too; the
    old worker was never stopped; the next good reload works."""
    text, sentence, traceback = BROKEN[case]
    ground.deploy(1)
    command = {"script": [PYTHON, "current/service.py", "--no-fork"], "run": [SDSUPERVISE, "run", "current/service.py"]}
    running = ground.run(*command[way], "--pid-file", ground.pid_file)
    worker = ground.expect("serves").pid
    ground.deploy(2, text)
    failed = ground.reload()
    assert failed.returncode == 1
    verdict = failed.stderr.splitlines()[-1]
    assert re.search(rf"^NOT RELOADED: .*({sentence})", verdict), failed.stderr
    assert f"Generation 1, {ground.directory}/releases/1/service.py" in verdict
    assert "its worker was never stopped" in verdict
    for words in traceback:
        assert words in failed.stderr
    assert "sdsupervise/" not in failed.stderr
    status = ground.status()
    assert re.search(rf"Generation 1 serves .*Reload \d\d:\d\d:\d\d failed: .*({sentence})", str(status["status"]))
    reload = status["last_reload"]
    assert isinstance(reload, dict) and reload["verdict"] == "failed"
    assert reload["reason"] not in failed.stderr.splitlines() or 'File "' in failed.stderr  # a traceback
    running.expect_line(rf"Not reloaded: .*({sentence})")
    check_serves_on(ground, worker)


@pytest.mark.parametrize(
    "text",
    [service("reload_timeout = 0.3\ndef warm_up(self): wait_for_signal()"), "import signal\nsignal.pause()"],
    ids=["worker", "import"],
)
def test_never_ready(ground: Ground, text: str) -> None:
    """New code that is not ready within reload_timeout is killed, wherever it waits; the old code's counts as long as
    the new code's is not known."""
    ground.deploy(1, service("reload_timeout = 0.3"))
    running = ground.serving()
    worker = ground.worker_pids()[0]
    ground.deploy(2, text)
    failed = ground.reload()
    assert failed.returncode == 1
    assert re.search(r"NOT RELOADED: The new code was not ready within (its )?0\.3 s", failed.stderr)
    assert ground.worker_pids() == [worker] and not [r for r in ground.seen("shutdown") if r.pid == worker]
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()


def test_never_ready_by_its_own_limit(ground: Ground) -> None:
    """New code with a shorter reload_timeout than the old code's gives up by itself, and says so."""
    ground.deploy(1)
    ground.serving()
    ground.deploy(2, service("reload_timeout = 0.3\ndef warm_up(self):\n    time.sleep(1000)"))
    failed = ground.reload()
    assert failed.returncode == 1
    assert "NOT RELOADED: The new code was not ready within its 0.3 s. Generation 1" in failed.stderr


def test_killed_successor(ground: Ground) -> None:
    """A new supervisor that is killed while its worker warms up is a failed reload at once; so is its worker's end."""
    ground.deploy(1)
    worker = ground.serving() and ground.worker_pids()[0]
    ground.deploy(2, service("def warm_up(self):\n    report('warming', parent=os.getppid())\n    time.sleep(1000)"))
    reload = ground.reload_process()
    warming = ground.expect("warming")
    os.kill(int(warming.details["parent"]), signal.SIGKILL)
    assert reload.wait() == 1
    wait_gone(warming.pid)
    assert ground.worker_pids() == [worker]


def test_interpreter_gone(ground: Ground) -> None:
    """A release whose interpreter is missing, or cannot be executed, is a failed reload that names it."""
    for release in 1, 3:
        ground.deploy(release)
        (ground.current / "python").symlink_to(PYTHON)
    ground.deploy(1)
    (ground.library / "sdsupervise").symlink_to(installed_package())  # such a Python does not see its environment
    ground.run("current/python", "current/service.py", "--no-fork", "--pid-file", ground.pid_file)
    worker = ground.expect("serves").pid
    ground.deploy(2)
    failed = ground.reload()
    assert failed.returncode == 1
    assert re.search(r"NOT RELOADED: Cannot execute current/python in \S+: No such file or directory", failed.stderr)
    (ground.current / "python").write_text("no program")
    failed = ground.reload()
    assert failed.returncode == 1
    assert "Cannot execute current/python" in failed.stderr and "Permission denied" in failed.stderr
    check_serves_on(ground, worker)


def test_code_gone(ground: Ground) -> None:
    """A release without the script is a failed reload with the interpreter's own sentence."""
    ground.serving()
    worker = ground.worker_pids()[0]
    (ground.deploy(2)).unlink()
    failed = ground.reload()
    assert failed.returncode == 1
    assert re.search(r"NOT RELOADED: .*can't open file .*current/service.py", failed.stderr)
    check_serves_on(ground, worker)


def test_directory_gone(ground: Ground) -> None:
    """So is a working directory that is not there any more."""
    ground.deploy(1)
    place = ground.directory / "place"
    place.mkdir()
    environment = {"PWD": str(place)}
    script = ground.current / "service.py"
    command = [PYTHON, script, "--no-fork", "--pid-file", ground.pid_file]
    ground.run(*command, cwd=place, environment=environment)
    worker = ground.expect("serves").pid
    place.rmdir()
    failed = ground.reload()
    assert failed.returncode == 1
    assert re.search(r"NOT RELOADED: .*place: No such file or directory", failed.stderr)
    place.mkdir()
    check_serves_on(ground, worker)


def test_unknown_option(ground: Ground) -> None:
    """New code that does not know an option the service was started with says so; the reason is not the usage's last
    line."""
    ground.deploy(1, service("options = ({'name': 'port', 'option_type': 'integer'},)"))
    ground.serving("--port", "7")
    worker = ground.worker_pids()[0]
    ground.deploy(2)
    failed = ground.reload()
    assert failed.returncode == 1
    assert re.search(r"NOT RELOADED: Unrecognized arguments: --port", failed.stderr)
    ground.deploy(3, service("options = ({'name': 'port', 'option_type': 'integer'},)"))
    assert ground.reload().returncode == 0
    ground.expect("serves", release=3)
    wait_gone(worker)


def test_other_form_of_handover(ground: Ground) -> None:
    """A release of sdsupervise that speaks another version of the hand-over refuses it, and says what to do."""
    ground.serving()
    worker = ground.worker_pids()[0]
    text = service(before="import sdsupervise.handover.welcome\nsdsupervise.handover.welcome.HANDOVER_VERSION = 99")
    ground.deploy(2, text)
    failed = ground.reload()
    assert failed.returncode == 1
    assert "understands version 99: restart the service instead of reloading it" in failed.stderr
    check_serves_on(ground, worker)


def test_a_handover_of_nobody(ground: Ground) -> None:
    """What a predecessor would say of its hand-over, in the environment of who has none, is one sentence."""
    ground.deploy(1)
    place = {"SDSUPERVISE_HANDOVER": "77:78"}
    running = ground.run(SDSUPERVISE, "run", ground.current / "service.py", environment=place)
    assert running.wait() == 69
    assert running.err == "The hand-over descriptor 77 is not a socket: Bad file descriptor.\n"


def test_much_on_standard_error(ground: Ground) -> None:
    """Code that writes more than a pipe holds before it fails does not block, and the end of it is kept; it reaches our
    standard error whole."""
    running = ground.serving()
    ground.deploy(
        2, "import sys\nfor n in range(1200): print('line', n, 'x' * 60, file=sys.stderr)\nraise ValueError('end')"
    )
    reload = ground.reload_process()
    running.expect_line("^line 0 ")
    running.expect_line("^line 1199 ")
    assert reload.wait() == 1
    assert reload.err.splitlines()[-1].startswith("NOT RELOADED: ValueError: end")


def test_characters_of_control(ground: Ground) -> None:
    """What a service says of its failure does nothing to the terminal of whoever reads it, be it in the journal."""
    running = ground.serving()
    ground.deploy(2, r"raise ValueError('Gr\xfc\xdfe \x1b]0;title\x07\x1b[31m')")
    failed = ground.reload()
    assert "NOT RELOADED: ValueError: Grüße ?]0;title??[31m. Gen" in failed.stderr
    assert failed.stderr.replace("\n", "").isprintable() and "\nTraceback (" in f"\n{failed.stderr}"
    assert "ValueError: Grüße ?]0;title??[31m" in str(ground.status()["last_reload"])
    running.expect_line(r"Not reloaded: ValueError: Grüße \?\]0;title\?\?\[31m\. Generation 1, ")


def test_child_of_new_code_holds_its_streams(ground: Ground) -> None:
    """New code that leaves a process behind, which keeps every inherited stream open, still fails at once."""
    ground.serving()
    worker = ground.worker_pids()[0]
    ground.deploy(2, "import os, time\nif os.fork() == 0: time.sleep(1000)\nraise ValueError('end')")
    failed = ground.reload()
    assert failed.returncode == 1
    assert "ValueError: end" in failed.stderr
    assert ground.worker_pids() == [worker]


def test_failure_at_the_very_end(ground: Ground) -> None:
    """A successor that dies just before it asks for its turn changes nothing for the old worker."""
    hold = Breakpoint(ground, "WARMING+WORKER_READY")
    ground.serving()
    worker = ground.worker_pids()[0]
    ground.deploy(2, service(before=f"os.environ.update({hold.environment})"))
    reload = ground.reload_process()
    os.kill(hold.wait(), signal.SIGKILL)
    assert reload.wait() == 1
    assert "its worker was never stopped" in reload.err
    assert ground.worker_pids() == [worker]
