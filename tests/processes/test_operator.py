"""What an operator types and sees: on a terminal, in a pipe, and with typing errors."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from textwrap import dedent

import pytest

from sdsupervise.cli import commands
from sdsupervise.errors import ExitStatus
from tests.processes import test_overlap
from tests.support.harness import PYTHON, SDSUPERVISE, Ground, service
from tests.support.running import Running
from tests.support.terminal import Terminal

NOTHING: Mapping[str, str] = {}
HELD = "def warm_up(self):\n    wait_at_gate('warming')"
TOLD = "from told import wait_at_gate"


@contextlib.contextmanager
def terminal(
    ground: Ground, *words: object, columns: int = 80, rows: int = 24, environment: Mapping[str, str] = NOTHING
) -> Iterator[Terminal]:
    """`sdsupervise WORDS` of the ground's instance in a terminal."""
    command = [SDSUPERVISE, *map(str, words), "--pid-file", str(ground.pid_file)]
    shown = Terminal(command, ground.environment({"TERM": "vt100", **environment}), columns=columns, rows=rows)
    try:
        yield shown
    finally:
        shown.close()


def run(ground: Ground, *words: object, **changes: str) -> Running:
    """`sdsupervise WORDS`, to its end, without a terminal."""
    running = ground.run(SDSUPERVISE, *words, environment=changes)
    running.wait()
    return running


# ------------------------------------------------------------------------------------------------------ a reload


def test_progress(ground: Ground) -> None:
    """On a terminal a reload shows the phase, how many workers are ready and how long it may take, on one line that is
    gone when the verdict comes."""
    ground.make_gate()
    ground.serving()
    ground.deploy(2, service(HELD, before=TOLD, base="Member"))
    with terminal(ground, "reload") as shown:
        shown.wait_for("the new code warms up", "at most", "more")
        for ready in (1, 2):
            ground.expect("warming")
            ground.open_gate()
            shown.wait_for(f"workers ready {ready}/3")
        ground.expect("warming")
        ground.open_gate()
        text = shown.wait_for("RELOADED in ")
        assert shown.wait() == ExitStatus.OK
        assert "workers ready" not in text


def test_a_failure_on_a_terminal(ground: Ground) -> None:
    """The traceback and the verdict stay on the screen."""
    ground.serving()
    ground.deploy(2, "1/0")
    with terminal(ground, "reload") as shown:
        assert shown.wait() == ExitStatus.FAILED
        assert "ZeroDivisionError" in shown.written and "NOT RELOADED: " in shown.written


def test_ctrl_c_leaves_the_reload_going(ground: Ground) -> None:
    """Ctrl-C ends the waiting and says so, with 130; the reload goes on to its end."""
    ground.make_gate()
    ground.serving()
    ground.deploy(2, service(HELD, before=TOLD, base="Member"))
    with terminal(ground, "reload") as shown:
        ground.expect("warming")
        shown.wait_for("the new code warms up")
        shown.press("\x03")
        assert shown.wait() == ExitStatus.INTERRUPTED
        assert "the reload goes on" in shown.wait_for("sdsupervise status")
        assert shown.settings == shown.settings_before
    ground.open_gate()
    for _ in range(2):
        ground.expect("warming")
        ground.open_gate()
    ground.expect("serves", release=2)


def test_timeout_leaves_the_reload_going(ground: Ground) -> None:
    """--timeout ends the waiting and says so, with 124; the reload goes on to its end."""
    ground.make_gate()
    ground.serving()
    ground.deploy(2, service("def warm_up(self):\n    wait_at_gate('warming')", before=TOLD))
    gone = run(ground, "reload", "--timeout", "1", "--pid-file", ground.pid_file)
    assert gone.wait() == ExitStatus.TIMED_OUT
    assert gone.err.startswith("No verdict within 1 s: the reload goes on.")
    ground.expect("warming")
    ground.open_gate()
    ground.expect("serves", release=2)


