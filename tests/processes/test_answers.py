"""Whoever listens where a supervisor should: what he answers holds no command, moves no terminal's cursor, and names no
file, process or unit to one with more rights."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sdsupervise.input.printable import printable
from tests.support.harness import SDSUPERVISE, Ground
from tests.support.running import LIMIT_SECONDS, Running

EVIL = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\u200b\u2028\x9b31m\r\nsecond line"
Serve = Callable[[socket.socket, Mapping[str, Any]], None]


@contextlib.contextmanager
def listening(path: str, serve: Serve) -> Iterator[None]:
    """Somebody listens there, and serves each call in a way of his own."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen()
        threads: list[threading.Thread] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=talk, args=(connection,)))
                    threads[-1].start()

        def talk(connection: socket.socket) -> None:
            connection.settimeout(LIMIT_SECONDS)
            with connection, contextlib.suppress(ConnectionError):
                data = b""
                while more := connection.recv(65536):
                    data += more
                    if data.endswith(b"\0"):
                        serve(connection, json.loads(data[:-1]))
                        data = b""

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()
            os.unlink(path)


def drip(connection: socket.socket, _call: Mapping[str, Any]) -> None:
    """A byte now and then, for ever: JSON allows for blanks."""
    connection.sendall(b'{"parameters":')
    while True:
        connection.sendall(b" ")
        threading.Event().wait(0.05)


def pour(connection: socket.socket, _call: Mapping[str, Any]) -> None:
    """Bytes without an end."""
    while True:
        connection.sendall(b'{"parameters": {"name": "' + b"x" * 65536)


def continue_for_ever(connection: socket.socket, _call: Mapping[str, Any]) -> None:
    """Answers of which none is the last."""
    while True:
        connection.sendall(b'{"parameters": {}, "continues": true}\0')


def give_descriptors(connection: socket.socket, _call: Mapping[str, Any]) -> None:
    """Beside each byte."""
    with open("/dev/null") as nothing:
        while True:
            socket.send_fds(connection, [b" "], [nothing.fileno()] * 100)


def be_silent(_connection: socket.socket, _call: Mapping[str, Any]) -> None:
    """Nothing at all."""


UNENDING: Mapping[str, Serve] = {
    "drips": drip,
    "pours": pour,
    "continues": continue_for_ever,
    "gives descriptors": give_descriptors,
    "is silent": be_silent,
}
COMMANDS = (["status"], ["status", "--json"], ["metrics"], ["scale", "2"], ["reload", "--outdated"])
CASES = [*((["status"], how) for how in UNENDING), *((command, "drips") for command in COMMANDS[1:])]
CASES += [(["reload"], "continues")]


