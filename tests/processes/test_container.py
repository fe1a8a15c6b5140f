"""As pid 1 of a container without an init: the service is reloaded there, the dead are buried, and the container ends
as the service does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from sdsupervise.errors import ExitStatus
from sdsupervise.linux import init
from tests.support.harness import PYTHON, SDSUPERVISE, Breakpoint, Ground, service
from tests.support.running import Running, wait_gone
from tests.support.terminal import Terminal

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a container")
SO_SNDBUFFORCE = 32  # beyond wmem_max
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")
SERVES = 'report("serves", release=release); notify("READY=1"); wait()'


class Container:
    """A pid namespace, and its pid 1 as it is numbered out here."""

    def __init__(self, running: Running) -> None:
        self.running = running
        (self.init,) = psutil.Process(running.pid).children()

    def signal(self, number: signal.Signals) -> None:
        self.init.send_signal(number)

    def supervisors(self) -> list[psutil.Process]:
        return [child for child in self.init.children() if "sdsupervise" in command_line(child)]

    def zombies(self) -> list[int]:
        return [child.pid for child in self.init.children() if child.status() == psutil.STATUS_ZOMBIE]

    def wait(self) -> int:
        return self.running.wait()


def contain(ground: Ground, *words: object, **settings: object) -> Container:
    """Its first process is this command."""
    running = ground.run(*NAMESPACE, *words, **settings)  # type: ignore[arg-type]
    ground.expect("serves")
    running.expect_line("Generation 1 serves")
    return Container(running)


def contain_class(ground: Ground, *bodies: str, environment: dict[str, str] | None = None) -> Container:
    ground.deploy(1, service("\n".join(bodies)))
    words = (SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py")
    return contain(ground, *words, environment=environment or {})


def contain_command(ground: Ground, text: str, *options: object) -> Container:
    ground.program(1, text)
    words = (SDSUPERVISE, "run", "--pid-file", ground.pid_file, "--delay-before-respawn", "0", *options)
    return contain(ground, *words, "--", "current/program")


def by_signal(ground: Ground, container: Container) -> None:
    container.signal(signal.SIGUSR2)


def by_command(ground: Ground, _: Container) -> None:
    assert ground.reload().returncode == 0


@pytest.mark.parametrize("ask", [by_signal, by_command])
@pytest.mark.parametrize("kind", ["class", "exclusive", "overlap"])
def test_reloads(ground: Ground, kind: str, ask: Callable[[Ground, Container], None]) -> None:
    """Three in a row: the container lives, old generations are buried, and SIGTERM stops the latest."""
    serves = f"leave_on(signal.SIGTERM); {SERVES}"
    container = contain_class(ground) if kind == "class" else contain_command(ground, serves, "--handover", kind)
    for release in (2, 3, 4):
        (supervisor,) = container.supervisors()
        if kind == "class":
            ground.deploy(release)
        else:
            ground.program(release, serves)
        ask(ground, container)
        ground.expect("serves", release=release)
        wait_gone(supervisor.pid)
    status = ground.status()
    assert (status["generation"], status["state"]) == (4, "serving")
    container.signal(signal.SIGTERM)
    if kind == "class":
        ground.expect("shutdown", release=4)
    else:
        ground.expect("signal", name="SIGTERM")
    assert container.wait() == 0
    ground.expect_nothing_left()


def test_a_reload_that_fails(ground: Ground) -> None:
    """Its processes are gone without a trace, and the old code serves on."""
    container = contain_class(ground)
    before = container.supervisors()
    ground.deploy(2, service(before="raise ValueError('broken')"))
    assert ground.reload().returncode == 1
    ground.deploy(3)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=3)
    wait_gone(before[0].pid)
    assert len(container.supervisors()) == 1
    container.signal(signal.SIGTERM)
    assert container.wait() == 0


ORPHANS = """
def serve(self):
    for number in range(50):
        if os.fork() == 0:
            if os.fork() == 0:
                os._exit(number)
            os._exit(0)
        os.wait()
    report("orphans")
    super().serve()
