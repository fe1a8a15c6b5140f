"""Why a reload failed: the caller hears the reason itself, whatever else is written, however long or foreign it is."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from sdsupervise.control.client import Client
from tests.processes.test_command_exclusive import start as start_command
from tests.processes.test_instance import instance_on
from tests.processes.test_takeover import on_probation
from tests.support.harness import SDSUPERVISE, Ground, service
from tests.support.running import LIMIT_SECONDS, Running

# What a tracing library writes when the interpreter leaves; among it the traceback of an exception that did no harm.
GOODBYE = """
import atexit, sys
@atexit.register
def flush():
    try:
        raise TimeoutError("no collector")
    except TimeoutError:
        import traceback
        traceback.print_exc()
    print("flushed 12 spans, goodbye", file=sys.stderr)
"""
QUIET_GOODBYE = "import atexit, sys\natexit.register(print, 'flushed 12 spans, goodbye', file=sys.stderr)\n"
WIDE = "\N{GRINNING FACE}" * 15_000
SAYS_WIDE = f'"\\N{{GRINNING FACE}}" * {len(WIDE)}'


def reason(ground: Ground) -> str:
    """Of a reload that fails: as the caller hears it, and as status has it."""
    failed = ground.reload()
    assert failed.returncode == 1, failed
    told = re.search(r"^NOT RELOADED: (.*?)\.? (?:Generation|NOBODY)", failed.stderr, re.MULTILINE)
    assert told is not None, failed.stderr
    last = ground.status()["last_reload"]
    assert isinstance(last, dict) and str(last["reason"]).rstrip(". ") == told[1].rstrip(". ")
    return told[1]


BROKEN = {
    # Before anything of ours is imported, all that is known is what stands on standard error.
    "import before ours": (QUIET_GOODBYE + "import requsts\n" + service(), "No module named 'requsts'"),
    "import": (service(before=GOODBYE + "import requsts"), "No module named 'requsts'"),
    "setting": (service("stop_timeout = 'long'", before=GOODBYE), "Service: stop_timeout is 'long'; it must be"),
    "option": (
        service("options = [{'name': 'x', 'option_type': 'y'}]", before=GOODBYE),
        "ValueError: Option 'x' is of",
    ),
    "worker": (
        service(
            "def warm_up(self): raise OSError('no disk')", before=GOODBYE.replace("def flush():", "def flush(*_):", 1)
        ),
        "OSError: no disk",
    ),
    "group": (
        service(before=f"{GOODBYE}\nraise ExceptionGroup('both', [OSError('no disk'), ValueError('no luck')])"),
        "ExceptionGroup: both (2 sub-exceptions)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("way", ["script", "run", "elsewhere"])
def test_what_is_said_at_the_exit_is_no_reason(ground: Ground, case: str, way: str) -> None:
    """Neither of a service that is a script nor of one that `sdsupervise run` loads, here or in another interpreter."""
    text, expected = BROKEN[case]
    ground.deploy(1)
    options = () if way == "run" else ("--python", sys.executable)
    if way == "script":
        ground.start()
    else:
        ground.run(SDSUPERVISE, "run", "--pid-file", ground.pid_file, *options, "current/service.py")
    ground.expect("serves")
    ground.deploy(2, text)
    assert expected in reason(ground)


def test_a_placeholder_without_a_listener(ground: Ground) -> None:
    """What is found to be wrong when the new supervisor has its own standard error already is told like the rest."""
    with instance_on(ground) as instance:
        ground.program(1, 'report("serves"); notify("READY=1"); wait()')
        text = f'directory = "{ground.current}"\ncommand = ["./program", "{{web}}"]\n'
        instance.say(text + f'listen.web = "{ground.directory}/web.sock"\n')
        instance.run()
        ground.expect("serves")
        instance.say(text)
        failed = instance.reload()
        assert failed.wait() == 1
        assert "NOT RELOADED: {web} in the command names no listener; there are: none." in failed.err
        instance.stop()


@pytest.mark.parametrize(
    "body",
    [
        f"raise ValueError({SAYS_WIDE})",
        f"def warm_up(self): raise ValueError({SAYS_WIDE})",
        f"def warm_up(self): self.error('ValueError: ' + {SAYS_WIDE})",
        f"def warm_up(self): sys.exit('ValueError: ' + {SAYS_WIDE})",
        f"def warm_up(self): self.deep(500)\n"
        f"def deep(self, n):\n    if n: self.deep(n - 1)\n    raise ValueError({SAYS_WIDE})",
        f"before_commit = ['/bin/sh', '-c', 'echo ValueError: {WIDE[:4000]}; exit 1']",
        f"probation = 60.0\ndef serve(self): raise ValueError({SAYS_WIDE})",
    ],
    ids=["import", "worker", "error", "exit", "deep", "before_commit", "probation"],
)
def test_a_long_and_wide_reason(ground: Ground, body: str) -> None:
    """It is cut where it is too long for a message, which shows; its beginning, which says most, is there."""
    running = ground.serving()
    before = body if body.startswith("raise") else ""
    ground.deploy(2, service("" if before else body, before=before))
    told = reason(ground)
    assert "ValueError: " in told
    assert WIDE[:50] in told or "before_commit (" in told
    assert running.alive and ground.status()["state"] == "serving"
    ground.deploy(3)
    assert ground.reload().returncode == 0


def test_a_long_path(ground: Ground) -> None:
    """What cannot be executed has a name that may be longer than a notification: it is cut between two characters."""
    deep = Path("/".join(["\N{GRINNING FACE}" * 60] * 16))
    (ground.directory / deep).mkdir(parents=True)
    program = ground.write(f"{deep}/program", "#!/nowhere/interpreter\n", 0o755)
    ground.program(1, 'report("serves"); notify("READY=1"); wait()')
    with instance_on(ground) as instance:
        instance.say('handover = "overlap"\ncommand = ["current/program"]\n')
        instance.run()
        ground.expect("serves")
        instance.say(f'handover = "overlap"\ncommand = ["{program}"]\n')
        failed = instance.reload()
        assert failed.wait() == 1
        assert "NOT RELOADED: Cannot execute " in failed.err
        instance.stop()


def test_statuses_of_many_commands(ground: Ground) -> None:
    """However long and wide what workers say of themselves, an answer with all of it can be read."""
    ground.program(1, 'report("serves"); notify("READY=1", "STATUS=" + "\\U0001f600" * 900); wait()')
    running = ground.run_command("current/program", options=["--handover", "overlap", "--workers", "40"])
    for _ in range(40):
        ground.expect("serves")
    running.expect_line("Generation 1 serves")
    workers = ground.status()["workers"]
    assert isinstance(workers, list) and len(workers) == 40
    assert all(worker["status"].startswith("\U0001f600" * 50) for worker in workers)


def test_a_death_on_probation(ground: Ground) -> None:
    """A worker that has served was ready before it died."""
    _, reload, _, worker = on_probation(ground)
    os.kill(worker, signal.SIGKILL)
    assert reload.wait() == 1
    assert "NOT RELOADED: The worker was killed by SIGKILL on probation. Generation 1" in reload.err


def test_a_death_while_it_is_checked(ground: Ground) -> None:
    """So was one that dies while before_commit runs."""
    ground.serving()
    ground.deploy(2, service("before_commit = ['/bin/sleep', '60']\ndef serve(self): os._exit(5)"))
    assert reason(ground) == "The worker exited with status 5 while before_commit ran"


def test_an_exception_on_probation(ground: Ground) -> None:
    """The reason is the exception, and when it came."""
    ground.serving()
    ground.deploy(2, service("probation = 60.0\ndef serve(self): raise OSError('no disk')"))
    assert reason(ground) == "OSError: no disk (on probation)"


def test_the_first_reason_counts(ground: Ground) -> None:
    """What follows from it is not taken for it: another worker is started, which fails otherwise."""
    ground.serving()
    body = """
