"""The takeover itself, with real processes held at chosen places: ways back, probation, and the original's hazards.

The exhaustive proof is the walk's; here the kernel has its say. Every worker of these services checks that no other
one serves, see probe.be_the_only_one.
"""

from __future__ import annotations

import os
import signal
import socket
import threading

import psutil
import pytest

from sdsupervise.control.client import Client
from tests.support.harness import Breakpoint, Ground, service
from tests.support.running import LIMIT_SECONDS, Running, wait_gone

DEAF = "def warm_up(self): signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
WAITS = (
    "def warm_up(self):\n    report('warming', parent=os.getppid())\n    open(os.environ['GROUND'] + '/go').read()\n"
)


def held(hold: Breakpoint, body: str = "") -> str:
    """A service whose supervisor stops at a breakpoint of its own."""
    return service(body, before=f"os.environ.update({hold.environment})")


def serves_alone(ground: Ground, supervisor: int, release: int) -> None:
    """This supervisor is the only one, its worker serves, and it still reloads."""
    worker = ground.expect("serves", release=release).pid
    assert ground.status()["pid"] == supervisor == int(ground.pid_file.read_text())
    assert ground.worker_pids() == [worker]
    ground.deploy(9)
    done = ground.reload()
    assert done.returncode == 0, done
    ground.expect("serves", release=9)


# ------------------------------------------------------------------------------------------------------- ways back


def test_successor_too_slow_to_serve(ground: Ground) -> None:
    """A successor that has the lock and does not serve in time is killed; the old code serves again, from memory."""
    hold = Breakpoint(ground, "CLAIMING+LOCK_GAINED")
    ground.deploy(1, service("takeover_timeout = 0.3"))
    running = ground.serving()
    ground.deploy(2, held(hold))
    failed = ground.reload()
    assert failed.returncode == 1
    assert "NOT RELOADED: The new code was not serving within 0.3 s" in failed.stderr
    assert "its worker was stopped and started again" in failed.stderr
    wait_gone(hold.wait())
    serves_alone(ground, running.pid, 1)


def test_successor_killed_while_the_old_worker_stops(ground: Ground) -> None:
    """A successor that dies while the old worker shuts down is not waited for: a new old worker serves."""
    ground.deploy(
        1, service("def supervised_shutdown(self):\n    report('down')\n    open(os.environ['GROUND'] + '/go').read()")
    )
    os.mkfifo(ground.directory / "go")
    running = ground.serving()
    ground.deploy(2)
    reload = ground.reload_process()
    ground.expect("down")
    worker = ground.expect("warm", release=2).pid
    os.kill(psutil.Process(worker).ppid(), signal.SIGKILL)
    wait_gone(worker)
    (ground.directory / "go").write_text("")
    assert reload.wait() == 1
    ground.expect("serves", release=1)
    assert ground.status()["pid"] == running.pid


def test_old_worker_that_will_not_stop(ground: Ground) -> None:
    """An old worker that does not go within its stop_timeout is killed, and the reload goes on."""
    ground.deploy(1, service(f"stop_timeout = 0.2\n{DEAF}"))
    running = ground.serving()
    ground.deploy(2)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    running.wait()
    assert "got the signal to stop 0.2 s ago and still runs" in running.err


@pytest.mark.parametrize("place", ["STARTING_SUCCESSOR+PEER_ASKS_YIELD", "YIELDING+NO_WORKER", "YIELDED+PEER_SERVES"])
def test_predecessor_killed(ground: Ground, place: str) -> None:
    """A predecessor that is killed leaves the service to its successor; its caller hears that it is gone."""
    hold = Breakpoint(ground, place)
    ground.serving(environment=hold.environment)
    ground.deploy(2)
    reload = ground.reload_process()
    os.kill(hold.wait(), signal.SIGKILL)
    assert reload.wait() == 69
    assert "ended before it answered" in reload.err
    worker = ground.expect("serves", release=2).pid
    assert ground.pid_file.read_text() == f"{psutil.Process(worker).ppid()}\n"