"""


def test_orphans_are_buried(ground: Ground) -> None:
    """Whatever loses its parent in the container, and ends, leaves no zombie."""
    container = contain_class(ground, ORPHANS)
    ground.expect("orphans")
    ground.deploy(2, service(""))
    by_command(ground, container)  # by then pid 1 has seen all of it
    assert container.zombies() == []
    container.signal(signal.SIGTERM)
    assert container.wait() == 0


def test_a_killed_supervisor(ground: Ground) -> None:
    """Its worker shuts down in its own time, and the container ends with the status that shells give."""
    body = 'def supervised_shutdown(self):\n    wait_at_gate("shutdown")\n    report("done")'
    ground.make_gate()
    ground.deploy(1, service(body, before="from told import wait_at_gate"))
    container = contain(ground, SDSUPERVISE, "run", "--pid-file", ground.pid_file, "current/service.py")
    container.supervisors()[0].kill()
    ground.expect("shutdown")
    ground.open_gate()
    ground.expect("done")
    assert container.wait() == 128 + signal.SIGKILL
    ground.expect_nothing_left()


def test_a_worker_that_does_not_end(ground: Ground) -> None:
    """Of a killed supervisor is waited for no longer than it may take to stop."""
    body = """
    stop_timeout = 1.0
    def supervised_shutdown(self):
        report("shutdown")
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(1000)
    """
    container = contain_class(ground, body)
    container.supervisors()[0].kill()
    ground.expect("shutdown")
    assert container.wait() == 128 + signal.SIGKILL
    ground.expect_nothing_left()


@pytest.mark.parametrize("place", ["STARTING_SUCCESSOR+PEER_ASKS_YIELD", "YIELDED+PEER_SERVES"])
def test_a_predecessor_killed_in_a_reload(ground: Ground, place: str) -> None:
    """The successor serves, pid 1 knows it, and the container lives."""
    hold = Breakpoint(ground, place)
    container = contain_class(ground, environment=hold.environment)
    (old,) = container.supervisors()
    ground.deploy(2)
    ground.reload_process()
    hold.wait()
    old.kill()
    ground.expect("serves", release=2)
    container.signal(signal.SIGTERM)
    ground.expect("shutdown", release=2)
    assert container.wait() == 0
    ground.expect_nothing_left()


def test_a_stop_in_a_reload(ground: Ground) -> None:
    """SIGTERM to pid 1 ends both generations, and the container well."""
    hold = Breakpoint(ground, "STARTING_SUCCESSOR+PEER_ASKS_YIELD")
    container = contain_class(ground, environment=hold.environment)
    ground.deploy(2)
    caller = ground.reload_process()
    hold.wait()
    container.signal(signal.SIGTERM)
    hold.release()
    assert container.wait() == 0
    assert caller.wait() == 1
    ground.expect_nothing_left()


def test_a_generation_that_drains(ground: Ground) -> None:
    """Signals are for the main one, which waits for it; the container does."""
    text = f"""
    signal.signal(signal.SIGUSR1, lambda *_: report("USR1", release=release))
    if release == "1":
        signal.signal(signal.SIGTERM, lambda *_: report("drains"))
    {SERVES.replace("wait()", "")}
    while True: signal.pause()
    """
    container = contain_command(ground, text, "--handover", "overlap", "--stop-timeout", "2")
    ground.program(2, text)
    assert ground.reload().returncode == 0
    ground.expect("drains")
    container.signal(signal.SIGUSR1)
    assert {ground.expect("USR1").said("release") for _ in range(2)} == {"1", "2"}
    container.signal(signal.SIGTERM)
    assert container.wait() == 0
    ground.expect_nothing_left()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["run", "--", "no-such-program"], ExitStatus.CONFIG),
        (["run", "--workers", "many", "--", "true"], ExitStatus.USAGE),
        (["run", "--crash-limit", "2", "--delay-before-respawn", "0", "--", "false"], ExitStatus.GAVE_UP),
    ],
)
def test_its_exit_status(ground: Ground, words: list[str], status: int) -> None:
    """The container's is the service's."""
    running = ground.run(*NAMESPACE, SDSUPERVISE, words[0], "--pid-file", ground.pid_file, *words[1:])
    assert running.wait() == status
    ground.expect_nothing_left()


def test_a_script(ground: Ground) -> None:
    """A class that is started as a script is pid 1, too; and never goes to the background there."""
    ground.deploy(1)
    container = contain(ground, PYTHON, "current/service.py", "--pid-file", ground.pid_file)
    ground.deploy(2)
    container.signal(signal.SIGUSR2)
    ground.expect("serves", release=2)
    container.running.expect_line("Generation 1 leaves")
    container.signal(signal.SIGTERM)
    assert container.wait() == 0


def test_as_another_user(ground: Ground) -> None:
    """pid 1 stays root, and believes nobody but the kernel of who speaks."""
    ground.directory.chmod(0o1777)
    ground.deploy(1)
    words = (ground.public_python(), "-m", "sdsupervise", "run", "--user", "nobody", "--pid-file", ground.pid_file)
    container = contain(ground, *words, "current/service.py:Service")
    for release in (2, 3):
        ground.deploy(release)
        container.signal(signal.SIGUSR2)
        ground.expect("serves", release=release)
        container.running.expect_line(f"Reloaded: generation {release} serves")
        container.running.expect_line(f"Generation {release - 1} leaves")
    container.signal(signal.SIGTERM)
    ground.expect("shutdown", release=3)
    assert container.wait() == 0


def test_strays_do_not_keep_it(ground: Ground) -> None:
    """What the service has left behind ends with the container."""
    body = """
    def serve(self):
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            report("stray")
            while True:
                time.sleep(1000)
        super().serve()
    """
    container = contain_class(ground, body)
    stray = ground.expect("stray").pid
    container.signal(signal.SIGTERM)
    assert container.wait() == 0
    wait_gone(stray)


def test_ctrl_c(ground: Ground) -> None:
    """On a terminal one Ctrl-C is one: the service stops in its time; another ends it."""
    body = """
    stop_timeout = 60.0
    def supervised_shutdown(self):
        report("shutdown")
        while True:
            wait_for_signal()
    """
    ground.deploy(1)
    words = [*NAMESPACE, SDSUPERVISE, "run", "--pid-file", str(ground.pid_file), f"{ground.current}/service.py"]
    shown = Terminal(words, ground.environment({"TERM": "dumb"}), columns=200, rows=50)
    try:
        shown.wait_for("Generation 1 serves")
        ground.deploy(2, service(body))
        assert ground.reload().returncode == 0
        shown.wait_for("Reloaded: generation 2")
        ground.expect("shutdown", release=1)
        shown.press("\x03")
        shown.wait_for("Ctrl-C again ends them at once")
        ground.expect("shutdown")
        assert "ending all" not in shown.written
        shown.press("\x03")
        shown.wait_for("Ctrl-C again; ending all workers at once")
        assert shown.wait() == 130
    finally:
        shown.close()


def test_who_is_believed() -> None:
    """A message is by whom the kernel says, whatever is in it: nobody can have pid 1 signal somebody else."""
    text = """
