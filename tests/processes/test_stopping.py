"""Signals: stops are bounded and leave nothing, SIGUSR2 only reloads what may be reloaded."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.harness import SDSUPERVISE, Breakpoint, Ground, service
from tests.support.running import wait_blocked, wait_gone
from tests.support.terminal import Terminal

STUBBORN = "stop_timeout = 0.2\ndef warm_up(self): signal.signal(signal.SIGTERM, signal.SIG_IGN)"
HANGS_AT_THE_END = "stop_timeout = 0.2\ndef supervised_shutdown(self):\n    report('shutdown')\n    signal.pause()"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_stop(ground: Ground, number: signal.Signals) -> None:
    """INT, QUIT and TERM at the supervisor: TERM to the worker, its shutdown runs, exit status 0, nothing left."""
    running = ground.serving()
    running.signal(number)
    ground.expect("shutdown")
    assert running.wait() == 0
    assert "Killing" not in running.err
    ground.expect_nothing_left()


@pytest.mark.parametrize("body", [STUBBORN, HANGS_AT_THE_END], ids=["ignores SIGTERM", "shutdown hangs"])
def test_stop_is_bounded(ground: Ground, body: str) -> None:
    """A worker that does not go within stop_timeout is killed, and it is said; exit status 0 all the same."""
    ground.deploy(1, service(body))
    running = ground.serving()
    worker = ground.worker_pids()[0]
    running.signal(signal.SIGQUIT)
    assert running.wait() == 0
    assert re.search(rf"Killing worker 0 of generation 1 \(pid {worker}\), which got the signal to stop", running.err)
    ground.expect_nothing_left()


def test_stop_of_a_stopped_worker(ground: Ground) -> None:
    """A worker that was SIGSTOPped is killed at the end of stop_timeout too."""
    ground.deploy(1, service("stop_timeout = 0.2"))
    running = ground.serving()
    os.kill(ground.worker_pids()[0], signal.SIGSTOP)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()


def test_ctrl_c(ground: Ground) -> None:
    """SIGINT to the whole process group, as a terminal sends it, is one stop."""
    running = ground.serving(start_new_session=True)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait() == 0
    assert len(ground.seen("shutdown")) == 1
    assert "Traceback" not in running.err
    ground.expect_nothing_left()


def test_stop_before_the_worker_is_ready(ground: Ground) -> None:
    """A stop while the first worker warms up ends it too."""
    ground.deploy(1, service("def warm_up(self):\n    report('warming')\n    wait_for_signal()"))
    running = ground.start()
    ground.expect("warming")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    ground.expect("shutdown")
    ground.expect_nothing_left()


def test_stop_while_waiting_to_respawn(ground: Ground) -> None:
    """A stop does not wait for the next worker."""
    ground.deploy(1, service("delay_before_respawn = 1000.0"))
    running = ground.serving()
    os.kill(ground.worker_pids()[0], signal.SIGKILL)
    running.expect_line("was killed by SIGKILL")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_signal_of_the_services_own(ground: Ground) -> None:
    """A signal the service's module has a handler for is neither a stop nor a reload."""
    before = "signal.signal(signal.SIGHUP, lambda *_: report('hang-up'))"
    ground.deploy(1, service(before=before))
    running = ground.serving()
    os.kill(running.pid, signal.SIGHUP)
    ground.expect("hang-up")
    assert ground.reload().returncode == 0
    ground.expect("serves")


def test_stop_twice(ground: Ground) -> None:
    """A second signal during a stop changes nothing."""
    ground.deploy(1, service(HANGS_AT_THE_END))
    running = ground.serving()
    running.signal(signal.SIGTERM)
    ground.expect("shutdown")
    running.signal(signal.SIGTERM)
    running.signal(signal.SIGQUIT)
    assert running.wait() == 0
    assert len(ground.seen("shutdown")) == 1


# ------------------------------------------------------------------------------------------------------------- USR2


