"""What a story is told on: a machine with systemd, or a directory and a process in the foreground."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

CLONE = Path(__file__).parents[2]
EXAMPLE = CLONE / "units" / "example"
LIMIT_SECONDS = 20.0

NUMBERS_CLIENT = "tests.demo.client"
TRAFFIC_CLIENT = "tests.demo.visitors"
CLIENT_MODULES = (NUMBERS_CLIENT, TRAFFIC_CLIENT, "tests.load.client")
"""What the clients are made of; they need the standard library alone."""


class Service(NamedTuple):
    """One of units/example."""

    name: str
    """Of its unit, without .service, and of its file, without .py."""
    target: str
    """What `sdsupervise run` is given."""
    port: int
    workers: int
    sign: str
    """What is logged when a worker serves."""
    options: tuple[str, ...] = ()
    """What it needs on another port and in another home."""


COUNTER = Service("counter", "counter.py:Counter", 7000, 1, " serves, ", ("--port", "{port}", "--state", "{home}/last"))
WEB = Service("web", "web.py:Web", 8080, 2, " is ready")


class Facts(NamedTuple):
    """What is said of the service at one moment, once from outside and once by its supervisor."""

    main_pid: int
    """As systemd says it; without systemd, the pid file's."""
    supervisor_pid: int
    worker_pids: tuple[int, ...]
    restarts: int
    """How often the supervisor had to be started again."""
    crashes: int
    """Of workers."""
    sentence: str
    """STATUS."""


class Outcome(NamedTuple):
    """How a start, reload or stop ended."""

    succeeded: bool
    words: str


class Ground(Protocol):
    """Runs each command of a story, after showing it."""

    teller: str
    """Who tells the facts."""
    pid_name: str
    """What the main pid is called there."""
    restarts_name: str
    """What counts the supervisor's restarts there; empty where nobody restarts it."""

    @property
    def port(self) -> int:
        """Where the service listens, on 127.0.0.1."""

    def install(self, releases: Mapping[str, str], unit: str) -> None:
        """Put these files of releases in place (`1/counter.py` and its text), and the unit where there is a systemd."""

    def client(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start one of CLIENT_MODULES; it ends with its standard input, or when it is killed."""

    def deploy(self, release: str) -> None:
        """Swap the symlink."""

    def start(self) -> Outcome:
        """Start the service, and wait until it is ready."""

    def kill_worker(self, pid: int) -> None:
        """Kill the worker, and wait until another serves."""

    def reload(self, main_pid: int) -> Outcome:
        """Reload the service, and wait for the verdict."""

    def kill_supervisor(self, pid: int) -> None:
        """Kill the main pid, and wait until the service is started again; only where somebody restarts it."""

    def restart(self) -> Outcome:
        """Restart the service, and wait until it is ready; only where there is somebody who can."""

    def stop(self, main_pid: int) -> Outcome:
        """Stop the service, and wait until it has."""

    def wait_until_gone(self, pid: int) -> None:
        """Wait until this process has ended."""

    def facts(self) -> Facts:
        """What is said of the running service."""

    def leftovers(self) -> list[str]:
        """What is there of the stopped service that should not be."""

    def last_words(self) -> str:
        """The end of the service's log, for when something went wrong."""