def test_predecessor_killed_while_the_successor_warms_up(ground: Ground) -> None:
    """So does one that is killed before its successor was ready."""
    running = ground.serving()
    os.mkfifo(ground.directory / "go")
    ground.deploy(2, service(WAITS))
    reload = ground.reload_process()
    ground.expect("warming")
    running.signal(signal.SIGKILL)
    ground.expect("shutdown", release=1)
    assert reload.wait() == 69
    (ground.directory / "go").write_text("")
    ground.expect("serves", release=2)


# ------------------------------------------------------------------------------------------------------- probation


PROBATION = "probation = 1000.0\n"


def on_probation(ground: Ground, settings: str = PROBATION) -> tuple[Running, Running, int, int]:
    """The old supervisor, the reload, the new supervisor, the new worker: in the middle of the probation."""
    ground.deploy(1, service(settings))
    running = ground.serving()
    ground.deploy(2, service(settings))
    reload = ground.reload_process()
    worker = ground.expect("serves", release=2).pid
    reload.expect_line("on probation", "out")
    return running, reload, psutil.Process(worker).ppid(), worker


def test_probation_passed(ground: Ground) -> None:
    """New code that serves well for `probation` seconds is committed to; the old supervisor stays until then."""
    running, reload, _, _ = on_probation(ground, "probation = 0.3\n")
    assert running.alive
    assert reload.wait() == 0
    assert running.wait() == 0
    facts = ground.status()["last_reload"]
    assert isinstance(facts, dict) and "watching" in facts["phases"]


def test_new_code_says_how_long_its_probation_is(ground: Ground) -> None:
    """The probation that counts is the new code's, for both sides: they could not agree on a deadline otherwise."""
    ground.deploy(1, service(PROBATION))
    running = ground.serving()
    ground.deploy(2)
    assert ground.reload().returncode == 0
    running.wait()
    ground.deploy(3, service(PROBATION))
    reload = ground.reload_process()
    reload.expect_line("on probation", "out")


def test_worker_dies_on_probation(ground: Ground) -> None:
    """A worker that dies on probation is a failed reload: the old code serves again."""
    running, reload, _, worker = on_probation(ground)
    os.kill(worker, signal.SIGKILL)
    assert reload.wait() == 1
    assert "NOT RELOADED: The worker was killed by SIGKILL" in reload.err
    serves_again(ground, running)


def test_worker_raises_on_probation(ground: Ground) -> None:
    """So is one that raises, with its traceback."""
    ground.deploy(1, service(PROBATION))
    running = ground.serving()
    ground.deploy(2, service(PROBATION + "def serve(self):\n    raise OSError('no port')"))
    failed = ground.reload()
    assert failed.returncode == 1
    assert "NOT RELOADED: OSError: no port" in failed.stderr and "in serve" in failed.stderr
    serves_again(ground, running)


def test_supervisor_dies_on_probation(ground: Ground) -> None:
    """So is a new supervisor that is killed: its worker is gone before the old code serves again."""
    running, reload, successor, _ = on_probation(ground)
    os.kill(successor, signal.SIGKILL)
    assert reload.wait() == 1
    serves_again(ground, running)


def serves_again(ground: Ground, running: Running) -> None:
    ground.expect("serves", release=1)
    assert ground.status()["pid"] == running.pid
    assert ground.pid_file.read_text() == f"{running.pid}\n"


@pytest.mark.parametrize("whom", ["old", "new"])
def test_stop_on_probation(ground: Ground, whom: str) -> None:
    """A stop on probation, sent to either supervisor, stops both; the reload fails; nothing is left."""
    running, reload, successor, _ = on_probation(ground)
    os.kill(running.pid if whom == "old" else successor, signal.SIGTERM)
    assert reload.wait() == 1
    assert "A stop was requested" in reload.err and "The service is stopping" in reload.err
    ground.expect_nothing_left()


def test_stop_while_the_successor_warms_up(ground: Ground) -> None:
    """A stop in the middle of a reload stops both generations, and the caller hears of it."""
    running = ground.serving()
    ground.deploy(2, service("def warm_up(self):\n    report('warming')\n    wait_for_signal()"))
    reload = ground.reload_process()
    ground.expect("warming")
    running.signal(signal.SIGTERM)
    assert reload.wait() == 1
    assert running.wait() == 0
    ground.expect_nothing_left()