@pytest.mark.parametrize(
    ("command", "how"), CASES, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_an_answer_that_does_not_end(ground: Ground, command: list[str], how: str) -> None:
    """Each command has a deadline for the whole of an answer, and a limit to its bytes: it ends, with one sentence."""
    with listening(ground.control, UNENDING[how]):
        running = ground.run(SDSUPERVISE, *command, "--pid-file", ground.pid_file)
        status = running.wait()
    assert "Traceback" not in running.err
    if command[0] == "metrics":
        assert "sdsupervise_up{instance=" in running.out and running.out.count(" 0.0\n") >= 1
    else:
        assert status == 69 and running.err.count("\n") == 1, (status, running.err)


def test_a_list_with_one_that_drips(ground: Ground) -> None:
    """`list` shows it as one that hangs, and the others as they are."""
    directory = ground.directory / "run/sdsupervise"
    with listening_as(ground, "dripping", drip), listening_as(ground, "strange", answering({"parameters": {}})):
        shown = as_user(ground, "list", "--json")
    found = {facts["instance"]: facts for facts in map(json.loads, shown.out.splitlines())}
    assert found["dripping"]["state"] == "hangs" and found["strange"]["state"] == "strange"
    assert str(directory / "strange") in found["strange"]["error"]


@contextlib.contextmanager
def listening_as(ground: Ground, name: str, serve: Serve) -> Iterator[None]:
    """The same as an instance of a user's."""
    directory = ground.directory / "run/sdsupervise" / name
    directory.mkdir(parents=True, exist_ok=True)
    with listening(str(directory / "control"), serve):
        yield


def as_user(ground: Ground, *words: str) -> Running:
    """`sdsupervise WORDS` of somebody with places of their own."""
    whom: dict[str, object] = {}
    places = {"XDG_RUNTIME_DIR": str(ground.directory / "run"), "XDG_CONFIG_HOME": str(ground.directory / "config")}
    if os.geteuid() == 0:  # who has no places of its own
        from tests.support.harness import PYTHON

        whom = {"user": 61234, "group": 61234, "extra_groups": []}
        running = ground.run(PYTHON, "-m", "sdsupervise", *words, environment=places, **whom)
    else:
        running = ground.run(SDSUPERVISE, *words, environment=places)
    running.wait()
    return running


def answering(*answers: Mapping[str, Any], **of_methods: Mapping[str, Any]) -> Serve:
    """These answers to each call, or one of a method's."""

    def serve(connection: socket.socket, call: Mapping[str, Any]) -> None:
        method = call["method"].rpartition(".")[2]
        for answer in (of_methods[method],) if method in of_methods else answers:
            connection.sendall(json.dumps(answer).encode() + b"\0")

    return serve


def spoilt(value: Any) -> Any:  # noqa: ANN401
    """The same facts, with each text as evil as can be."""
    if isinstance(value, dict):
        return {name: spoilt(each) for name, each in value.items()}
    if isinstance(value, list):
        return [spoilt(each) for each in value]
    return value + EVIL if isinstance(value, str) else value


@pytest.fixture
def facts(ground: Ground) -> Mapping[str, Any]:
    """What a supervisor answers to Status, with something in every place."""
    ground.serving()
    ground.deploy(2, "1/0")
    ground.reload()
    answered: dict[str, Any] = dict(ground.status())
    os.kill(answered["pid"], signal.SIGTERM)
    ground.expect_nothing_left()
    answered["pid"] = os.getpid()
    answered["sockets"] = [{"name": "http", "address": "127.0.0.1:8000", "from": "systemd"}]
    answered["draining"] = [{"generation": 1, "pid": os.getpid(), "workers": [os.getpid()], "at_most": 3.0}]
    answered["successor"] = {"generation": 3, "pid": None, "code": "x", "workers": [], "ready": 0}
    return answered


DONE = {"verdict": "done", "seconds": 1.5, "generation": 2, "pid": 7, "code": "x", "old_generation": 1, "old_pid": 5}


@pytest.mark.parametrize("command", [["status"], ["status", "--full"], ["status", "--json"], ["metrics"], ["list"]])
def test_what_is_shown_of_status(ground: Ground, facts: Mapping[str, Any], command: list[str]) -> None:
    """No text of an answer reaches the terminal with what moves a cursor, turns or hides text, or begins a line."""
    with listening_as(ground, "web", answering({"parameters": spoilt(facts)})):
        shown = as_user(ground, *command, *(["web"] if command[0] != "list" else []))
    assert shown.err == ""
    assert_harmless(shown.out)


def test_what_is_shown_of_a_reload(ground: Ground) -> None:
    """Nor of what a reload says: steps, verdict, reason, traceback."""
    progress = {"parameters": spoilt({"phase": "starting_successor", "message": "x"}), "continues": True}
    traceback = {"traceback": "a\nb\x1b[2J\u202e"}  # which has several lines
    failed = {"error": "io.sdsupervise.ReloadFailed", "parameters": {**spoilt({"reason": "x"}), **traceback}}
    refused = {"error": f"io.x.{EVIL}", "parameters": {}}
    for last, status in (({"parameters": spoilt(DONE)}, 0), (failed, 1), (refused, 1)):
        with listening(ground.control, answering(progress, last)):
            reload = ground.reload()
        assert reload.returncode == status, reload
        assert_harmless(reload.stdout + reload.stderr)


def assert_harmless(text: str) -> None:
    assert "gnp.exe" in text
    assert printable(text) == text
    assert not [line for line in text.splitlines() if line.strip().startswith("second line")], text


OF_ANOTHER_SHAPE: list[tuple[str, object]] = [
    *(("pid", pid) for pid in ("../../etc", 0, -1, 2**40, True, 7.0)),
    *(("generation", 1.5), ("since", 1e300), ("workers", [{"pid": "/"}]), ("workers", "many"), ("code", "path")),
    *(
        ("pool", {"workers": 10**9, "serving": 1, "max_workers": 1, "automatic": False}),
        ("last_reload", {"asked_at": []}),
        ("spare", "../x"),
        ("name", None),
    ),
    ("counters", {"crashes": {"x": "many"}}),
    ("draining", [{"generation": 1, "pid": "7", "workers": [], "at_most": 1}]),
]


def test_an_answer_of_another_shape(ground: Ground, facts: Mapping[str, Any]) -> None:
    """One member that is of another type, or out of range, and nothing of the answer is used."""
    for name, value in OF_ANOTHER_SHAPE:
        with listening(ground.control, answering({"parameters": {**facts, name: value}})):
            running = ground.run(SDSUPERVISE, "status", "--json", "--pid-file", ground.pid_file)
            assert (running.wait(), running.out) == (69, ""), (name, value)
        assert f"does not answer like this version of sdsupervise: {name}" in running.err, (name, value)
        assert running.err.count("\n") == 1


@pytest.mark.parametrize("how", ["another shape", "refuses", "is silent"])
def test_a_second_start_beside_it(ground: Ground, how: str) -> None:
    """A service that is started where somebody listens who is no supervisor does not start, and says why."""
    answer = {"error": f"io.x.{EVIL}"} if how == "refuses" else {"parameters": {"name": 7, "pid_file": []}}
    ground.deploy(1)
    with listening(ground.control, be_silent if how == "is silent" else answering(answer)):
        running = ground.start()
        assert running.wait() == 69, running.err
    assert "Is another copy of this daemon already running?" in running.err
    assert running.err.count("\n") == 1 and printable(running.err) == running.err


def test_a_reload_that_may_take_for_ever(ground: Ground) -> None:
    """Whatever number of seconds is announced, the command waits, and tells the verdict."""
    steps = [
        {"parameters": {"phase": "starting_successor", "message": "x", "at_most": at_most}, "continues": True}
        for at_most in LONG
    ]
    text = b"".join(json.dumps(step).replace("Infinity", "1e999").encode() + b"\0" for step in steps)

    def serve(connection: socket.socket, _call: Mapping[str, Any]) -> None:
        connection.sendall(text + json.dumps({"parameters": DONE}).encode() + b"\0")

    with listening(ground.control, serve):
        reload = ground.reload()
    assert (reload.returncode, reload.stderr) == (0, "")


LONG = (1e6, 1e10, 2.0**64, 1e300, float("inf"), -5, 10**40)


@pytest.mark.parametrize("name", ["../x", "/etc", "-x", "a b", "$(id)"])
def test_names_that_nothing_has(ground: Ground, name: str) -> None:
    """A name that could lead out of a directory, or be an option, or more than a word, is refused by all commands."""
    for words in (["status", "--", name], ["reload", "--", name], ["scale", "--", name, "1"], ["metrics", "--", name]):
        running = ground.run(SDSUPERVISE, *words)
        assert running.wait() == 64, (words, running.err)
        assert "cannot be called" in running.err
    for words in (["check", "--", name], ["config", "--", name], ["run", "--", name]):
        running = ground.run(SDSUPERVISE, *words)
        assert running.wait() in (64, 78), (words, running.err)


def test_names_of_directories(ground: Ground) -> None:
    """A directory that is called as no instance can be is no instance, and none of its socket is asked."""
    asked: list[object] = []

    def serve(_connection: socket.socket, call: Mapping[str, Any]) -> None:
        asked.append(call)

    names = ["a b", "$(touch x)", "-an-option", "\x1b[2J", "x\ny", "ü", "x;y"]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(listening_as(ground, name, serve))
        (ground.directory / "config/sdsupervise").mkdir(parents=True)
        (ground.directory / "config/sdsupervise/a b.toml").write_text("")
        shown = [as_user(ground, "list").out, as_user(ground, "status").out]  # the system may have others
        checked = as_user(ground, "check")
    assert not asked
    assert not [name for name in names if any(name in text for text in shown)]
    assert "An instance cannot be called 'a b'" in checked.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than others")
@pytest.mark.parametrize("member", ["package", "directory", "working_directory", "path", "modules", "argv"])
def test_root_does_not_open_what_an_answer_names(ground: Ground, member: str, tmp_path: Path) -> None:
    """`reload --outdated` looks at the disk where an instance says that its code is, with the rights of who says it."""
    code: dict[str, Any] = {
        "path": "/nowhere/x.py",
        "fingerprint": "0" * 16,
        "modules": [{"name": "x", "file": "/nowhere/x.py"}],
        "complete": True,
        "command": [],
        "argv": ["sdsupervise", "run", "--config", "/nowhere/x.toml"],
        "directory": "/nowhere",
        "working_directory": "/nowhere",
        "version": "0",
        "package": "/nowhere",
    }
    secret = tmp_path / "secret"
    secret.mkdir()
    secret.chmod(0o700)
    fifo = secret / "__init__.py"
    os.mkfifo(fifo)
    named = {"modules": [{"name": "x", "file": str(fifo)}], "argv": ["sdsupervise", "run", "--config", str(fifo)]}
    code[member] = named.get(member, str(fifo if member == "path" else secret))
    program = ground.write("listen.py", LISTEN)
    status = {**STATUS, "pid": os.getpid()}
    (ground.directory / "answers").write_text(json.dumps({"Code": code, "Status": status}))
    ground.directory.chmod(0o777)
    from tests.support.harness import PYTHON

    listener = ground.run(PYTHON, program, ground.control, user=61234, group=61234, extra_groups=[])
    listener.expect_line("listens", stream="out")
    # A FIFO that somebody opens can be opened to write to.
    running = ground.run(SDSUPERVISE, "reload", "--outdated", "--dry-run", "--pid-file", ground.pid_file)
    assert running.wait() == 0, running.err
    assert "Would reload" in running.out
    with pytest.raises(OSError):
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


def test_symlinks_without_an_end(ground: Ground) -> None:
    """An answer that names a symlink to a symlink to a symlink, and so on, hides none of the others."""
    above = "/tmp"
    for number in range(1500):
        link = ground.directory / f"link{number}"
        link.symlink_to(above)
        above = str(link)
    strange, usual = ({**STATUS, "name": name, "pid": os.getpid()} for name in ("chain", "web"))
    endless = answering({"parameters": {**strange, "directory": above}})
    with listening_as(ground, "chain", endless), listening_as(ground, "web", answering({"parameters": usual})):
        shown = as_user(ground, "status", "chain", "web")
    assert shown.err == ""
    assert [line.split()[1] for line in shown.out.splitlines() if line.startswith("●")] == ["chain", "web"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than others")
def test_root_follows_no_symlink_for_others(ground: Ground, tmp_path: Path) -> None:
    """`status` says where a symlink leads only if whoever names it could see that."""
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "current").symlink_to("releases/hidden")
    named = {"code": {"path": f"{secret}/releases/x/x.py", "fingerprint": "0"}, "directory": f"{secret}/current"}
    (ground.directory / "answers").write_text(json.dumps({"Status": {**STATUS, "pid": os.getpid(), **named}}))
    ground.directory.chmod(0o777)
    from tests.support.harness import PYTHON

    program = ground.write("listen.py", LISTEN)
    ground.run(PYTHON, program, ground.control, user=61234, group=61234, extra_groups=[]).expect_line("listens", "out")
    running = ground.run(SDSUPERVISE, "status", "--full", "--pid-file", ground.pid_file)
    assert running.wait() == 0, running.err
    assert f"{secret}/releases/x/x.py (0)" in running.out and "hidden" not in running.out


def test_so_many_processes_that_drain(ground: Ground) -> None:
    """Of what an answer names, each process is looked into once, and no more of them than it takes to know."""
    once, *others = [ground.run("sleep", "1000").pid for _ in range(21)]
    generations = ([once] * 10, [once] * 10, others[:10], others[10:])
    draining = [{"generation": 1, "pid": None, "workers": pids, "at_most": 1.0} for pids in generations]
    with listening(ground.control, answering({"parameters": {**STATUS, "pid": os.getpid(), "draining": draining}})):
        running = ground.run(SDSUPERVISE, "status", "--full", "--pid-file", ground.pid_file)
        assert running.wait() == 0, running.err
    assert len([line for line in running.out.splitlines() if "─ worker" in line]) == 40
    assert running.out.count("0 connections") == 20 + 15


LISTEN = """
import json, os, socket, sys
answers = json.load(open(os.environ["GROUND"] + "/answers"))
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listens", flush=True)
if "NOTIFY_SOCKET" in os.environ:
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    connection, _ = listener.accept()
    while data := connection.recv(65536):
        method = json.loads(data[:-1])["method"].rpartition(".")[2]
        connection.sendall(json.dumps({"parameters": answers[method]}).encode() + b"\\0")
"""
STATUS: Mapping[str, Any] = {
    **{"name": "web", "version": "0.1.0", "state": "serving", "status": "x", "serves": True, "healthy": True},
    **{"generation": 2, "since": 1.7e9, "handover": "overlap", "code": {"path": "/x", "fingerprint": "0"}},
    **{"argv": [], "directory": "/", "pid_file": "", "can_reload": True, "sockets": [], "crashes": 0},
    "pool": {"workers": 1, "serving": 1, "max_workers": 1, "automatic": False},
    **{"workers": [], "spare": None, "successor": None, "draining": [], "last_reload": None, "counters": {}},
}
