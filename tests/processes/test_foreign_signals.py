"""Signals that mean nothing to a supervisor: none ends it, and what is meant for the program reaches it. And Ctrl-C,
for which somebody waits."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from sdsupervise.linux.processes import signal_name
from sdsupervise.linux.signals import DEADLY
from tests.support.harness import SDSUPERVISE, Breakpoint, Ground, service
from tests.support.running import Running, wait_gone
from tests.support.terminal import Terminal

QUICK = ("--delay-before-respawn", "0", "--stop-timeout", "5")
OTHERS = sorted(DEADLY - {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR2})
TELLS = """
def tell(number, frame):
    report("signal", name=signal.Signals(number).name, release=release)
for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGWINCH):
    signal.signal(number, tell)
report("serves", release=release); notify("READY=1")
"""
WAITS = "\nwhile True: signal.pause()"


def command(ground: Ground, text: str, *options: object, **settings: object) -> Running:
    """A command that is ready, in a session without a terminal."""
    ground.program(1, text)
    running = ground.run_command(
        "current/program",
        options=[*QUICK, *options],
        start_new_session=True,
        **settings,  # type: ignore[arg-type]
    )
    ground.expect("serves")
    running.expect_line("is ready")
    return running


@pytest.mark.parametrize("supervised", ["class", "exclusive", "overlap"])
def test_no_signal_ends_a_supervisor(ground: Ground, supervised: str) -> None:
    """Each is ignored with a line, and no worker hears of it that has no handler for it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup all that is started here would ignore it
    if supervised == "class":
        running = ground.serving(start_new_session=True)
    else:
        text = 'report("serves"); notify("READY=1"); wait()'
        running = command(ground, text, "--handover", supervised)
    signal.signal(signal.SIGHUP, before)
    (worker,) = ground.worker_pids()
    for number in OTHERS:
        os.kill(running.pid, number)
        running.expect_line(rf"\]: {signal_name(number).replace('+', '[+]')} is ignored: ")
    assert ground.worker_pids() == [worker] and ground.status()["crashes"] == 0
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait() == 0
    ground.expect_nothing_left()


@pytest.mark.parametrize("handover", ["exclusive", "overlap"])
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP, signal.SIGWINCH])
def test_meant_for_the_program(ground: Ground, handover: str, number: signal.Signals) -> None:
    """What a program has a handler for reaches it through its supervisor, as a logrotate means it to that knows the
    main process alone."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    running = command(ground, TELLS + WAITS, "--handover", handover, "--workers", "2")
    signal.signal(signal.SIGHUP, before)
    ground.expect("serves")
    workers = ground.worker_pids()
    running.signal(number)
    running.expect_line(rf"{number.name} is passed on to pid ({workers[0]}, {workers[1]}|{workers[1]}, {workers[0]})$")
    assert sorted(ground.expect("signal", name=number.name).pid for _ in workers) == sorted(workers)
    assert ground.worker_pids() == workers


def test_signals_that_are_blocked(ground: Ground) -> None:
    """A program that has a signal blocked, to look for it in its own time, is meant too."""
    text = """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    report("serves"); notify("READY=1"); wait_at_gate("waits")
    report("signal", name=signal.Signals(signal.sigwait({signal.SIGUSR1})).name)
    wait()
    """
    ground.make_gate()
    running = command(ground, text)
    (worker,) = ground.worker_pids()
    running.signal(signal.SIGUSR1)
    running.expect_line(f"SIGUSR1 is passed on to pid {worker}$")
    ground.open_gate()
    assert ground.expect("signal", name="SIGUSR1").pid == worker


def test_a_class_with_a_handler_in_its_worker(ground: Ground) -> None:
    """It hears of it, too."""
    body = """
    def serve(self):
        signal.signal(signal.SIGUSR1, lambda *_: report("signal", name="SIGUSR1"))
        report("listens")
        super().serve()
    """
    ground.deploy(1, service(body))
    running = ground.serving()
    worker = ground.expect("listens").pid
    running.signal(signal.SIGUSR1)
    assert ground.expect("signal").pid == worker


def test_all_generations_hear(ground: Ground) -> None:
    """A generation that drains still writes to the log that is being rotated."""
    text = f"{TELLS}signal.signal(signal.SIGTERM, lambda *_: report('drains')){WAITS}"
    running = command(ground, text, "--handover", "overlap")
    ground.program(2, TELLS + WAITS)
    assert ground.reload().returncode == 0
    ground.expect("drains")
    os.kill(int(ground.pid_file.read_text()), signal.SIGUSR1)
    assert {ground.expect("signal", name="SIGUSR1").said("release") for _ in range(2)} == {"1", "2"}
    assert running.alive


def test_a_successor_that_starts_up(ground: Ground) -> None:
    """SIGUSR1 and SIGHUP to all of a unit, in the middle of a reload, do not end a successor without a handler."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    running = ground.serving(start_new_session=True)
    signal.signal(signal.SIGHUP, before)
    ground.make_gate()
    ground.deploy(2, service(before="from told import wait_at_gate\nwait_at_gate('imports')"))
    caller = ground.reload_process()
    successor = ground.expect("imports").pid
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2):
        os.kill(successor, number)
    ground.open_gate()
    assert caller.wait() == 0, caller.err
    assert ground.expect("serves", release=2).pid
    assert running.wait() == 0 and "is ignored" not in running.err


# ------------------------------------------------------------------------------------------------------ on a terminal