def test_timeout_without_an_answer(ground: Ground) -> None:
    """Of a supervisor that has not even heard of the reload, nobody says that it goes on."""
    service = ground.serving()
    service.signal(signal.SIGSTOP)
    try:
        gone = run(ground, "reload", "--timeout", "0.2", "--pid-file", ground.pid_file)
        assert gone.wait() == ExitStatus.TIMED_OUT
        assert re.fullmatch(
            r"The supervisor on \S+ has not answered in 0.2 s; it may hang, or it may still "
            "reload.\n",
            gone.err,
        )
    finally:
        service.signal(signal.SIGCONT)


def test_plain_lines_elsewhere(ground: Ground) -> None:
    """What is no terminal, or a dumb one, gets lines without a colour, a bar or an empty line."""
    ground.serving()
    ground.deploy(2)
    told = ground.reload().stdout.splitlines()
    with terminal(ground, "reload", environment={"TERM": "dumb"}) as shown:
        assert shown.wait() == ExitStatus.OK
        dumb = shown.written.splitlines()
    for lines in told, dumb:
        assert lines[0].startswith("Generation ") and lines[-1].startswith("RELOADED in ")
        assert all(line and "\x1b" not in line for line in lines)


def test_workers_that_get_ready_in_plain_lines(ground: Ground) -> None:
    """Of a pool it is told how many are ready, of a single worker it is not."""
    ground.serving()
    ground.deploy(2, service("workers = 3", before=TOLD, base="Member"))
    told = ground.reload().stdout.splitlines()
    assert [line for line in told if line.startswith("workers ready")] == [f"workers ready {n}/3" for n in (1, 2, 3)]
    ground.deploy(3)
    assert "workers ready" not in ground.reload().stdout


@pytest.mark.parametrize("text", ["", "1/0"], ids=["good", "broken"])
def test_where_new_code_is_looked_for(ground: Ground, text: str) -> None:
    """The directory by its name and where that leads now, also where nothing can be loaded from there."""
    ground.deploy(1)
    ground.run(SDSUPERVISE, "run", "--directory", "current", "--pid-file", ground.pid_file, "service.py")
    ground.expect("serves", release=1)
    ground.deploy(2, text)
    here = ground.directory
    assert f"generation 2 starts in {here}/current -> {here}/releases/2\n" in ground.reload().stdout
    (here / "releases/2/service.py").write_text(service())
    assert f"generation {3 - bool(text)} starts in {here}/current -> {here}/releases/2\n" in ground.reload().stdout


def test_reload_in_json(ground: Ground) -> None:
    """--json: an object on a line for each step, and one for the verdict, good or bad."""
    ground.serving()
    ground.deploy(2)
    told = run(ground, "reload", "--json", "--pid-file", ground.pid_file).out
    steps = [json.loads(line) for line in told.splitlines()]
    assert steps[0]["phase"] == "starting_successor" and steps[-1]["verdict"] == "done" and steps[-1]["generation"] == 2
    ground.deploy(3, "1/0")
    failed = run(ground, "reload", "--json", "--pid-file", ground.pid_file)
    verdict = json.loads(failed.out.splitlines()[-1])
    assert verdict["verdict"] == "failed" and "ZeroDivisionError" in verdict["traceback"]
    assert failed.wait() == ExitStatus.FAILED and failed.err.startswith("NOT RELOADED: ")
    nobody = run(ground, "reload", "--json", "--pid-file", ground.directory / "none.pid")
    assert json.loads(nobody.out)["verdict"] == "unknown" and nobody.wait() == ExitStatus.UNAVAILABLE


@pytest.mark.parametrize("change", ["nothing", "file", "symlink"])
def test_outdated(ground: Ground, change: str) -> None:
    """--outdated reloads what is not what the disk has: another content, or a symlink that leads elsewhere."""
    ground.serving()
    if change == "file":
        script = ground.current / "service.py"
        script.write_text(script.read_text() + "\n# changed\n")
    elif change != "nothing":
        ground.deploy(2)
    would = run(ground, "reload", "--outdated", "--dry-run", "--pid-file", ground.pid_file)
    done = run(ground, "reload", "--outdated", "--pid-file", ground.pid_file)
    assert would.wait() == done.wait() == ExitStatus.OK
    if change == "nothing":
        assert done.out == would.out == "1 instance runs what is on disk: nothing to reload.\n"
    else:
        assert would.out.startswith("Would reload ") and would.out.count("\n") == 1
        assert ("has changed on disk" if change == "file" else "releases/2") in would.out
        assert done.out.splitlines()[-1].startswith("RELOADED in ")
    assert ground.status()["generation"] == (1 if change == "nothing" else 2)


