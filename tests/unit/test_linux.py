"""The thin modules over the kernel, each against the real one."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdsupervise.errors import ConfigError, HandoverError, PidFileError
from sdsupervise.linux import inheritance, prctl, privileges, processes, signals
from sdsupervise.linux.channel import Channel
from sdsupervise.linux.event_loop import EventLoop
from sdsupervise.linux.lifeline import Lifeline, Tie
from sdsupervise.linux.patience import readable_within
from sdsupervise.linux.pid_file import PidFile


def sleep_on() -> int:
    """What a child does until it is killed."""
    signal.pause()
    return 0


def wait_dead(pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    assert poller.poll(30_000)


# ------------------------------------------------------------------------------------------------- other's deadlines

WAITS = """
import os, sys, time
from sdsupervise.linux.patience import readable_within
began = time.monotonic()
print("waits", flush=True)
print(readable_within(0, float(sys.argv[1])), time.monotonic() - began)
"""


@pytest.mark.parametrize("late", ["x", ""], ids=["then something comes", "then nothing comes"])
def test_waiting_through_a_freeze(late: str) -> None:
    """Who was stopped while he waited for somebody gives him all of the time again, and no more than that."""
    command = [sys.executable, "-c", WAITS, "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        if late:
            time.sleep(0.1)
            process.stdin.write(late)
            process.stdin.flush()
        came, seconds = process.stdout.readline().split()
    assert came == str(bool(late))
    assert float(seconds) > (1.5 if late else 2.4)


def test_waiting_takes_no_longer() -> None:
    """Who was not stopped waits as long as he was told to, and looks at other things as often as those say."""
    reader, writer = os.pipe()
    looks: list[float] = []

    def look() -> float:
        looks.append(time.monotonic())
        return 0.02

    began = time.monotonic()
    assert not readable_within(reader, 0.2, while_waiting=look)
    assert time.monotonic() - began >= 0.2 and len(looks) >= 2
    os.write(writer, b"x")
    assert readable_within(reader, 1000.0)
    for fd in (reader, writer):
        os.close(fd)


# ------------------------------------------------------------------------------------------------------- event loop


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


def test_timers_fire_in_order(loop: EventLoop) -> None:
    """Timers fire by time, those of one instant in the order they were set; a cancelled one never does."""
    fired: list[str] = []
    loop.call_later(0.02, lambda: fired.append("late"))
    for name in "one", "two":
        loop.call_later(0, lambda name=name: fired.append(name))  # type: ignore[misc]
    cancelled = loop.call_later(0.01, lambda: fired.append("cancelled"))
    loop.call_later(0.03, loop.stop)
    cancelled.cancel()
    loop.run()
    assert fired == ["one", "two", "late"]
    assert not cancelled.pending


def test_a_timer_set_by_a_timer(loop: EventLoop) -> None:
    """call_later(0) in a callback is for the next round: descriptors are looked at in between."""
    reader, writer = os.pipe()
    happened: list[str] = []
    loop.watch(reader, lambda: happened.append(os.read(reader, 1).decode()))

    def first() -> None:
        os.write(writer, b"x")
        loop.call_later(0, second)

    def second() -> None:
        happened.append("second")
        loop.stop()

    loop.call_later(0, first)
    loop.run()
    assert happened == ["x", "second"]
    os.close(reader)
    os.close(writer)


def test_what_arrives_goes_before_what_becomes_due(loop: EventLoop) -> None:
    """While a callback took long, a deadline passed and what it was set for arrived: that is looked at first."""
    readers_and_writers = [os.pipe() for _ in range(2)]
    (busy, begin), (late, arrive) = readers_and_writers
    happened: list[str] = []

    def deadline() -> None:
        happened.append("deadline")
        loop.stop()

    def be_busy() -> None:
        os.read(busy, 1)
        until = time.monotonic() + 0.002
        loop.call_later(0.001, deadline)
        while time.monotonic() < until:
            pass
        os.write(arrive, b"x")

    loop.watch(busy, be_busy)
    loop.watch(late, lambda: happened.append(os.read(late, 1).decode()))
    os.write(begin, b"x")
    loop.run()
    assert happened == ["x", "deadline"]
    for fd in (fd for pair in readers_and_writers for fd in pair):
        os.close(fd)


def stop_soon(loop: EventLoop) -> None:
    loop.call_later(0, loop.stop)


def test_who_is_timed_sleeps_no_longer_than_the_loop(loop: EventLoop) -> None:
    """expect_within fires once when its time is up, in its turn; cancelled it never does, and the loop, which has to
    look at its clock meanwhile, sleeps without an end again."""
    fired: list[str] = []

    def late() -> None:
        fired.append("late")
        loop.stop()

    loop.expect_within(0.1, late)
    loop.expect_within(0.0, lambda: fired.append("at once"))
    cancelled = loop.expect_within(0.02, lambda: fired.append("cancelled"))
    loop.call_later(0.01, lambda: fired.append("soon"))
    cancelled.cancel()
    loop.run()
    assert fired == ["at once", "soon", "late"]
    assert not cancelled.pending
    assert loop._seconds_to_sleep() is None


def test_unwatched_in_the_same_round(loop: EventLoop) -> None:
    """A callback may unwatch a descriptor that is ready in the same round; it is not called any more."""
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def take(number: int) -> None:
        called.append(number)
        for one, _ in pairs:
            loop.unwatch(one.fileno())

    for number, (one, other) in enumerate(pairs):
        loop.watch(one.fileno(), lambda number=number: take(number))  # type: ignore[misc]
        other.send(b"x")
    loop.call_later(0, lambda: stop_soon(loop))
    loop.run()
    assert len(called) == 1
    loop.unwatch(pairs[0][0].fileno())  # not watched: nothing happens
    for one, other in pairs:
        one.close()
        other.close()


def test_a_number_used_again_in_the_same_round(loop: EventLoop) -> None:
    """A descriptor that is watched in place of a closed one of the same number hears nothing of that one's events."""
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[str] = []
    (quiet, _other_end) = socket.socketpair()

    def take(number: int) -> None:
        called.append("first")
        left = pairs[1 - number][0]
        loop.unwatch(left.fileno())
        os.dup2(quiet.fileno(), left.fileno())
        loop.watch(left.fileno(), lambda: called.append("quiet"))

    for number, (one, other) in enumerate(pairs):
        loop.watch(one.fileno(), lambda number=number: take(number))  # type: ignore[misc]
        other.send(b"x")
    loop.call_later(0, lambda: stop_soon(loop))
    loop.run()
    assert called.count("first") >= 1 and "quiet" not in called
    for end in (*pairs[0], *pairs[1], quiet, _other_end):
        end.close()