import os, signal, socket, sys, time
from sdsupervise.linux.init import leave_to_init
victim = os.fork()
if not victim:
    signal.pause()
init = leave_to_init()
init.say_here()
for words in (b"main", b"main x", b"main 99999999999999999999", b"", b"main %d" % victim, bytes([255]) * 64, b"here 1"):
    init._link.send(words or b"?")
init.say_main(1.5)
signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
print("ready", flush=True)
while True:
    signal.pause()
"""
    with subprocess.Popen(
        [*NAMESPACE, PYTHON, "-c", text], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        (init,) = psutil.Process(process.pid).children()
        for number in (signal.SIGRTMIN + 1, signal.SIGWINCH, signal.SIGCONT):
            init.send_signal(number)
        init.send_signal(signal.SIGUSR1)
        assert process.wait() in (7, 128 + signal.SIGRTMIN + 1)


@contextmanager
def program_of_init(text: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A container whose first process is this text; unshare(1) is its parent, and takes it along."""
    command = [*NAMESPACE, "--kill-child", PYTHON, "-c", text, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def command_line(process: psutil.Process) -> str:
    """Its words; "" for a zombie, of which psutil 7 reads none."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def init_of(process: subprocess.Popen[str]) -> psutil.Process:
    (init,) = psutil.Process(process.pid).children()
    return init


LIAR = """
import os, signal, sys, time
from sdsupervise.linux.init import leave_to_init

def be_given(number):  # as root: a process of this number, to be signalled
    while True:
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(number - 1))
        child = os.fork()
        if not child:
            if os.getpid() == number:
                os.write(told, b"t")
                signal.pause()
            os._exit(0)
        if child == number:
            return os.waitpid(child, 0)[1]
        os.waitpid(child, 0)

