"""From a process that is executed, or killed, to the service's first line or answer; beside gunicorn."""

import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable

from .effort import Effort
from .ground import (
    DEADLINE_SECONDS,
    BenchError,
    Supervised,
    clean_environment,
    let_time_pass,
    wait_for_end,
    wait_until_readable,
)
from .measure import Row, in_turns
from .notification import NotificationSocket
from .servers import SDSUPERVISE, SERVED, WEB, Gunicorn, gunicorn

# As systemd does for a .socket unit: descriptor 3, and the variables that say so.
_ACTIVATE = 'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http; export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES; exec "$@"'
_LIFE_SECONDS = 0.12  # what a worker lives before it is killed: gunicorn sleeps up to 0.1 s after each that it starts


def first_request(effort: Effort) -> Iterable[Row]:
    """exec of a server that is given its socket, to the answer to a request which waits for it there."""
    with NotificationSocket() as systemd, tempfile.TemporaryDirectory(prefix="sdsupervise-bench-") as directory:
        pid_file = os.path.join(directory, "pid")
        ours, bare, command, peer = in_turns(
            effort.starts,
            _first_answer([SDSUPERVISE, "run", WEB, "--pid-file", pid_file], systemd.address),
            _first_answer([sys.executable, str(SERVED / "web.py")], ""),
            _first_answer([SDSUPERVISE, "run", "--pid-file", pid_file, "--", *gunicorn()], systemd.address),
            _first_answer(gunicorn(), systemd.address),
        )
    yield Row("exec, to the first answer: a class", "ms", ours, "gunicorn", peer, limit=1.0)
    yield Row("exec, to the first answer: a class", "ms", ours, "the same server bare", bare, limit=2.0)
    yield Row("exec, to the first answer: gunicorn as a command", "ms", command, "gunicorn", peer, limit=2.0)


def _first_answer(command: list[str], notify_socket: str) -> Callable[[], float]:
    environment = clean_environment(**({"NOTIFY_SOCKET": notify_socket} if notify_socket else {}))

    def measure() -> float:
        with (
            tempfile.TemporaryFile() as said,
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as client,
        ):
            client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            started = time.monotonic_ns()
            pid = os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", _ACTIVATE, "sh", *command],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, said.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, said.fileno(), 2),
                    (os.POSIX_SPAWN_DUP2, listener.fileno(), 3),
                ],
            )
            listener.close()
            try:
                answered = wait_until_readable(client.fileno(), DEADLINE_SECONDS)
                milliseconds = (time.monotonic_ns() - started) / 1e6
                if not answered or not client.recv(4096).startswith(b"HTTP/1.1 200 "):
                    said.seek(0)
                    raise BenchError(f"{' '.join(command)} does not answer. {said.read().decode(errors='replace')}")
            finally:
                os.kill(pid, signal.SIGTERM)
                wait_for_end(pid)
        return milliseconds

    return measure


def respawn_beside_gunicorn(effort: Effort) -> Iterable[Row]:
    """SIGKILL of a worker, to the first line of the user's code in its replacement: gunicorn's hook post_fork."""
    with Supervised() as supervised, Gunicorn() as peer:

        def kill_ours() -> float:
            let_time_pass(supervised.worker.pid, _LIFE_SECONDS)
            killed = time.monotonic_ns()
            os.kill(supervised.worker.pid, signal.SIGKILL)
            return (supervised.next_worker().first_line - killed) / 1e3

        def kill_theirs() -> float:
            victim = peer.workers.pop(0)
            let_time_pass(victim.pid, _LIFE_SECONDS)
            killed = time.monotonic_ns()
            os.kill(victim.pid, signal.SIGKILL)
            worker = peer.next_worker()
            peer.workers.append(worker)
            return (worker.first_line - killed) / 1e3

        ours, theirs = in_turns(effort.peer_respawns, kill_ours, kill_theirs)
    yield Row("SIGKILL of a worker, to its replacement's first line", "µs", ours, "gunicorn", theirs, limit=1 / 3)