def test_no_reload_without_consent(ground: Ground) -> None:
    """Without can_do_hot_reload SIGUSR2 is not a reload: it is refused and said so, nobody dies; by the control socket
    the caller hears it."""
    ground.deploy(1, service("can_do_hot_reload = False"))
    running = ground.serving()
    before = ground.worker_pids()
    running.signal(signal.SIGUSR2)
    running.expect_line("Reload asked by SIGUSR2 refused: Service cannot be reloaded: .*can_do_hot_reload")
    refused = ground.reload()
    assert refused.returncode == 1
    assert "NOT RELOADED" in refused.stderr and "can_do_hot_reload" in refused.stderr
    assert ground.status()["can_reload"] is False
    assert ground.worker_pids() == before and running.alive


def test_reload_during_a_reload(ground: Ground) -> None:
    """During a reload SIGUSR2 is ignored with a warning, and a caller is told "already in progress"."""
    running = ground.serving()
    hold = Breakpoint(ground, "WARMING+WORKER_READY")
    ground.deploy(2, service(before=f"os.environ.update({hold.environment})"))
    first = ground.reload_process()
    hold.wait()
    running.signal(signal.SIGUSR2)
    running.expect_line("Reload asked by SIGUSR2 refused: A reload is already in progress")
    second = ground.reload()
    assert second.returncode == 1 and "already in progress" in second.stderr
    hold.release()
    assert first.wait() == 0
    ground.expect("serves", release=2)


def test_reload_before_it_is_ready(ground: Ground) -> None:
    """SIGUSR2 before the first worker is ready is refused and kills nobody."""
    ground.deploy(
        1, service("def warm_up(self):\n    report('warming')\n    os.read(self.supervisor_pipe.fileno(), 1)")
    )
    running = ground.start()
    ground.expect("warming")
    running.signal(signal.SIGUSR2)
    running.expect_line("refused: The service is not ready yet")
    assert running.alive


def test_reload_during_a_stop(ground: Ground) -> None:
    """A reload asked while the service stops is refused."""
    ground.deploy(1, service("stop_timeout = 0.5\n" + HANGS_AT_THE_END.partition("\n")[2]))
    running = ground.serving()
    running.signal(signal.SIGTERM)
    ground.expect("shutdown")
    running.signal(signal.SIGUSR2)
    running.expect_line("refused: The service is stopping")
    assert running.wait() == 0


def test_usr2_to_everybody(ground: Ground) -> None:
    """SIGUSR2 to all processes of a service, as `systemctl kill` sends it, is one reload: workers ignore it."""
    running = ground.serving(start_new_session=True)
    worker = ground.worker_pids()[0]
    os.kill(worker, signal.SIGUSR2)
    ground.deploy(2)
    os.killpg(running.pid, signal.SIGUSR2)
    ground.expect("shutdown", release=1)
    ground.expect("serves", release=2)
    wait_gone(running.pid)
    assert "was killed" not in running.err


# --------------------------------------------------------------------------------------- what a worker finds

DISPOSITIONS = """
def serve(self):
    lines = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    report("signals", blocked=lines["SigBlk"], ignored=lines["SigIgn"], caught=lines["SigCgt"])
    links = {fd: f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")}
    report("descriptors", **{fd: os.readlink(link) for fd, link in links.items() if os.path.exists(link)})
    of_others = ("NOTIFY", "WATCHDOG", "LISTEN", "SDS")
    report("environment", **{name: value for name, value in os.environ.items() if name.startswith(of_others)})
    super().serve()
"""


def mask(*numbers: int) -> int:
    return sum(1 << (number - 1) for number in numbers)


def in_set(text: str, number: int) -> bool:
    return bool(int(text, 16) & mask(number))