def test_stop_of_a_successor_cancels_the_reload(ground: Ground) -> None:
    """A stop sent to a successor that does not serve yet only cancels the reload."""
    running = ground.serving()
    worker = ground.worker_pids()
    ground.deploy(2, service("def warm_up(self):\n    report('warming', parent=os.getppid())\n    wait_for_signal()"))
    reload = ground.reload_process()
    os.kill(int(ground.expect("warming").details["parent"]), signal.SIGTERM)
    assert reload.wait() == 1
    assert ground.worker_pids() == worker and ground.status()["pid"] == running.pid


# ------------------------------------------------------------ what can go wrong in App::Base::Daemon::Supervisor


# A successor gives up before its predecessor's patience ends; not this one, which has more time than it says.
SAYS_LESS = """
from sdsupervise.linux.channel import Channel
send = Channel.send
def say(self, say, fds=(), **fields):
    return send(self, say, fds, **fields | ({"reload_timeout": 0.8} if say == "hello" else {}))
Channel.send = say
"""


@pytest.mark.parametrize("first", ["predecessor", "successor"])
def test_hazard_1_crossing_kills(ground: Ground, first: str) -> None:
    """Two supervisors that both decide to kill the other: one of them serves."""
    of_predecessor = Breakpoint(ground, "STARTING_SUCCESSOR+DEADLINE")
    of_successor = Breakpoint(ground, "CLAIMING+DEADLINE")
    settings = "takeover_timeout = 0.2\nstop_timeout = 0.2\n"
    os.mkfifo(ground.directory / "go")
    ground.deploy(1, service(settings))
    running = ground.serving(environment=of_predecessor.environment)
    before = f"os.environ.update({of_successor.environment})\n{SAYS_LESS}"
    ground.deploy(2, service(settings + WAITS, before=before))
    reload = ground.reload_process()
    ground.expect("warming")
    of_predecessor.wait()
    (ground.directory / "go").write_text("")
    successor = of_successor.wait()
    if first == "predecessor":
        of_predecessor.release()
        assert reload.wait() == 1
        wait_gone(successor)
        assert ground.status()["pid"] == running.pid and len(ground.worker_pids()) == 1
        assert not ground.seen("shutdown") or ground.seen("shutdown")[0].details["release"] == "2"
    else:
        of_successor.release()
        wait_gone(running.pid)
        assert reload.wait() == 69
        ground.expect("serves", release=2)
        assert ground.status()["pid"] == successor


def test_hazard_2_worker_of_a_hung_supervisor(ground: Ground) -> None:
    """A predecessor that hangs is killed together with its worker before the new one serves, although that worker never
    pings and ignores SIGTERM."""
    hold = Breakpoint(ground, "STARTING_SUCCESSOR+PEER_ASKS_YIELD")
    settings = "takeover_timeout = 0.2\nstop_timeout = 0.2\n"
    ground.deploy(1, service(settings + DEAF))
    running = ground.serving(environment=hold.environment)
    worker = ground.worker_pids()[0]
    ground.deploy(2, service(settings))
    ground.reload_process()
    hold.wait()
    ground.expect("serves", release=2)
    wait_gone(worker)
    assert running.wait() == -signal.SIGKILL


def test_hazard_3_children_do_not_keep_the_lock(ground: Ground) -> None:
    """Processes that a worker forked or executed and left behind do not keep the lock: the reload is not hindered."""
    ground.deploy(
        1,
        service(
            """
            takeover_timeout = 5.0
            def serve(self):
                import multiprocessing, subprocess
                subprocess.Popen(["sleep", "1000"])
                multiprocessing.Process(target=time.sleep, args=(1000,)).start()
                if os.fork() == 0:
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    time.sleep(1000)
                    os._exit(0)
                report("forked")
                super().serve()
            def supervised_shutdown(self):
                os._exit(0)  # multiprocessing would wait for its child
            """
        ),
    )
    running = ground.serving()
    ground.expect("forked")
    ground.deploy(2)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=2)
    assert running.wait() == 0
    assert "Killed" not in running.err


def test_hazard_4_early_death_does_not_block_reloads(ground: Ground) -> None:
    """After a successor that died at once the very next reload goes through, without a wait."""
    ground.deploy(1, service("reload_timeout = 1000.0"))
    ground.serving()
    ground.deploy(2, "raise SystemExit(1)")
    assert ground.reload().returncode == 1
    assert ground.reload().returncode == 1
    ground.deploy(3)
    assert ground.reload().returncode == 0
    ground.expect("serves", release=3)