probation = 60.0
delay_before_respawn = 0.0
def warm_up(self):
    if os.path.exists(os.environ["GROUND"] + "/second"):
        raise LookupError("a second time")
def serve(self):
    open(os.environ["GROUND"] + "/second", "w").close()
    raise OSError("no disk")
"""
    ground.deploy(2, service(body))
    assert reason(ground) == "OSError: no disk (on probation)"


def test_a_command_that_gave_its_status(ground: Ground) -> None:
    """Of what it wrote nothing can be known here; but it has told its supervisor how it stands."""
    start_command(ground, 'report("serves"); notify("READY=1"); wait()', "--handover", "overlap")
    ground.expect("serves")
    ground.program(2, 'notify("STATUS=no database at db:5432"); sys.exit(3)')
    told = 'The worker exited with status 3 before it was ready, with the last status "no database at db:5432"'
    assert reason(ground).startswith(f"{told}; its output went to the standard error of pid ")


def test_a_command_that_ends(ground: Ground) -> None:
    """An exclusive command that is not up yet when it ends was not ready."""
    running: Running = start_command(ground, 'report("serves"); notify("READY=1"); wait()')
    ground.expect("serves")
    ground.program(2, "sys.exit(3)")
    assert reason(ground).startswith("The worker exited with status 3 before it was ready")
    assert running.alive


@pytest.mark.parametrize("word", ["\N{GRINNING FACE}" * 20_000, "x" * 100_000], ids=["wide", "long"])
def test_a_long_command_line(ground: Ground, word: str) -> None:
    """Of words that fit into no answer nothing is said; whoever asks for the others gets them."""
    ground.program(1, 'report("serves"); notify("READY=1"); wait()')
    ground.run_command("current/program", word, word)
    ground.expect("serves")
    client = Client.connect(ground.control, timeout_seconds=LIMIT_SECONDS)
    code = client.ask("Code").parameters
    client.close()
    assert (code["complete"], code["command"]) == (False, []) and str(code["path"]).endswith("/program")