def ignored_here() -> int:
    """The mask of the signals that this process ignores."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^SigIgn:\s*(\w+)", status, re.MULTILINE)[1], 16)  # type: ignore[index]


@pytest.mark.parametrize("generation", [1, 2])
def test_signals_of_a_worker(ground: Ground, generation: int) -> None:
    """A worker has no signal blocked, ignores SIGUSR2 and SIGPIPE, catches its shutdown signals (and the two for a
    traceback), and has the default for all others, whatever its caller had blocked."""
    ground.deploy(1, service(DISPOSITIONS))
    blocked = {signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR1}

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)

    running = ground.serving(preexec_fn=block)
    said = ground.expect("signals")
    if generation == 2:
        assert ground.reload().returncode == 0
        said = ground.expect("signals")
    ignored, caught = said.said("ignored"), said.said("caught")
    assert int(said.said("blocked"), 16) == 0
    assert in_set(ignored, signal.SIGUSR2) and in_set(ignored, signal.SIGTTIN) and in_set(ignored, signal.SIGPIPE)
    # CPython ignores SIGXFSZ in every program; what our own caller has ignored is inherited (32 is glibc's).
    ours = mask(signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE, signal.SIGXFSZ)
    assert int(ignored, 16) & ~ours & ~ignored_here() == 0
    assert int(caught, 16) == mask(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGURG, signal.SIGRTMAX)
    os.kill(int(ground.pid_file.read_text()), signal.SIGTERM)  # which it takes, too
    ground.expect("shutdown")
    running.wait()
    ground.expect_nothing_left()


@pytest.mark.parametrize("generation", [1, 2])
def test_descriptors_of_a_worker(ground: Ground, generation: int) -> None:
    """A worker has its streams, its ends of link and lifeline, the pipe for its traceback, and its copy of
    the lock open, and no more: a copy of the channel, of the control socket or of another end of such a line would hide
    its end."""
    ground.deploy(1, service(DISPOSITIONS))
    ground.serving()
    said = ground.expect("descriptors").details
    if generation == 2:
        assert ground.reload().returncode == 0
        said = ground.expect("descriptors").details
    others = {fd: target for fd, target in said.items() if int(fd) > 2 and not target.startswith("/proc/")}
    kinds = sorted(re.sub(r"[:\[].*", "", Path(target).name) for target in others.values())
    assert kinds == ["one-at-a-time", "pipe", "pipe", "service.pid", "socket"], others


@pytest.mark.parametrize("generation", [1, 2])
def test_environment_of_a_worker(ground: Ground, generation: int) -> None:
    """A worker finds in its environment which one it is, and nothing of systemd's or of a hand-over's."""
    ground.deploy(1, service(DISPOSITIONS))
    unset = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "WATCHDOG_PID": "1"}
    ground.serving(environment=unset)
    said = dict(ground.expect("environment").details)
    if generation == 2:
        assert ground.reload().returncode == 0
        said = dict(ground.expect("environment").details)
    assert said == {"SDSUPERVISE_GENERATION": str(generation), "SDSUPERVISE_WORKER_INDEX": "0"}


# ------------------------------------------------------------------------------------------------ words on the link


def test_unknown_word_on_the_link(ground: Ground) -> None:
    """A line that is no message is a warning; so is one without an end; the worker serves on."""
    ground.deploy(
        1,
        service(
            """
            def serve(self):
                self.supervisor_pipe.sendall(b"nonsense\\n")
                self.ping_supervisor()
                self.supervisor_pipe.sendall(b"x" * 300_000)
                self.supervisor_pipe.sendall(b"\\n")
                self.ping_supervisor()
                report("answered")
                super().serve()
            """
        ),
    )
    running = ground.start()
    running.expect_line(r"Worker \(pid \d+\) sent b'nonsense\\n', which is not a message; ignoring it")
    running.expect_line(r"Worker \(pid \d+\): A line of more than 65536 bytes arrived")
    ground.expect("answered")


def test_shutdown_word_on_the_link(ground: Ground) -> None:
    """The line "shutdown" asks to be killed: SIGKILL, without a shutdown of the service; another worker starts."""
    ground.deploy(1, service("def serve(self):\n    self.supervisor_pipe.sendall(b'shutdown\\n')\n    super().serve()"))
    running = ground.start()
    running.expect_line("was killed by SIGKILL")
    ground.expect("serves")
    ground.expect("serves")
    assert not ground.seen("shutdown")


def test_pings_are_answered_during_a_takeover(ground: Ground) -> None:
    """The old worker's pings are answered while the new code warms up: the supervisor never blocks."""
    ground.deploy(
        1,
        service(
            """
            def serve(self):
                signal.signal(signal.SIGHUP, lambda *_: (self.ping_supervisor(), report("pinged")))
                super().serve()
            """
        ),
    )
    ground.serving()
    worker = ground.worker_pids()[0]
    ground.deploy(
        2, service("def warm_up(self):\n    report('warming')\n    open(os.environ['GROUND'] + '/go').read()")
    )
    os.mkfifo(ground.directory / "go")
    reload = ground.reload_process()
    ground.expect("warming")
    os.kill(worker, signal.SIGHUP)
    ground.expect("pinged")
    (ground.directory / "go").write_text("")
    assert reload.wait() == 0