def test_outdated_of_a_release_that_is_gone(ground: Ground) -> None:
    """A supervisor whose working directory was removed answers all the same, and is outdated."""
    ground.deploy(1)
    place = ground.directory / "place"
    place.mkdir()
    ground.run(PYTHON, ground.current / "service.py", "--no-fork", "--pid-file", ground.pid_file, cwd=place)
    ground.expect("serves")
    place.rmdir()
    would = run(ground, "reload", "--outdated", "--dry-run", "--pid-file", ground.pid_file)
    assert would.wait() == ExitStatus.OK and would.out.endswith(": it runs in a directory that is gone.\n")
    assert ground.status()["state"] == "serving"


def test_outdated_of_too_many_modules(ground: Ground) -> None:
    """Of more modules than an answer can carry it is the time of the files that counts."""
    names = [f"module{number}_{'x' * 90}" for number in range(400)]
    ground.deploy(1, service(before="\n".join(f"import {name}" for name in names)), **dict.fromkeys(names, ""))
    for file in ground.current.resolve().iterdir():
        os.utime(file, (0, 0))  # /proc has a start to the hundredth of a second: what is as old may be newer
    ground.serving()
    assert "nothing to reload" in run(ground, "reload", "--outdated", "--pid-file", ground.pid_file).out
    changed = ground.current.resolve() / f"{names[7]}.py"
    changed.write_text("# changed\n")
    would = run(ground, "reload", "--outdated", "--dry-run", "--pid-file", ground.pid_file)
    assert f"{changed} is newer than what runs" in would.out


def test_outdated_command(ground: Ground) -> None:
    """Of a command the program and the files it is given are compared."""
    program = ground.program(1, "report('started')\nwait()")
    ground.run_command(program, options=["--ready-after", "0"])
    ground.expect("started")
    current = run(ground, "reload", "--outdated", "--dry-run", "--pid-file", ground.pid_file)
    assert "nothing to reload" in current.out, current.err
    program.write_text(program.read_text() + "# changed\n")
    changed = run(ground, "reload", "--outdated", "--dry-run", "--pid-file", ground.pid_file)
    assert re.fullmatch(r"Would reload \S+: \S+/current/program has changed on disk\.\n", changed.out)


# -------------------------------------------------------------------------------------------------------- status


def test_watch(ground: Ground) -> None:
    """status --watch follows a reload, a resize, the supervisor's death and the next one's start; q leaves the terminal
    as it was."""
    first = ground.serving()
    with terminal(ground, "status", "--watch") as shown:
        shown.wait_for("serving · generation 1", "worker 0", str(ground.worker_pids()[0]), "q leaves")
        ground.deploy(2)
        assert ground.reload().returncode == 0
        shown.wait_for("serving · generation 2", "reload  ", "CPU%")
        shown.resize(9, 2)
        shown.wait_for("q leaves")
        shown.resize(200, 12)
        shown.wait_for("serving · generation 2", "worker 0", "q leaves")
        assert first.wait() == 0
        os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
        shown.wait_for("waiting for ")
        ground.start()
        shown.wait_for("serving · generation 1", "worker 0")
        shown.press("q")
        assert shown.wait() == ExitStatus.OK
        assert shown.settings == shown.settings_before


def test_watch_of_many_on_little_room(ground: Ground) -> None:
    """More workers than lines are one line, so that everything is to be seen."""
    ground.deploy(1, service("workers = 40", base="Member"))
    ground.start()
    for _ in range(40):
        ground.expect("serves")
    with terminal(ground, "status", "--watch", rows=16) as shown:
        shown.wait_for("40 workers", "logs", "q leaves")
        shown.press("\x03")
        assert shown.wait() == ExitStatus.OK
        assert shown.settings == shown.settings_before