asked, ask = os.pipe()
taken, told = os.pipe()
if not os.fork():
    is_orphan = sys.argv[2] == "orphan"
    number = int(os.read(asked, 10))
    if not is_orphan or not os.fork():
        be_given(number)
        print("signalled", flush=True)
    signal.pause()
init = leave_to_init()
os.setresuid(65534, 65534, 65534)
init.say_here()
init.say_main(30)
liar = os.fork()
if not liar:
    signal.signal(signal.SIGWINCH, lambda *_: os._exit(0))
    init.say_main(30)
    if sys.argv[1] == "unheard":
        os._exit(0)
    print("lies", flush=True)
    while True:
        signal.pause()
os.waitpid(liar, 0)
signal.signal(signal.SIGTERM, lambda *_: (print("stopped", flush=True), os._exit(7)))
os.write(ask, b"%d" % liar)
os.read(taken, 1)
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.skipif(not os.path.exists("/proc/sys/kernel/ns_last_pid"), reason="no number can be chosen here")
@pytest.mark.parametrize("heard", ["heard", "unheard"])
@pytest.mark.parametrize("kind", ["child", "orphan"])
def test_a_number_that_is_somebody_else_s_by_now(heard: str, kind: str) -> None:
    """A process of the service's user calls itself the main one and is gone, and one of root's gets its number, also
    one that pid 1 has adopted: a stop still reaches the supervisor, and never that one."""
    with program_of_init(LIAR, heard, kind) as process:
        assert process.stdout is not None
        if heard == "heard":
            assert process.stdout.readline() == "lies\n"
            init_of(process).send_signal(signal.SIGWINCH)
        assert process.stdout.readline() == "ready\n"
        init_of(process).send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopped\n"
        assert process.wait() == 7


FLOOD = """
import os, signal
from sdsupervise.linux.init import leave_to_init
init = leave_to_init()
init.say_here()
init.say_main(1)
for _ in range(300):  # each calls itself a supervisor, and lives
    ready, say = os.pipe()
    if not os.fork():
        init.say_here()
        os.close(say)
        signal.pause()
    os.close(say)
    os.read(ready, 1)
    if not os.fork():
        if os.fork():
            os._exit(0)
        os._exit(0)  # an orphan, so that pid 1 looks
    os.wait()
for _ in range(3):
    if not os.fork():
        while True:
            init.say_here()
signal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))
signal.signal(signal.SIGTERM, lambda *_: print("stopped", flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_a_flood_of_words() -> None:
    """Children that call themselves supervisors on and on, or three hundred of them, keep pid 1 from nothing, and cost
    it no more descriptors than it allows."""
    with program_of_init(FLOOD) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        first = init_of(process)
        first.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "heard\n"
        assert len(os.listdir(f"/proc/{first.pid}/fd")) < 220
        first.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopped\n"


def test_words_are_taken_so_many_at_a_time() -> None:
    """Somebody who talks faster than pid 1 hears does not keep it from looking at signals."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        theirs.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2**24)
        for _ in range(3000):
            theirs.send(b"here", socket.MSG_DONTWAIT)
        pid_one = init._PidOne(ours, os.getpid())
        assert pid_one._read_messages()
        assert ours.recv(64, socket.MSG_DONTWAIT) == b"here"


def test_nobody_else_forks(ground: Ground) -> None:
    """Where it is not pid 1, as under `docker run --init`, nothing stands between it and its parent."""
    running = ground.serving()
    assert [child.pid for child in psutil.Process(running.pid).children()] == ground.worker_pids()
