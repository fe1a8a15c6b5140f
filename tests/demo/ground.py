"""What the story is told on: a machine with systemd, or a directory and a process in the foreground."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.demo.talk import Talk

EXAMPLE = Path(__file__).parents[2] / "units" / "example"
CLIENT = Path(__file__).with_name("client.py")
LIMIT_SECONDS = 20.0


class Facts(NamedTuple):
    """What is said of the service at one moment, once from outside and once by its supervisor."""

    main_pid: int
    """As systemd says it; without systemd, the pid file's."""
    supervisor_pid: int
    worker_pid: int
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
    """Runs each command of the story, after showing it."""

    teller: str
    """Who tells the facts."""
    pid_name: str
    """What the main pid is called there."""
    restarts_name: str
    """What counts the supervisor's restarts there; empty where nothing does."""

    def install(self, releases: Mapping[str, str]) -> None:
        """Put these releases of the example in place: name and source."""

    def talk(self) -> Talk:
        """Start the client."""

    def deploy(self, release: str) -> None:
        """Swap the symlink."""

    def start(self) -> Outcome:
        """Start the service, and wait until it is ready."""

    def kill_worker(self, pid: int) -> None:
        """Kill the worker, and wait until another serves."""

    def reload(self, main_pid: int) -> Outcome:
        """Reload the service, and wait for the verdict."""

    def stop(self, main_pid: int) -> Outcome:
        """Stop the service, and wait until it has."""

    def facts(self) -> Facts:
        """What is said of the running service."""

    def leftovers(self) -> list[str]:
        """What is there of the stopped service that should not be."""

    def last_words(self) -> str:
        """The end of the service's log, for when something went wrong."""
