"""HTTP servers that are measured, each moved to new code while it serves: ours, and gunicorn as its users do it."""

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from . import peers
from .ground import HERE, BenchError, Process, clean_environment, wait_for_end
from .notification import NotificationSocket

SERVED = HERE / "served"
SDSUPERVISE = str(Path(sys.executable).with_name("sdsupervise"))
WEB = f"{SERVED / 'web.py'}:Web"


def gunicorn(*options: str) -> list[str]:
    """gunicorn's command line. It says READY before it has imported the application, unless that is preloaded."""
    return [
        *(peers.program("gunicorn"), "--preload", "--no-control-socket"),
        *("--chdir", str(SERVED), "--config", str(SERVED / "gunicorn_settings.py")),
        *(*options, "wsgi:application"),
    ]


def gunicorn_of_threads(*options: str) -> list[str]:
    """With two workers of a kind that keeps connections alive, which the default kind does not."""
    return gunicorn("--workers", "2", "--worker-class", "gthread", "--threads", "4", *options)


def free_address() -> str:
    """An address that nobody listens on: a server that is measured opens it itself, or a refusal could not be seen."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        host, port = probe.getsockname()
    return f"{host}:{port}"


class GunicornWorker(NamedTuple):
    """What a worker of gunicorn says first."""

    first_line: int
    pid: int
    master: int


class Gunicorn(Process):
    """gunicorn alone."""

    def __init__(self) -> None:
        self.address = free_address()
        self._pending: list[GunicornWorker] = []
        command = gunicorn_of_threads("--bind", self.address, "--error-logfile", "/dev/stdout")
        super().__init__(command, clean_environment())
        self.workers = self._workers_of(self.pid)

    def next_worker(self) -> GunicornWorker:
        """Wait for a worker's first line."""
        while True:
            words = self.line().split()
            if words and all(word.isdecimal() for word in words):  # its log lines begin otherwise
                return GunicornWorker(*map(int, words))

    def ask_reload(self) -> None:
        """USR2: another master is executed, and serves beside this one."""
        os.kill(self.pid, signal.SIGUSR2)

    def finish_reload(self) -> None:
        """When the new master has its workers, let the old one end gracefully.

        It is TERM that does this: WINCH, which its manual gives first, means something to a daemonized gunicorn only.
        A new master knows itself to be the only one when it looks, once in a second, and before takes no other USR2.
        """
        workers = self._workers_of(None)
        os.kill(self.pid, signal.SIGTERM)
        wait_for_end(self.pid)
        self.pid, self.workers = workers[0].master, workers
        while "Master has been promoted" not in self.line():
            pass

    def _workers_of(self, master: int | None) -> list[GunicornWorker]:
        """All workers of this master, or of a new one."""
        found: list[GunicornWorker] = []
        while len(found) < 2:
            worker = self.next_worker()
            if worker.master == master or (master is None and worker.master != self.pid):
                found.append(worker)
        return found

    def end(self) -> None:
        """Stop it."""
        os.kill(self.pid, signal.SIGTERM)
        super().end()


class Ours(Process):
    """A service under `sdsupervise run`, by its last arguments: a class or a command."""

    def __init__(self, systemd: NotificationSocket, *service: str) -> None:
        self.address = free_address()
        self._directory = tempfile.TemporaryDirectory(prefix="sdsupervise-bench-")
        self._pid_file = Path(self._directory.name) / "pid"
        command = [
            *(SDSUPERVISE, "run", "--handover", "overlap"),
            *("--listen", f"http={self.address}", "--pid-file", str(self._pid_file), *service),
        ]
        super().__init__(command, clean_environment(NOTIFY_SOCKET=systemd.address), to_journal=True)
        systemd.wait_until_ready()

    def ask_reload(self) -> None:
        """SIGUSR2, as for gunicorn."""
        os.kill(self.pid, signal.SIGUSR2)

    def finish_reload(self) -> None:
        """Wait until the old supervisor has left."""
        wait_for_end(self.pid)
        pid = int(self._pid_file.read_text())
        if pid == self.pid:
            raise BenchError(f"{self.name} left instead of being reloaded. {self.last_words()}")
        self.pid = pid

    def end(self) -> None:
        """Stop it."""
        os.kill(self.pid, signal.SIGTERM)
        super().end()
        self._directory.cleanup()