def test_watch_needs_a_terminal(ground: Ground) -> None:
    """Elsewhere, or on a terminal that is none, it is one sentence."""
    ground.serving()
    refused = run(ground, "status", "--watch", "--pid-file", ground.pid_file)
    assert refused.wait() == ExitStatus.USAGE and "needs a terminal" in refused.err
    with terminal(ground, "status", "--watch", environment={"TERM": "no-such-terminal"}) as shown:
        assert shown.wait() == ExitStatus.USAGE
        assert "TERM=no-such-terminal" in shown.written and "Traceback" not in shown.written


def test_colours_are_for_terminals(ground: Ground) -> None:
    """Colours come on a terminal alone, and not where NO_COLOR or TERM=dumb forbid them; lines fit it."""
    ground.serving()
    plain = run(ground, "status", "--pid-file", ground.pid_file).out
    assert "\x1b" not in plain
    for name, value, coloured in (("LANG", "C.UTF-8", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False)):
        with terminal(ground, "status", columns=60, environment={name: value}) as shown:
            assert shown.wait() == ExitStatus.OK
            assert ("\x1b[" in shown.written) is coloured
            lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.written).splitlines()
            assert max(map(len, lines[1:])) <= 60


def test_a_generation_that_starts_is_seen(ground: Ground) -> None:
    """During a reload status shows both generations with all their workers."""
    ground.make_gate()
    ground.serving()
    ground.deploy(2, service(HELD, before=TOLD, base="Member"))
    reload = ground.reload_process()
    ground.expect("warming")
    seen = run(ground, "status", "--pid-file", ground.pid_file).out
    assert "reloading (starting_successor) · generation 1" in seen
    assert re.search(r"generation 2 +\d+ +starting", seen) and "generation 1" in seen
    successor = ground.status()["successor"]
    assert isinstance(successor, dict) and len(successor["workers"]) == 3
    ground.open_gate()
    for _ in range(2):
        ground.expect("warming")
        ground.open_gate()
    assert reload.wait() == 0


TALKING = """
def serve(self):
    family, name = {where}
    listener, client, beside = (socket.socket(family) for _ in range(3))
    listener.bind(name)
    listener.listen()
    if family is socket.AF_UNIX:
        beside.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # the kernel gives it a name when it connects
    for each in client, beside:
        each.connect(listener.getsockname())
    self.kept = [listener, client, beside, *(listener.accept()[0] for _ in range(2))]
    super().serve()
"""


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("socket.AF_INET, ('127.0.0.1', 0)", 4),  # both ends are the worker's
        ("socket.AF_UNIX, os.environ['GROUND'] + '/a socket'", 2),
        ("socket.AF_UNIX, '\\0' + os.environ['GROUND']", 2),
    ],
    ids=["tcp", "unix", "abstract"],
)
def test_a_generation_that_drains_is_seen(ground: Ground, where: str, number: int) -> None:
    """status shows how long it may still take, its workers, and how many connections keep them."""
    test_overlap.deploy(ground, 1, TALKING.format(where=where), drains=True)
    ground.serving()
    (worker,) = ground.worker_pids()
    test_overlap.deploy(ground, 2)
    test_overlap.reload(ground, 2)
    ground.expect("drains", release=1)
    seen = run(ground, "status", "--pid-file", ground.pid_file).out
    assert re.search(r"generation 1 +\d+ +draining .*[0-9.]+ s left$", seen, re.MULTILINE)
    assert re.search(rf"└─ worker +{worker} +draining .* {number} connections$", seen, re.MULTILINE)
    test_overlap.let_drain(ground, 1)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ("before_commit = ['/bin/sleep', '0.2']", {"started", "checked"}),
        ("probation = 0.2", {"started", "on probation"}),
    ],
)
def test_where_the_time_went(ground: Ground, settings: str, steps: set[str]) -> None:
    """status shows each step of the last reload that took time; they add up to the whole. So for one that failed."""
    ground.serving()
    ground.deploy(2, service(settings))
    assert ground.reload().returncode == 0
    found = _steps(ground, "done")
    assert set(found) >= steps and all(found[step] >= 0.2 for step in steps - {"started"})
    ground.deploy(3, service("before_commit = ['/bin/sh', '-c', 'sleep 0.2; exit 1']"))
    assert ground.reload().returncode == 1
    found = _steps(ground, "failed")
    assert set(found) >= {"started", "checked", "went back"}