def test_a_timer_of_a_year(loop: EventLoop) -> None:
    """The longest time a setting may have is none too many for the loop, and keeps nobody waiting."""
    reader, writer = os.pipe()
    loop.call_later(366 * 86400.0, lambda: pytest.fail("a year has passed"))
    loop.watch(reader, loop.stop)
    os.write(writer, b"x")
    loop.run()
    os.close(reader)
    os.close(writer)


def test_a_child_closes_what_is_watched(loop: EventLoop) -> None:
    """A forked child closes its copies of all that its parent watches, side by side or not, and of nothing else."""
    pairs = [socket.socketpair() for _ in range(4)]
    watched = [pairs[0][0], pairs[1][0], pairs[1][1], pairs[3][1]]
    for end in watched:
        loop.watch(end.fileno(), loop.stop)
    kept = [end.fileno() for pair in pairs for end in pair if end not in watched]
    gone = [end.fileno() for end in watched]

    def be_child() -> int:
        loop.close_in_child()
        return int(not all(map(is_open, kept)) or any(map(is_open, gone)))

    child = processes.fork(be_child)
    os.close(child.pidfd)
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 0
    assert all(map(is_open, kept + gone)), "the parent's own are closed"
    for pair in pairs:
        for end in pair:
            loop.unwatch(end.fileno())
            end.close()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_hang_up_is_ready(loop: EventLoop) -> None:
    """The other side's end calls back, too."""
    one, other = socket.socketpair()
    loop.watch(one.fileno(), loop.stop)
    other.close()
    loop.run()
    one.close()