@contextlib.contextmanager
def on_terminal(ground: Ground, *words: object) -> Iterator[Terminal]:
    """`sdsupervise run` in the foreground of a terminal."""
    run = [SDSUPERVISE, "run", "--pid-file", ground.pid_file, *words]
    shown = Terminal([str(word) for word in run], ground.environment({"TERM": "dumb"}), columns=200, rows=50)
    try:
        yield shown
    finally:
        shown.close()


STUBBORN = """
stop_timeout = 60.0
def supervised_shutdown(self):
    report("shutdown")
    while True:
        wait_for_signal()
"""


def test_a_terminal_is_resized(ground: Ground) -> None:
    """SIGWINCH is the terminal's own, and would have an Apache stop."""
    ground.program(1, TELLS + WAITS)
    with on_terminal(ground, *QUICK, "--", f"{ground.current}/program") as shown:
        shown.wait_for("is ready")
        shown.resize(150, 40)
        shown.press("\x03")
        assert shown.wait() == 0
    assert ground.seen("signal") == []


def test_ctrl_c_twice(ground: Ground) -> None:
    """The first says how long it may take, the second ends the workers at once, with a status of its own."""
    ground.deploy(1, service(STUBBORN))
    with on_terminal(ground, f"{ground.current}/service.py") as shown:
        ground.expect("serves")
        shown.wait_for("Generation 1 serves")
        shown.press("\x03")
        shown.wait_for("Stopping; workers may take up to 60 s; Ctrl-C again ends them at once")
        ground.expect("shutdown")
        shown.press("\x03")
        shown.wait_for("Ctrl-C again; ending all workers at once")
        assert shown.wait() == 130
    ground.expect_nothing_left()
    assert ground.pid_file.read_text() == ""


@pytest.mark.parametrize("options", [(), ("--handover", "overlap"), ("--kill-mode", "group")])
def test_sigint_by_hand(ground: Ground, options: tuple[str, ...]) -> None:
    """So with a command, which does not hear the terminal's, and whatever that has started."""
    text = """
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN); report("child"); wait()
    signal.signal(signal.SIGTERM, lambda *_: report("told"))
    """
    running = command(ground, text + SERVES, *options, "--stop-timeout", "60")
    child = ground.expect("child").pid
    running.signal(signal.SIGINT)
    ground.expect("told")
    running.expect_line("Ctrl-C again ends them at once")
    running.signal(signal.SIGINT)
    assert running.wait() == 130
    wait_gone(child)
    ground.expect_nothing_left()


SERVES = 'report("serves", release=release); notify("READY=1"); wait()'


def test_sigint_with_generations_that_drain(ground: Ground) -> None:
    """The second ends those, too."""
    text = f"signal.signal(signal.SIGTERM, lambda *_: report('told', release=release)); {SERVES}"
    first = command(ground, text, "--handover", "overlap", "--stop-timeout", "60")
    for release in (2, 3):
        ground.program(release, text)
        assert ground.reload().returncode == 0
        ground.expect("told", release=release - 1)
    pids = [process.pid for process in ground.leftovers()]
    assert len(pids) == 6
    main = int(ground.pid_file.read_text())
    os.kill(main, signal.SIGINT)
    ground.expect("told", release=3)
    assert first.alive
    os.kill(main, signal.SIGINT)
    for pid in pids:
        wait_gone(pid)


@pytest.mark.parametrize("place", ["STARTING_SUCCESSOR+PEER_ASKS_LOCK", "YIELDED+PEER_SERVES", "CHECKING+PEER_CHECKED"])
def test_sigint_in_a_reload(ground: Ground, place: str) -> None:
    """Wherever a reload is, the second ends both generations."""
    hold = Breakpoint(ground, place)
    ground.deploy(1, service(f"{STUBBORN}{SHARED}"))
    running = ground.serving(environment=hold.environment)
    ground.deploy(2, service(f"{STUBBORN}{SHARED}"))
    caller = ground.reload_process()
    assert hold.wait() == running.pid
    pids = [process.pid for process in ground.leftovers() if process.pid != caller.pid]
    running.signal(signal.SIGINT)
    hold.release()
    running.expect_line("Ctrl-C again ends them at once")
    running.signal(signal.SIGINT)
    assert running.wait() == 130
    for pid in pids:
        wait_gone(pid)
    assert caller.wait() == 1
    ground.expect_nothing_left()


SHARED = """
handover = "overlap"
def supervised_process(self):
    self.ready_to_take_over()
    report("serves", release=self.release)
    self.serve()
"""


def test_a_stop_is_no_ctrl_c(ground: Ground) -> None:
    """SIGTERM and then SIGINT: the SIGINT is the first, and says what another would do."""
    ground.deploy(1, service(STUBBORN))
    running = ground.serving()
    running.signal(signal.SIGTERM)
    ground.expect("shutdown")
    running.signal(signal.SIGTERM)
    running.signal(signal.SIGINT)
    running.expect_line("Stopping; workers may take up to 60 s; Ctrl-C again ends them at once")
    assert running.alive and len(ground.worker_pids()) == 1
    running.signal(signal.SIGINT)
    assert running.wait() == 130


def test_a_class_that_does_not_stop_on_sigint(ground: Ground) -> None:
    """A class names its shutdown signals; any other is ignored, also those that end a Python program."""
    ground.deploy(1, service("shutdown_signals = (signal.SIGUSR1,)"))
    running = ground.serving()
    for name in ("SIGINT", "SIGQUIT"):
        running.signal(signal.Signals[name])
        running.expect_line(f"{name} is ignored: it has no meaning for a supervisor")
    running.signal(signal.SIGUSR1)
    assert running.wait() == 0