def _steps(ground: Ground, verdict: str) -> dict[str, float]:
    """The steps of the last reload and their seconds, as status shows them."""
    seen = run(ground, "status", "--pid-file", ground.pid_file).out
    reload = ground.status()["last_reload"]
    assert isinstance(reload, dict) and abs(sum(reload["phases"].values()) - reload["seconds"]) < 0.01
    whole = re.search(rf"reload .* {verdict} in ([\d.]+) s, ", seen)
    (line,) = [line for line in seen.splitlines() if re.fullmatch(r" +started [\d.]+(, [a-z ]+ [\d.]+)+", line)]
    found = {step: float(seconds) for step, seconds in re.findall(r"([a-z ]+?) ([\d.]+)(?:, |$)", line.strip())}
    assert whole is not None and abs(sum(found.values()) - float(whole[1])) < 0.01 * (len(reload["phases"]) + 1)
    return found


def test_who_asked_and_where_the_logs_are(ground: Ground) -> None:
    """status names who asked for the last reload, and where to find what is logged."""
    ground.serving()
    ground.deploy(2)
    reload = ground.reload_process()
    assert reload.wait() == 0
    seen = run(ground, "status", "--pid-file", ground.pid_file).out
    assert f"(pid {reload.pid})" in seen or f"pid {reload.pid}, uid" in seen
    assert seen.splitlines()[-1].startswith("  logs  ")


def test_a_symlink_that_leads_elsewhere_now(ground: Ground) -> None:
    """status says where the code lies, by the link that leads there; and if it leads elsewhere by now, says so."""
    ground.serving()
    assert f"{ground.current} → releases/1/service.py (" in run(ground, "status", "--pid-file", ground.pid_file).out
    ground.deploy(2)
    seen = run(ground, "status", "--pid-file", ground.pid_file).out
    assert f"but {ground.current} is releases/2 now" in seen


def test_json_everywhere(ground: Ground) -> None:
    """--json: one object on each line."""
    running = ground.serving()
    status = json.loads(run(ground, "status", "--json", "--pid-file", ground.pid_file).out)
    assert {usage["pid"] for usage in status["processes"]} == {running.pid, *ground.worker_pids()}
    assert json.loads(run(ground, "scale", "1", "--json", "--pid-file", ground.pid_file).out) == {"workers": 1}
    version = json.loads(run(ground, "version", "--json").out)
    assert run(ground, "version").out == run(ground, "--version").out == f"sdsupervise {version['version']}\n"