# --------------------------------------------------------------------------------------------------------- processes


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (lambda: 0, "exited with status 0"),
        (lambda: 7, "exited with status 7"),
        (lambda: 1 // 0, "exited with status 70"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL"),
        (lambda: os.kill(os.getpid(), signal.SIGRTMIN + 3), "was killed by SIGRTMIN+3"),
    ],
)
def test_fork_and_reap(deed: object, words: str) -> None:
    """A child ends with what its function returned, never unwinding into its parent's code; its end in words."""
    child = processes.fork(deed)  # type: ignore[arg-type]
    wait_dead(child.pidfd)
    assert processes.is_dead(child.pidfd)
    status = processes.reap(child)
    assert status is not None and processes.exit_in_words(status) == words
    os.close(child.pidfd)


def test_reap_of_the_living() -> None:
    """A living child is not reaped, and not dead; a signal to the dead is no error."""
    child = processes.fork(sleep_on)
    assert processes.reap(child) is None and not processes.is_dead(child.pidfd)
    assert signals.send(child.pidfd, signal.SIGKILL)
    wait_dead(child.pidfd)
    assert processes.reap(child) is not None
    assert signals.send(child.pidfd, signal.SIGKILL)
    os.close(child.pidfd)


def test_a_child_knows_that_its_parent_is_dead() -> None:
    """die_with_parent is true under a living parent, and false where that died before it was asked."""
    answers, said = os.pipe()
    parent_lives, parent_ends = os.pipe()

    def grandchild(parent: int) -> int:
        os.close(parent_ends)
        alive = prctl.die_with_parent(parent, signal.SIGWINCH)  # ignored when it comes
        os.read(parent_lives, 1)
        os.write(said, b"%d%d" % (alive, prctl.die_with_parent(parent, signal.SIGWINCH)))
        return 0

    def child() -> int:
        parent = os.getpid()
        processes.fork(lambda: grandchild(parent))
        return 0

    os.set_blocking(answers, True)
    middle = processes.fork(child)
    wait_dead(middle.pidfd)
    processes.reap(middle)
    os.close(parent_ends)
    assert os.read(answers, 2)[1:] == b"0"
    for fd in (answers, said, parent_lives, middle.pidfd):
        os.close(fd)


def test_signals_received_as_numbers() -> None:
    """Signals come as a set of numbers on a readable descriptor, also those that were blocked before; equal ones merge;
    afterwards none."""
    before = signal.getsignal(signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    receiver = signals.SignalReceiver([signal.SIGUSR1])
    try:
        assert receiver.read() == set()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
        wait_dead(receiver.fileno())
        assert receiver.read() == {signal.SIGUSR1}
        assert receiver.read() == set()
    finally:
        receiver.close()
        signal.signal(signal.SIGUSR1, before)


def test_signals_of_others() -> None:
    """A signal somebody else has a handler for, also a real-time one that has no name, is none of the receiver's."""
    foreign = [signal.SIGUSR1, signal.SIGRTMIN + 3]
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGUSR2, *foreign)}
    receiver = signals.SignalReceiver([signal.SIGUSR2])
    try:
        for number in foreign:
            os.kill(os.getpid(), number)
        wait_dead(receiver.fileno())
        assert receiver.read() == set()
        os.kill(os.getpid(), signal.SIGUSR2)
        wait_dead(receiver.fileno())
        assert receiver.read() == {signal.SIGUSR2}
    finally:
        receiver.close()
        for number, handler in before.items():
            signal.signal(number, handler)


# ----------------------------------------------------------------------------------------------------------- pid file


def locked(pid_file: PidFile) -> PidFile:
    assert pid_file.try_lock()
    return pid_file


def test_the_lock_belongs_to_the_description(tmp_path: Path) -> None:
    """Another description of the same file cannot lock it; a copy by fork keeps it locked until the last is closed."""
    path = str(tmp_path / "service.pid")
    first, second = locked(PidFile.at(path)), PidFile.at(path)
    assert not second.try_lock() and first.try_lock()
    child = processes.fork(sleep_on)
    first.close()
    assert not second.try_lock()
    signals.send(child.pidfd, signal.SIGKILL)
    wait_dead(child.pidfd)
    assert second.try_lock()
    processes.reap(child)
    os.close(child.pidfd)
    second.close()