def test_hazard_5_everybody_learns_the_verdict(ground: Ground) -> None:
    """Who asked by signal, too, can learn whether it worked: from the log and from status."""
    running = ground.serving()
    ground.deploy(2, "import requsts")
    running.signal(signal.SIGUSR2)
    running.expect_line("Not reloaded: ModuleNotFoundError: No module named 'requsts'")
    facts = ground.status()["last_reload"]
    assert isinstance(facts, dict)
    assert (facts["verdict"], facts["asked_by"]) == ("failed", "SIGUSR2")
    ground.deploy(3)
    running.signal(signal.SIGUSR2)
    running.expect_line(r"Reloaded: generation 2 serves .*releases/3")
    ground.expect("serves", release=3)
    running.wait()
    facts = ground.status()["last_reload"]
    assert isinstance(facts, dict) and facts["verdict"] == "done"


def test_hazard_6_no_gap_in_the_control_socket(ground: Ground) -> None:
    """The one listener that is ours goes from generation to generation: every connection during reloads is answered."""
    ground.serving()
    answers: list[object] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            client = Client.connect(ground.control, timeout_seconds=30)
            answers.append(client.ask("Status").parameters["generation"])
            client.close()

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for release in 2, 3, 4:
            ground.deploy(release)
            assert ground.reload().returncode == 0
    finally:
        over.set()
        asker.join()
    assert {1, 2, 3} <= set(answers) <= {1, 2, 3, 4}


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "in the backlog"])
def test_caller_connected_before_the_commit(ground: Ground, accepted: bool) -> None:
    """A caller that has asked gets its answer, though the supervisor that it is connected to leaves just then."""
    hold = Breakpoint(ground, "COMMITTING+BARRIER_RETURNED")
    running = ground.serving(environment=hold.environment)
    ground.deploy(2)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(LIMIT_SECONDS)
        if accepted:
            caller.connect(ground.control)
            ask_status(caller)
        reload = ground.reload_process()
        hold.wait()
        if not accepted:
            caller.connect(ground.control)
        caller.sendall(STATUS)
        hold.release()
        assert b'"generation"' in caller.recv(65536)
    assert reload.wait() == 0
    assert running.wait() == 0


def test_caller_connected_across_reloads(ground: Ground) -> None:
    """A caller that has not asked yet when its supervisor leaves is not hung up on: the next one answers."""
    running = ground.serving()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(LIMIT_SECONDS)
        caller.connect(ground.control)
        ask_status(caller)
        for release in 2, 3:
            ground.deploy(release)
            assert ground.reload().returncode == 0
        caller.sendall(STATUS)  # the second generation may be on its way out
        assert b'"generation": 3' in caller.recv(65536)
    assert running.wait() == 0


STATUS = b'{"method": "io.sdsupervise.Status"}\0'


def ask_status(caller: socket.socket) -> None:
    caller.sendall(STATUS)
    assert b'"generation"' in caller.recv(65536)


def test_new_code_says_how_long_it_takes_to_get_ready(ground: Ground) -> None:
    """A longer reload_timeout counts for the very reload that brings it, from the moment at which it is known; the
    caller is told how long it may take now. (That the deadline goes along is a test with systemd.)"""
    ground.deploy(1, service("reload_timeout = 100.0"))
    running = ground.serving()
    os.mkfifo(ground.directory / "go")
    ground.deploy(2, service(f"reload_timeout = 1000.0\n{WAITS}"))
    client = Client.connect(ground.control, timeout_seconds=LIMIT_SECONDS)
    answers = client.call("Reload", more=True)
    limits = []
    for answer in answers:
        if "at_most" in answer.parameters:
            limits.append((answer.parameters["at_most"], answer.parameters["message"]))
        if len(limits) == 2:
            break
    (before, _), (now, sentence) = limits
    assert (before, now) == (105.0, 1010.0)
    assert sentence == "generation 2 has 1000 s to get ready (reload_timeout)"
    ground.expect("warming")
    os.close(os.open(ground.directory / "go", os.O_WRONLY))
    assert [*answers][-1].parameters["verdict"] == "done"
    client.close()
    assert running.wait() == 0