def test_half_a_line(ground: Ground) -> None:
    """Messages may come in pieces, and several at a time."""
    ground.deploy(
        1,
        service(
            """
            def serve(self):
                for piece in (b"pi", b"ng", b"\\nping\\nping\\np"):
                    self.supervisor_pipe.sendall(piece)
                answer = b""
                while answer.count(b"pong\\n") < 3:
                    answer += self.supervisor_pipe.recv(100)
                self.supervisor_pipe.sendall(b"ing\\n")
                report("pieces", last=self.supervisor_pipe.recv(100))
                super().serve()
            """
        ),
    )
    ground.start()
    assert ground.expect("pieces").said("last") == "b'pong\\n'"


def test_a_signal_that_wakes_nobody(ground: Ground) -> None:
    """A worker to which SIGTERM has come, but whose handler was not called, is nudged: so it is where the signal comes
    just before the main thread goes to sleep, and here, where another thread takes it."""
    body = """
    def serve(self):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        report("sleeps")
        time.sleep(1000)
    """
    ground.deploy(1, service(body))
    running = ground.serving()
    ground.expect("sleeps")
    running.signal(signal.SIGTERM)
    ground.expect("shutdown")
    assert running.wait() == 0
    assert "Killing" not in running.err


def test_a_worker_that_closes_what_it_does_not_know(ground: Ground) -> None:
    """It is told to stop like any other, and not that its supervisor is gone."""
    ground.deploy(1, service("def serve(self):\n    os.closerange(3, 1000)\n    report('closed')\n    signal.pause()"))
    running = ground.serving()
    wait_blocked(ground.expect("closed").pid)
    running.signal(signal.SIGTERM)
    ground.expect("shutdown")
    assert running.wait() == 0
    assert "Traceback" not in running.err and "gone" not in running.err


EXECUTED = """
import signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("executed", file=sys.stderr, flush=True)
signal.sigwait({signal.SIGTERM})
time.sleep(0.5)  # longer than a worker that has not heard is left alone
print("stopped", file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_service_executes_in_its_place(ground: Ground, number: signal.Signals) -> None:
    """A program that a worker becomes is told to stop by SIGTERM, also when the supervisor dies, and finishes what it
    began: nothing else that we send to a worker ends it."""
    body = f"def serve(self):\n    os.execv(sys.executable, ['python', '-c', {EXECUTED!r}])"
    ground.deploy(1, service(body, before="import sys"))
    running = ground.serving()
    running.expect_line("^executed$")
    running.signal(number)
    running.expect_line("^stopped$")


def test_closed_terminal(ground: Ground) -> None:
    """The end of a terminal is a stop like any other; the pid file names nobody afterwards."""
    ground.deploy(1, service())
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup all that is started here would ignore it
    run = [SDSUPERVISE, "run", "--pid-file", str(ground.pid_file), f"{ground.current}/service.py"]
    shown = Terminal(run, ground.environment())
    signal.signal(signal.SIGHUP, before)
    ground.expect("serves")
    shown.wait_for("Generation 1 serves")
    shown.hang_up()
    ground.expect("shutdown")
    ground.expect_nothing_left()
    assert ground.pid_file.read_text() == ""


def test_exit_functions_of_a_worker(ground: Ground) -> None:
    """What a worker registered for its exit runs then, as in every Python process; in the worker alone."""
    ground.deploy(1, service("def serve(self):\n    atexit.register(report, 'exit')", before="import atexit"))
    ground.start()
    serving = ground.expect("serves").pid
    assert ground.expect("exit").pid == serving