@pytest.mark.parametrize("nameless", [True, False])
def test_another_description_through_the_first(tmp_path: Path, nameless: bool) -> None:
    """A fresh description comes from an O_PATH descriptor, also of a deleted file or one without a name; it does not
    have the first one's lock."""
    pid_file = locked(PidFile.nameless() if nameless else PidFile.at(str(tmp_path / "service.pid")))
    if not nameless:
        (tmp_path / "service.pid").unlink()
        assert not pid_file.still_named()
    path_fd = pid_file.path_fd()
    other = PidFile.through(path_fd, pid_file.name)
    assert not other.try_lock()
    pid_file.write_pid(123456)
    assert other.read_pid() == 123456
    pid_file.close()
    assert other.try_lock()
    with pytest.raises(OSError, match="Bad file descriptor"):
        fcntl.flock(path_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # that descriptor itself holds no lock
    os.close(path_fd)
    other.close()


def test_pid_written_in_place(tmp_path: Path) -> None:
    """A shorter pid leaves nothing of a longer one, and the file stays the same file."""
    path = tmp_path / "service.pid"
    pid_file = locked(PidFile.at(str(path)))
    assert pid_file.read_pid() is None
    for pid in 1234567, 42:
        pid_file.write_pid(pid)
        assert path.read_text() == f"{pid}\n" and pid_file.read_pid() == pid
    assert pid_file.still_named()
    for nonsense in ("nonsense", "-1", "²", "9" * 5000, "4294967296", "1 2"):
        path.write_text(nonsense)
        assert pid_file.read_pid() is None
    path.unlink()
    path.write_text("")
    assert not pid_file.still_named()
    pid_file.close()


def test_no_symlinks(tmp_path: Path) -> None:
    """A symlink is not followed, not even one that leads nowhere: nothing is created there."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(PidFileError, match="Cannot open the pid file"):
        PidFile.at(str(tmp_path / "link"))
    assert not (tmp_path / "target").exists()


# ------------------------------------------------------------------------------------------------------------ channel


@pytest.fixture
def channels() -> Iterator[tuple[Channel, Channel]]:
    pair = Channel.pair()
    yield pair
    for end in pair:
        end.close()


def test_messages_with_descriptors(channels: tuple[Channel, Channel]) -> None:
    """A message carries fields and descriptors; those are close-on-exec where they arrive. None when there is none."""
    one, other = channels
    assert other.receive() is None
    reader, writer = os.pipe()
    assert one.send("worker", [writer], pid=7)
    message = other.receive()
    assert message is not None and message.kind == "worker" and message.fields["pid"] == 7
    (copy,) = message.fds
    assert not os.get_inheritable(copy)
    os.write(copy, b"x")
    assert os.read(reader, 1) == b"x"
    message.close_fds()
    os.close(reader)
    os.close(writer)


def test_last_words(channels: tuple[Channel, Channel]) -> None:
    """What was said before the end is heard first, then the end; saying something to the dead is False."""
    one, other = channels
    one.send("first")
    one.send("last")
    one.close()
    assert [message and message.kind for message in (other.receive(), other.receive())] == ["first", "last"]
    with pytest.raises(EOFError):
        other.receive()
    assert not other.send("anybody?")


def test_a_side_that_does_not_read(channels: tuple[Channel, Channel]) -> None:
    """A full buffer is False, not a wait; descriptors in flight included."""
    one, _ = channels
    for _ in range(100_000):
        if not one.send("worker", [0], text="x" * 1000):
            break
    else:
        pytest.fail("it took everything")


@pytest.mark.parametrize("data", [b"nonsense", b"[]", b"\xff", b"1"])
def test_no_message(channels: tuple[Channel, Channel], data: bytes) -> None:
    """Bytes that are no message are an error of ours, not of Python's."""
    one, other = channels
    os.write(one.fileno(), data)
    with pytest.raises(HandoverError, match="Another supervisor sent"):
        other.receive()


def test_no_socket() -> None:
    """A descriptor that is no socket cannot be a channel."""
    reader, writer = os.pipe()
    with pytest.raises(HandoverError, match="is not a socket"):
        Channel.from_fd(reader)
    os.close(reader)
    os.close(writer)


# --------------------------------------------------------------------------------- how we were called, who we become


def test_handover_variable() -> None:
    """Two numbers, or nothing."""
    assert inheritance.inherited_handover({}) is None
    assert inheritance.inherited_handover({inheritance.HANDOVER_VARIABLE: "5:6"}) == (5, 6)
    with pytest.raises(HandoverError, match="five"):
        inheritance.inherited_handover({inheritance.HANDOVER_VARIABLE: "five"})


def test_environment_of_a_successor() -> None:
    """What systemd sets for one process is not handed on; the watchdog's pid is that of the process itself."""
    given = {
        "A": "b",
        "MAINPID": "1",
        "LISTEN_PID": "1",
        "LISTEN_FDS": "2",
        "LISTEN_FDNAMES": "x",
        "LISTEN_PIDFDID": "3",
    }
    got = inheritance.environment_of_successor(given, 5, 6)
    assert got == {"A": "b", inheritance.HANDOVER_VARIABLE: "5:6"}
    got = inheritance.environment_of_successor({"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}, 5, 6)
    assert got["WATCHDOG_PID"] == str(os.getpid()) and got["WATCHDOG_USEC"] == "9"


def test_directory_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$PWD counts where it names the very directory we are in."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    real = str((tmp_path / "real").resolve())
    for pwd, name in (
        (str(tmp_path / "link"), str(tmp_path / "link")),
        (str(tmp_path), real),
        ("/nowhere", real),
        ("", real),
    ):
        monkeypatch.setenv("PWD", pwd)
        assert inheritance.named_directory() == name


def test_this_invocation_is_kept() -> None:
    """It is what it was when first asked, and typed, not resolved."""
    assert inheritance.this_invocation() is inheritance.this_invocation()
    assert inheritance.this_invocation().argv[1:] == sys.orig_argv[1:]


def test_identities() -> None:
    """Names and numbers of users and groups; none at all where none is asked for."""
    assert privileges.look_up(None, None) is None
    assert privileges.look_up("root", None) == privileges.look_up("0", None) == (0, 0, "root")
    assert privileges.look_up(None, "root") == (os.geteuid(), 0, None)
    for user, group in (
        ("nobody-has-this-name", None),
        (None, "nobody-has-this-name"),
        (str(2**40), None),
        (None, str(2**40)),
        ("", None),
    ):
        with pytest.raises(ConfigError, match="on this host; check --"):
            privileges.look_up(user, group)


def test_a_lifeline_tells_all_workers_of_their_supervisors_death() -> None:
    """Both workers get the signal when the supervisor is killed, whatever they are doing; not when one of them ends."""
    answers, said = os.pipe()

    def be_worker(lifeline: Lifeline, *, stays: bool) -> int:
        lifeline.close_in_child()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        tie = Tie(lifeline.reader, signal.SIGUSR1)
        os.write(said, b"cut " if tie.is_cut else b"tied ")
        if stays:
            signal.sigwait({signal.SIGUSR1})
            os.write(said, b"cut " if tie.is_cut else b"tied ")
        return 0

    def be_supervisor() -> int:
        lifeline = Lifeline()
        for _ in range(2):
            processes.fork(lambda: be_worker(lifeline, stays=True))
        ended = processes.fork(lambda: be_worker(lifeline, stays=False))
        wait_dead(ended.pidfd)
        os.write(said, b"ended ")
        signal.sigwait({signal.SIGTERM})
        return 0

    supervisor = processes.fork(be_supervisor)
    os.close(said)
    words: list[bytes] = []
    while len(words) < 4:
        words += os.read(answers, 100).split()
    assert sorted(words) == [b"ended", b"tied", b"tied", b"tied"]
    signal.pidfd_send_signal(supervisor.pidfd, signal.SIGKILL)
    wait_dead(supervisor.pidfd)
    processes.reap(supervisor)
    rest = b""
    while some := os.read(answers, 100):
        rest += some
    assert rest.split() == [b"cut", b"cut"]
    os.close(answers)
    os.close(supervisor.pidfd)


def test_a_tie_to_a_dead_supervisor_is_cut() -> None:
    """Whoever comes too late for the signal can ask."""
    lifeline = Lifeline()
    reader = os.dup(lifeline.reader)
    lifeline.close_in_child()
    tie = Tie(reader, signal.SIGWINCH)  # ignored when it comes
    assert tie.is_cut
    tie.close()
    os.close(lifeline.reader)
