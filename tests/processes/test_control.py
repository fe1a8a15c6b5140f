"""The control socket: who may do what, and what it does with callers that behave badly."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdsupervise.control.client import Client
from sdsupervise.errors import HandoverError
from tests.support.harness import PYTHON, SDSUPERVISE, Breakpoint, Ground, service
from tests.support.running import LIMIT_SECONDS

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
STRANGER = 61234
CALL = """
import socket, sys
caller = socket.socket(socket.AF_UNIX)
caller.connect(sys.argv[1])
caller.sendall(b'{"method": "io.sdsupervise.%s"}\\0' % sys.argv[2].encode())
print(caller.recv(65536).rstrip(b"\\0").decode())
"""


@contextlib.contextmanager
def connected(ground: Ground) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(ground.control)  # waits where the backlog is full
        caller.settimeout(LIMIT_SECONDS)
        yield caller


def ask(caller: socket.socket, *messages: bytes) -> dict[str, object]:
    """Send messages; the first answer."""
    caller.sendall(b"".join(message + b"\0" for message in messages))
    return answer(caller)


def answer(caller: socket.socket) -> dict[str, object]:
    data = b""
    while not data.endswith(b"\0"):
        more = caller.recv(65536)
        assert more, f"the end, after {data!r}"
        data += more
    found = json.loads(data.split(b"\0")[0])
    assert isinstance(found, dict)
    return found


def generation(caller: socket.socket) -> object:
    """Of who answers."""
    parameters = ask(caller, STATUS)["parameters"]
    assert isinstance(parameters, dict)
    return parameters["generation"]


def is_answered(caller: socket.socket) -> bool:
    """Or else its connection is at its end."""
    try:
        caller.sendall(STATUS + b"\0")
        return bool(caller.recv(1))
    except ConnectionError:
        return False


STATUS = b'{"method": "io.sdsupervise.Status"}'
HALF_A_PAIR = b'{"method": "\\ud800"}'  # a string that JSON can say and UTF-8 cannot


def call_as(ground: Ground, uid: int, method: str) -> dict[str, object]:
    done = ground.finish(
        ground.run(sys.executable, "-c", CALL, ground.control, method, user=uid, group=uid, extra_groups=[])
    )
    assert done.returncode == 0, done
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@ROOT_ONLY
def test_who_may_do_what(ground: Ground) -> None:
    """Anybody may ask Status; Reload by another user than root and the supervisor's own is refused: the kernel says who
    calls. `sdsupervise reload` ends with 77 then."""
    ground.serving()
    worker = ground.worker_pids()
    reply = call_as(ground, STRANGER, "Status")
    assert isinstance(reply["parameters"], dict) and reply["parameters"]["state"] == "serving"
    reply = call_as(ground, STRANGER, "Reload")
    assert reply["error"] == "org.varlink.service.PermissionDenied"
    command = [PYTHON, "-m", "sdsupervise", "reload", "--pid-file", ground.pid_file]
    refused = ground.run(*command, user=STRANGER, group=STRANGER)
    assert refused.wait() == 77
    assert "Only root and uid 0 may reload" in refused.err
    assert ground.worker_pids() == worker


@ROOT_ONLY
def test_own_user_may_reload(ground: Ground) -> None:
    """The supervisor's own user may reload, root may reload anybody's, a third may not."""
    ground.directory.chmod(0o777)
    ground.serving(user=STRANGER, group=STRANGER)
    assert call_as(ground, STRANGER + 1, "Reload")["error"] == "org.varlink.service.PermissionDenied"
    assert "error" not in call_as(ground, STRANGER, "Reload")
    ground.expect("serves")
    assert ground.reload().returncode == 0
    ground.expect("serves")


def test_status_command(ground: Ground) -> None:
    """`sdsupervise status` shows what serves; --json the same as one object; without a service it ends with 69."""
    running = ground.serving()
    shown = ground.finish(ground.run(SDSUPERVISE, "status", "--pid-file", ground.pid_file))
    assert shown.returncode == 0
    for words in (
        "Service",
        "serving",
        "generation 1",
        "releases/1/service.py",
        str(running.pid),
        str(ground.worker_pids()[0]),
    ):
        assert words in shown.stdout
    shown = ground.finish(ground.run(SDSUPERVISE, "status", "--json", "--pid-file", ground.pid_file))
    facts = json.loads(shown.stdout)
    assert facts["pid"] == running.pid and facts["workers"][0]["state"] == "serving"
    running.signal(signal.SIGTERM)
    running.wait()
    for command in "status", "reload":
        failed = ground.finish(ground.run(SDSUPERVISE, command, "--pid-file", ground.pid_file))
        assert failed.returncode == 69
        assert failed.stderr.startswith("Nobody listens on ") and failed.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["status", "reload"])
def test_which_instance(ground: Ground, command: str) -> None:
    """None, or two at once, is a usage error that says how to name one."""
    for arguments in [], ["name", "--pid-file", "x"]:
        if command == "status" and not arguments:
            continue  # it shows all there are
        failed = ground.finish(ground.run(SDSUPERVISE, command, *arguments))
        assert failed.returncode == 64 and "NAME or --pid-file" in failed.stderr
    failed = ground.finish(ground.run(SDSUPERVISE, command, "nobody-has-this-name"))
    assert failed.returncode == 69
    assert "/run/sdsupervise/nobody-has-this-name/control" in failed.stderr


@pytest.mark.parametrize(
    "nonsense",
    [
        *(
            b"hello",
            b"[1, 2]",
            b'"io.sdsupervise.Status"',
            b'{"method": ',
            b"\xff\xfe",
            b"[" * 60_000,
            b"",
            b"7" * 5000,
        ),
        *(b'{"method": NaN}', b'{"parameters": {"by": -Infinity}}', b'{"method": "x", "a": ' + b'{"a":' * 12_000),
    ],
    ids=[
        *("not JSON", "a list", "a string", "half an object", "no UTF-8", "deep", "empty", "a huge number"),
        *("no number", "no end of a number", "deep in an object"),
    ],
)
def test_nonsense(ground: Ground, nonsense: bytes) -> None:
    """What is no JSON object is answered by an error and hung up on; others are served on."""
    ground.serving()
    with connected(ground) as caller:
        assert ask(caller, nonsense)["error"] == "org.varlink.service.InvalidParameter"
        assert caller.recv(1) == b""
    assert ground.status()["state"] == "serving"


def test_strange_calls(ground: Ground) -> None:
    """An unknown method is answered by MethodNotFound, an object that is no call by InvalidParameter, which names the
    member that is wrong; the connection stays."""
    ground.serving()
    with connected(ground) as caller:
        for unknown in b'{"method": "io.sdsupervise.Fly"}', b"{}":
            assert ask(caller, unknown)["error"] == "org.varlink.service.MethodNotFound"
        for strange, parameter in (
            (b'{"method": 7}', "method"),
            (b'{"method": "io.sdsupervise.%s"}' % (b"x" * 300), "method"),
            (b'{"method": %s}' % (b"[" * 900 + b"]" * 900), "method"),
            (HALF_A_PAIR, "method"),
            (b'{"method": "io.sdsupervise.Status", "parameters": []}', "parameters"),
            (b'{"method": "io.sdsupervise.Status", "more": "yes"}', "more"),
            (b'{"method": "io.sdsupervise.Scale", "parameters": {"by": %s}}' % (b"9" * 4000), "by"),
            (b'{"method": "io.sdsupervise.Scale", "parameters": {"workers": 1e400}}', "workers"),
            (b'{"method": "io.sdsupervise.Reload", "parameters": {"exec_reload": 1}}', "exec_reload"),
            (
                b'{"method": "org.varlink.service.GetInterfaceDescription", "parameters": {"interface": "\\ud800"}}',
                "interface",
            ),
        ):
            answer = ask(caller, strange)
            assert answer["error"] == "org.varlink.service.InvalidParameter"
            assert answer["parameters"] == {"parameter": parameter}
        assert "parameters" in ask(caller, STATUS)


def test_several_calls_at_once(ground: Ground) -> None:
    """Calls are answered in order, however the bytes arrive; a oneway call is not."""
    ground.serving()
    with connected(ground) as caller:
        caller.sendall(b'{"method": "io.sdsupervise.Status", "oneway": true}\0{"method": "x"}\0' + STATUS[:9])
        assert answer(caller)["error"] == "org.varlink.service.MethodNotFound"
        caller.sendall(STATUS[9:] + b"\0")
        assert "error" not in answer(caller)


def test_endless_message(ground: Ground) -> None:
    """A message without an end is cut off, and costs the others nothing."""
    ground.serving()
    with connected(ground) as caller, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(100):
            caller.sendall(b"x" * 65536)
    assert ground.status()["state"] == "serving"


def test_caller_that_never_reads(ground: Ground) -> None:
    """A caller that asks and asks and does not read is dropped; the others are answered."""
    ground.serving()
    with connected(ground) as caller:
        caller.settimeout(0.0)
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while True:
                caller.send((STATUS + b"\0") * 100)
        assert ground.status()["state"] == "serving"


def test_full_backlog(ground: Ground) -> None:
    """A supervisor that accepts nobody for a while is not taken for one that is not there."""
    running = ground.serving()
    running.signal(signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(BlockingIOError):
            while True:
                caller = stack.enter_context(socket.socket(socket.AF_UNIX))
                caller.settimeout(0.0)
                caller.connect(ground.control)
        with pytest.raises(HandoverError, match="accepts no connection; it may hang"):
            Client.connect(ground.control, timeout_seconds=0.2)
    running.signal(signal.SIGCONT)
    assert ground.status()["state"] == "serving"


def test_idle_callers(ground: Ground) -> None:
    """A hundred callers that connect and say nothing hinder neither Status nor a reload."""
    ground.serving()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(ground))
        assert ground.status()["state"] == "serving"
        ground.deploy(2)
        assert ground.reload().returncode == 0
        assert ground.status()["generation"] == 2


def test_idle_callers_of_before_do_not_displace_new_ones(ground: Ground) -> None:
    """Where the successor has no room for all whom it takes over, it is they who have been idle longest."""
    hold = Breakpoint(ground, "COMMITTING+BARRIER_RETURNED/1")  # the successor accepts callers by then
    ground.deploy(1, service(before=f"os.environ.update({hold.environment})"))
    ground.serving()
    ground.deploy(2)
    with contextlib.ExitStack() as stack:
        old = [stack.enter_context(connected(ground)) for _ in range(63)]
        assert ask(old[-1], STATUS)["parameters"]
        reload = ground.reload_process()
        hold.wait()
        new = [stack.enter_context(connected(ground)) for _ in range(3)]
        for caller in new:
            assert generation(caller) == 2
        hold.release()
        answered = [is_answered(caller) for caller in old]  # all of them have been taken over, or dropped
        assert any(answered) and not all(answered)
        for caller in new:
            assert generation(caller) == 2
    assert reload.wait() == 0


def test_a_caller_that_waited_for_its_answer_was_not_idle(ground: Ground) -> None:
    """Of whom is idle longest, the answer counts as well as the question."""
    running = ground.serving()
    gate = ground.directory / "gate"
    os.mkfifo(gate)
    ground.deploy(2, f"open({str(gate)!r}).read(); raise ValueError")
    with contextlib.ExitStack() as stack:
        waits = stack.enter_context(connected(ground))
        waits.sendall(b'{"method": "io.sdsupervise.Reload"}\0')
        running.expect_line("generation 2 is starting")
        others = [stack.enter_context(connected(ground)) for _ in range(63)]
        for caller in others:
            assert generation(caller) == 1
        gate.write_text("")
        assert answer(waits)["error"] == "io.sdsupervise.ReloadFailed"
        assert generation(stack.enter_context(connected(ground))) == 1
        assert is_answered(waits) and not is_answered(others[0])


def test_caller_hangs_up(ground: Ground) -> None:
    """A caller that hangs up in the middle of its reload loses the verdict, nothing else."""
    ground.serving()
    os.mkfifo(ground.directory / "go")
    ground.deploy(
        2, service("def warm_up(self):\n    report('warming')\n    open(os.environ['GROUND'] + '/go').read()")
    )
    with connected(ground) as caller:
        assert ask(caller, b'{"method": "io.sdsupervise.Reload", "more": true}')["continues"] is True
        ground.expect("warming")
    (ground.directory / "go").write_text("")
    ground.expect("serves", release=2)


def test_killed_reload_command(ground: Ground) -> None:
    """`sdsupervise reload` that is killed does not hinder the reload it asked for."""
    ground.serving()
    hold = Breakpoint(ground, "WARMING+WORKER_READY")
    ground.deploy(2, service(before=f"os.environ.update({hold.environment})"))
    reload = ground.reload_process()
    hold.wait()
    reload.signal(signal.SIGKILL)
    hold.release()
    ground.expect("serves", release=2)


def test_path_survives_reloads(ground: Ground) -> None:
    """The socket's path is the same one, never unlinked and bound anew, in every generation; a stop removes it."""
    ground.serving()
    inode = Path(ground.control).stat().st_ino
    for release in 2, 3:
        ground.deploy(release)
        assert ground.reload().returncode == 0
        assert Path(ground.control).stat().st_ino == inode
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)
    ground.expect_nothing_left()
    assert not Path(ground.control).exists()


