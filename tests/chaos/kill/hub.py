"""Where everything that happens to one service is heard: what its processes say, that they end, and that time passes.

One thread, one poll. Supervisors announce themselves and ask at every place of the takeover table (see
tests/support/breakpoints); workers announce themselves, ask before they start and stop, tell when they begin, and
answer questions. Each is known by a pidfd from its first word on. Nobody is asked twice: one waits for a condition, and
the condition is looked at again when something was heard.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE_SECONDS = 40.0  # far more than all deadlines of the service in a row


class Broken(Exception):
    """The service broke a promise; the message says which."""


class Process:
    """A supervisor or a worker, as far as it has told."""

    def __init__(self, pid: int, role: str, release: int, parent: int) -> None:
        self.pid, self.role, self.release, self.parent = pid, role, release, parent
        self.alive = True
        self.hung = False  # by a SIGSTOP of ours
        self.killed = False  # by a SIGKILL of ours
        self.harmed = False  # by either, whatever became of it
        self.begun = False  # a worker that was released
        self.stopping = False  # it said so, and takes on nothing new
        self.waits_for = ""  # "start" or "stop"
        self.heard: list[str] = []  # of a supervisor: the places it passed
        self.heard_at: list[float] = []
        self.died_at = 0.0
        self.asked = self.answered = 0
        self.wire: socket.socket | None = None
        self.pidfd = -1

    def __str__(self) -> str:
        return f"{self.role} {self.pid} (release {self.release})"


class Place:
    """A supervisor stands before effect N of a rule, and waits."""

    def __init__(self, process: Process, name: str, connection: socket.socket) -> None:
        self.process, self.name, self.connection = process, name, connection
        self.transition, _, number = name.partition("/")
        self.effect = int(number)

    def __str__(self) -> str:
        return f"{self.name} of {self.process}"


class Hub:
    """The ears of one case. on_place says of a supervisor that asks whether it is to be held."""

    def __init__(self, path: Path) -> None:
        self.on_place: Callable[[Place], bool] = lambda place: False
        self.on_worker: Callable[[Process, str], bool] = lambda process, word: False  # hold its start or stop?
        self.on_begin: Callable[[Process], None] = lambda process: None
        self.on_answer: Callable[[Process], None] = lambda process: None
        self.on_child_gone: Callable[[int, int], None] = lambda pid, status: None
        self.processes: list[Process] = []
        self.held: list[Place] = []
        self.story: list[str] = []
        self.transitions: set[str] = set()  # that anybody passed
        self.statuses: dict[int, int] = {}  # of our own children, once they are dead
        self.childless = True
        self._began = time.monotonic()
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._bell, self._bell_rope = socket.socketpair()
        for end in (self._bell, self._bell_rope):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._bell_rope.fileno(), warn_on_full_buffer=False)
        self.watch(self._bell.fileno(), self._children_changed)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        os.chmod(path, 0o777)
        self._listener.listen(64)
        self.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for process in self.processes:
            self._hang_up(process)
            if process.pidfd >= 0:
                os.close(process.pidfd)
        for place in self.held:
            place.connection.close()
        for end in (self._bell, self._bell_rope, self._listener):
            end.close()

    # Waiting

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._poll.register(fd, select.POLLIN)
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._alarms, (time.monotonic() + seconds, next(self._order), callback))

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Until the condition holds; Broken if it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise Broken(f"After {seconds:g} s there still is not: {what}.")
            self._turn(left)

    def _turn(self, seconds: float) -> None:
        if self._alarms:
            seconds = min(seconds, max(0.0, self._alarms[0][0] - time.monotonic()))
        for fd, _ in self._poll.poll(seconds * 1000 + 0.5):
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback()
        while self._alarms and self._alarms[0][0] <= time.monotonic():
            heapq.heappop(self._alarms)[2]()

    def tell(self, line: str) -> None:
        """Remember a line of the story, for whoever has to understand a failure."""
        self.story.append(f"{time.monotonic() - self._began:7.3f} {line}")

    # What is known

    @property
    def supervisors(self) -> list[Process]:
        return [process for process in self.processes if process.role == "supervisor"]

    def living(self, role: str) -> list[Process]:
        return [process for process in self.processes if process.role == role and process.alive]

    def workers_of(self, supervisor: Process) -> list[Process]:
        return [worker for worker in self.living("worker") if worker.parent == supervisor.pid]

    def forget_the_dead(self, draining: Sequence[Process]) -> None:
        """What was before is of no interest any more, but how far these are."""
        self.story.clear()
        for process in self.processes:
            if not process.alive:
                self._hang_up(process)
                os.close(process.pidfd)
            if process not in draining:
                del process.heard[1:], process.heard_at[1:]
        self.processes = [process for process in self.processes if process.alive]

    def spare_of(self, supervisor: Process) -> Process | None:
        """The worker it keeps in reserve, which has run no code of the service yet and so has told us nothing."""
        children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
        known = {process.pid for process in self.processes if process.alive}
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for pid in map(int, children.read_text().split()):
                if pid not in known:
                    return self._meet_spare(pid, supervisor)
        return None

    def _meet_spare(self, pid: int, supervisor: Process) -> Process:
        spare = Process(pid, "spare", supervisor.release, supervisor.pid)
        spare.pidfd = os.pidfd_open(pid)
        self.processes.append(spare)
        self.watch(spare.pidfd, lambda: self._dead(spare))
        return spare

    # Acting

    def send(self, process: Process, number: signal.Signals) -> None:
        self.tell(f"{number.name} to {process}")
        process.killed = process.killed or number == signal.SIGKILL
        process.harmed = process.harmed or number in (signal.SIGKILL, signal.SIGSTOP)
        process.hung = number == signal.SIGSTOP or (process.hung and number != signal.SIGCONT)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process.pidfd, number)

    def let_go(self, place: Place) -> None:
        if place in self.held:
            self.held.remove(place)
            self.unwatch(place.connection.fileno())
        place.connection.close()

    def say(self, process: Process, word: str) -> None:
        if process.wire is not None:
            with contextlib.suppress(OSError):
                process.wire.send(word.encode())

    def let_worker(self, process: Process) -> None:
        """Whatever it waits for: it may."""
        word, process.waits_for = process.waits_for, ""
        if word:
            self.say(process, word)

    def ask(self, process: Process) -> int:
        """Ask a worker the next question; its number."""
        process.asked += 1
        self.say(process, f"ask {process.asked}")
        return process.asked

    # Hearing

    def _children_changed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)
        self.reap()

    def reap(self) -> None:
        """Take the status of every child that is dead; those of the service end up here where we are its init."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    self.childless = False
                    return
                self.statuses[pid] = os.waitstatus_to_exitcode(status)
                self.on_child_gone(pid, self.statuses[pid])
        except ChildProcessError:
            self.childless = True

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        # The first word comes at once: whoever connects is about to say it, or dead. One who was stopped between the
        # two is waited for like everybody else.
        self.watch(connection.fileno(), lambda: self._first_word(connection, pid))

    def _first_word(self, connection: socket.socket, pid: int) -> None:
        self.unwatch(connection.fileno())
        words = _receive(connection).split()
        match words:
            case ["supervisor", release]:
                self._introduce(Process(pid, "supervisor", int(release), 0), connection)
            case ["worker", release, parent]:
                self._introduce(Process(pid, "worker", int(release), int(parent)), connection)
            case [place]:
                self._place(pid, place, connection)
            case _:
                connection.close()

    def _introduce(self, process: Process, connection: socket.socket) -> None:
        try:
            process.pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            connection.close()
            return
        self.processes.append(process)
        self.tell(f"{process}{f' of supervisor {process.parent}' * bool(process.parent)}")
        self.watch(process.pidfd, lambda: self._dead(process))
        if process.role == "supervisor":
            connection.send(b"go")
            connection.close()
            return
        process.wire = connection
        self.watch(connection.fileno(), lambda: self._hear(process))
        self._want(process, "start")

    def _want(self, process: Process, word: str) -> None:
        process.waits_for = word
        if not self.on_worker(process, word):
            self.let_worker(process)

    def _place(self, pid: int, name: str, connection: socket.socket) -> None:
        process = next((process for process in self.living("supervisor") if process.pid == pid), None)
        if process is None:
            connection.close()
            return
        place = Place(process, name, connection)
        process.heard.append(name)
        process.heard_at.append(time.monotonic())
        self.transitions.add(place.transition)
        self.tell(str(place))
        if self.on_place(place):
            self.held.append(place)
            self.watch(connection.fileno(), lambda: self._held_one_left(place))
        else:
            connection.close()

    def _held_one_left(self, place: Place) -> None:
        self.tell(f"{place.process} is held no more at {place.name}, it ended")
        self.let_go(place)

    def _hear(self, process: Process) -> None:
        assert process.wire is not None
        words = _receive(process.wire)
        if not words:
            self._hang_up(process)
            return
        if not words.startswith("answer"):
            self.tell(f"{process} says {words}")
        match words.split():
            case ["begin"]:
                process.begun = True
                self.on_begin(process)
            case ["stopping"]:
                process.stopping = True
                self._want(process, "stop")
            case ["answer", number, _]:
                process.answered = max(process.answered, int(number))
                self.on_answer(process)
            case _:
                process.heard.append(words)

    def _dead(self, process: Process) -> None:
        self.unwatch(process.pidfd)
        if process.wire is not None:
            while words := _receive(process.wire, socket.MSG_DONTWAIT):  # what it said before it died
                if not words.startswith("answer"):
                    self.tell(f"{process} said {words}")
        self._hang_up(process)
        process.alive = process.hung = False
        process.died_at = time.monotonic()
        self.reap()
        status = self.statuses.get(process.pid)
        ending = "" if status is None else f" with status {status}"
        self.tell(f"{process} is dead{ending}")

    def _hang_up(self, process: Process) -> None:
        if process.wire is not None:
            self.unwatch(process.wire.fileno())
            process.wire.close()
            process.wire = None


def _receive(connection: socket.socket, flags: int = 0) -> str:
    try:
        return connection.recv(1000, flags).decode()
    except (BlockingIOError, ConnectionError):
        return ""