@pytest.mark.parametrize("answer", [b"hello\0", b'{"parameters": {"name": "other"}}\0', b'{"error": "no"}\0', b""])
def test_somebody_else_listens(ground: Ground, answer: bytes) -> None:
    """Whoever answers as no supervisor does costs one sentence."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(ground.control)
        other.listen()
        running = ground.run(SDSUPERVISE, "status", "--pid-file", ground.pid_file)
        caller, _ = other.accept()
        with caller:
            caller.recv(65536)
            caller.sendall(answer)
        assert running.wait() != ExitStatus.OK
        assert running.err.count("\n") == 1 and ground.control in running.err + ground.control * (answer == b"hello\0")


# --------------------------------------------------------------------------------------------------- typing errors


def run_as_user(ground: Ground, *words: str) -> Running:
    """`python WORDS` of somebody with places of their own."""
    whom: dict[str, object] = {}
    places = {"XDG_RUNTIME_DIR": str(ground.directory / "run"), "XDG_CONFIG_HOME": str(ground.directory / "config")}
    if os.geteuid() == 0:  # who has no places of its own
        whom = {"user": 61234, "group": 61234, "extra_groups": []}
    return ground.run(sys.executable, *words, environment=places, **whom)


START_IT = "websearch is not running. Start it: systemctl --user start"


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["statsu"], 64, "sdsupervise: there is no command 'statsu'. Did you mean 'status'?"),
        (["reload", "--keepgoing"], 64, "unrecognized arguments: --keepgoing. Did you mean '--keep-going'?"),
        (["reload", "--timeout", "soon", "web"], 64, "'soon' is not a number of seconds above 0"),
        (["reload", "--all", "web"], 64, "Name instances or use --all, not both."),
        (["reload", "--keep-going", "web"], 64, "--keep-going is for several instances"),
        (["status", "--watch", "--json"], 64, "use one of them"),
        (["status", "web-shop"], 69, "Did you mean 'webshop'?"),
        (["reload", "webshpo"], 69, "Did you mean 'webshop'?"),
        (["scale", "webshpo", "2"], 69, "Did you mean 'webshop'?"),
        (["run", "websaerch"], 78, "the search path of Python). Did you mean 'websearch'?"),
        (["unit", "lnit"], 64, " Did you mean 'lint'? Try 'sdsupervise unit --help'."),
        (["metrics", "--format", "prometeus"], 64, " Did you mean 'prometheus'?"),
        (["reload", "websearch"], 69, f"{START_IT} sdsupervise@websearch"),
        (["status", "websearch"], 69, f"{START_IT} sdsupervise@websearch"),
        (["scale", "websearch", "2"], 69, f"{START_IT} sdsupervise@websearch"),
        (["check", "web_search"], 78, "; did you mean websearch?"),
        (["check", "web search"], 78, "An instance cannot be called 'web search'; a name has up to 64 letters"),
        (["scale", "webshop", "many"], 64, "'many' is not a number of workers"),
        ([], 64, f"Name a command: {', '.join(commands._COMMANDS)}. "),
    ],
)
def test_typing_errors(ground: Ground, words: list[str], status: int, sentence: str) -> None:
    """One sentence, with the nearest word there is, and the status for it."""
    for path in "run/sdsupervise/webshop/control", "config/sdsupervise/websearch.toml":
        ground.write(path, "")
    said = run_as_user(ground, "-m", "sdsupervise", *words)
    assert said.wait() == status
    assert sentence in said.err and said.err.count("\n") == 1 and said.out == ""


def test_nothing_runs(ground: Ground) -> None:
    """What is configured, by a user for their own systemd, can be started."""
    ground.write("config/sdsupervise/websearch.toml", "")
    # On this host others may run.
    said = run_as_user(ground, "-c", "from sdsupervise.cli import status; print(status.nothing_runs())")
    assert said.wait() == 0
    assert said.out.endswith(" Start one: systemctl --user start sdsupervise@websearch\n")


def test_exit_statuses_are_documented(ground: Ground) -> None:
    """--help says what each exit status means."""
    told = run(ground, "--help").out
    for status in ExitStatus:
        assert f"  {status.value:<4} {status.meaning}\n" in told


def test_a_command_imports_only_what_it_needs(ground: Ground) -> None:
    """ExecReload= runs `reload` at every reload: no module for terminals, several instances or other commands."""
    ground.serving()
    imported = run(ground, "reload", "--pid-file", ground.pid_file, PYTHONPROFILEIMPORTTIME="1").err
    found = set(re.findall(r"sdsupervise\.cli\.(\w+)$", imported, re.MULTILINE))
    assert found <= {"main", "commands", "target", "reload_output", "reload", "standard_output"}, found
    # setproctitle, where it is installed, imports logging and what that needs.
    line = r"import time: [ \d]*\|[ \d]*\|"
    ours = re.sub(rf"(?:{line}   +\S+\n)*{line} logging\n{line} setproctitle\._setproctitle\n", "", imported)
    assert not re.search(r"\| +(threading|difflib|textwrap|curses|shutil|concurrent)\b", ours)


def test_a_reader_that_has_gone(ground: Ground) -> None:
    """`sdsupervise reload | head -1` reloads all the same, and its exit status is the verdict; other commands have
    nothing to say when nobody reads any more, and complain of nothing."""

    def run_unread(*words: str, streams: str = "") -> subprocess.CompletedProcess[str]:
        reader, writer = os.pipe()
        os.close(reader)
        to_nobody = ("bash", "-c", f'exec "$0" "$@" >&{writer} {streams}', SDSUPERVISE)
        running = ground.run(*to_nobody, *words, "--pid-file", ground.pid_file, pass_fds=(writer,))
        os.close(writer)
        return ground.finish(running)

    ground.serving()
    ground.deploy(2)
    assert (done := run_unread("reload")).returncode == 0 and done.stderr == "", done
    assert ground.status()["generation"] == 2
    ground.deploy(3, "import nothing_of_that_name")
    assert (done := run_unread("reload")).returncode == 1 and "NOT RELOADED" in done.stderr, done
    assert "BrokenPipe" not in done.stderr
    assert (done := run_unread("reload", streams="2>&1")).returncode == 1, done
    assert (done := run_unread("status", "--json")).returncode == 0 and done.stderr == "", done
    many = "for name in $(seq 5000); do echo no_$name; done"
    line = f'"$0" check --json $({many}) 2>&1 | head -1; echo ${{PIPESTATUS[0]}}'
    shown = ground.run("bash", "-c", line, SDSUPERVISE)
    assert shown.wait() == 0
    assert json.loads(shown.out.splitlines()[0])["name"] == "no_1" and shown.out.splitlines()[1:] == ["0"]


def test_without_a_buffer(ground: Ground) -> None:
    """Where Python was told not to buffer what is written, nor do we: it keeps its place among the lines of others."""
    say_and_vanish = """
    import os
    from sdsupervise.cli import commands, main
    commands.main = lambda _: print("said") or os._exit(0)
    main.main([])
    """
    said = ground.run(PYTHON, "-c", dedent(say_and_vanish), environment={"PYTHONUNBUFFERED": "1"})
    assert (said.wait(), said.out) == (0, "said\n")


def test_a_disk_that_is_full(ground: Ground) -> None:
    """Nor does one keep a reload from its verdict, whose output goes to a file there; other commands say so."""
    ground.serving()
    ground.deploy(2)
    to_full_disk = ("sh", "-c", 'exec "$0" "$@" >/dev/full', SDSUPERVISE)
    file = ground.write("app.toml", 'command = ["/bin/sh"]\nready_after = 1\n')
    for words in (
        *(("status", "--pid-file", ground.pid_file), ("metrics", "--pid-file", ground.pid_file), ("list",)),
        *(("config", "--config", file), ("config", "--example"), ("check", file), ("version",)),
        *(("--help",), ("--version",), ("run", "--help")),
    ):
        said = ground.run(*to_full_disk, *words)
        assert (said.wait(), said.err) == (74, "Cannot write to standard output: No space left on device.\n"), words
    reload = ground.run(*to_full_disk, "reload", "--pid-file", ground.pid_file)
    assert (reload.wait(), reload.err) == (ExitStatus.OK, "")
    ground.expect("serves", release=2)


def test_nowhere_to_write_to(ground: Ground) -> None:
    """A caller that has closed standard output is told by the exit status alone."""
    ground.serving()
    ground.deploy(2)
    for words, status in (
        *((("status", "--pid-file", ground.pid_file), 0), (("list",), 0), (("config", "--example"), 0)),
        *((("reload", "--pid-file", ground.pid_file), 0), (("status", "--pid-file", "/none"), 69)),
    ):
        asked = ground.run("sh", "-c", 'exec "$0" "$@" >&-', SDSUPERVISE, *words)
        assert asked.wait() == status and "Traceback" not in asked.err, words


def test_characters_that_cannot_be_written(ground: Ground) -> None:
    """In another encoding than UTF-8 a status has a "?" for what that lacks."""
    ground.serving()
    shown = run(ground, "status", "--pid-file", ground.pid_file, PYTHONIOENCODING="ascii")
    assert (shown.wait(), shown.err) == (0, "")
    assert shown.out.startswith("? ") and "\n  ?? worker 0 " in shown.out