def test_stale_socket(ground: Ground) -> None:
    """A socket nobody listens on is replaced."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(ground.control)
    running = ground.serving()
    assert ground.status()["pid"] == running.pid


def test_live_socket(ground: Ground) -> None:
    """A socket somebody else listens on is left alone: one sentence, exit status 69."""
    ground.deploy(1)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(ground.control)
        other.listen()
        inode = Path(ground.control).stat().st_ino
        # It is asked first whether it is the running service, and answers nothing.
        running = ground.start()
        running_status = answer_nothing(other, running)
        assert running_status == 69
    assert Path(ground.control).stat().st_ino == inode
    assert running.err.count("\n") == 1


def answer_nothing(listener: socket.socket, running: object) -> int:
    """Hang up on whoever calls until the process ends."""
    from tests.support.running import Deadline, Running, wait_readable

    assert isinstance(running, Running)
    deadline = Deadline()
    while running.alive:
        if wait_readable([listener.fileno(), running.pidfd], deadline) == [listener.fileno()]:
            listener.accept()[0].close()
        assert not deadline.passed
    return running.wait()


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_something_else_in_its_place(ground: Ground, kind: str) -> None:
    """A file or directory in the socket's place is not removed: one sentence, exit status 69."""
    ground.deploy(1)
    if kind == "file":
        Path(ground.control).write_text("precious")
    else:
        Path(ground.control).mkdir()
    running = ground.start()
    status = running.wait()
    assert Path(ground.control).exists()
    if kind == "file":
        assert Path(ground.control).read_text() == "precious"
    assert status == 69
    assert running.err.count("\n") == 1 and ground.control in running.err
