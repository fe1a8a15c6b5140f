"""A supervised service on a machine, as its operator handles it: unit file, releases, `systemctl`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

from tests.support.fifos import LIMIT_SECONDS, Fifo, Gate
from tests.support.inside import Process
from tests.support.journal import Entry, JournalFollower
from tests.support.machine import Machine
from tests.support.story import Story

# The blanks are filled by `source()`. Bound before it is ready and answered once it serves: who connects to a worker
# need not know how far it is.
_SOURCE = '''\
import json, os, signal, socket, sys, threading, time
from sdsupervise import SupervisedDaemon

RELEASE = {release!r}
{top}

class Trial(SupervisedDaemon):
    """Tells whoever asks what it is."""

    can_do_hot_reload = True
    delay_before_respawn = 0
    listen = {listen!r}

    def supervised_process(self):
        server = socket.socket(socket.AF_UNIX)
        directory = [path for path in os.environ["RUNTIME_DIRECTORY"].split(":") if "/sdsupervise/" in path][0]
        place = os.path.join(directory, f"worker.{{os.getpid()}}")
        if os.path.exists(place):
            os.unlink(place)
        server.bind(place)
        server.listen()
        self.warm_up()
        self.ready_to_take_over()
        print(f"release {{RELEASE}} serves")
        self.serve(server)

    def warm_up(self):
        {warm_up}

    def serve(self, server):
        {serve}
        while True:
            client, _ = server.accept()
            with client:
                client.sendall(json.dumps(self.facts()).encode())
            self.ping_supervisor()

    def facts(self):
        facts = {{"release": RELEASE, "pid": os.getpid(), "environment": dict(os.environ)}}
        {facts}
        return facts

    def supervised_shutdown(self):
        {shut_down}
        os.write(1, f"release {{RELEASE}} stops\\n".encode())  # a print() may have been interrupted
'''

_UNIT = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/usr/bin/sdsupervise reload /etc/sdsupervise/%N.toml
SuccessExitStatus=SIGTERM
KillMode=mixed
Restart=always
RestartSec=100ms
RestartPreventExitStatus=78
TimeoutStartSec=90
TimeoutStopSec=60
OOMPolicy=continue
RuntimeDirectory=sdsupervise/%N
RuntimeDirectoryPreserve=restart
"""


def source(
    release: str | int,
    *,
    top: str = "",
    listen: Mapping[str, object] = MappingProxyType({}),
    serve: str = "pass",
    warm_up: str = "pass",
    facts: str = "pass",
    shut_down: str = "pass",
) -> str:
    """A service's code, with statements put into it."""
    indented = {
        name: statements.strip().replace("\n", "\n        ")
        for name, statements in (("serve", serve), ("warm_up", warm_up), ("facts", facts), ("shut_down", shut_down))
    }
    return _SOURCE.format(release=str(release), top=top, listen=dict(listen), **indented)


class Trial:
    """One unit. At its close it is stopped, and its whole story is looked over."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name
        self.unit = f"{name}.service"
        self.current = f"/srv/{name}/current"
        self.command = f"/usr/bin/sdsupervise run --directory {self.current} trial.py:Trial"
        self.began = machine.journal_cursor()
        self._undo = ExitStack()
        self._is_loaded = False  # systemd has read the unit
        self.ends_failed = False
        """Set by a test in which the unit rightly ends in state failed."""
        self.main_pid_is_doubtful = False
        """Set by a test that stops the unit between MAINPID= and systemd's answer, or kills its main process in a
        reload: what is left cannot know whom systemd takes for the main one, and reports."""

    # What the operator does

    def install(self, *settings: str, command: str = "", options: str = "") -> None:
        """Write the unit file, with these settings (lines of [Service]) at its end."""
        command = command or self.command.replace(" run ", f" run {options} ")
        text = _UNIT.format(command=command) + "\n".join(settings) + "\n"
        self.machine.write(f"/run/systemd/system/{self.unit}", text)
        self._let_it_be_read()

    def drop_in(self, *settings: str) -> None:
        """Change the unit on disk, as `systemctl edit` does."""
        self.machine.write(f"/run/systemd/system/{self.unit}.d/edit.conf", "\n".join(["[Service]", *settings, ""]))
        self._let_it_be_read()

    def _let_it_be_read(self) -> None:
        """By `systemctl daemon-reload`, which is half the cost of a test, and is not needed for a unit that is new."""
        if self._is_loaded:
            self.machine.run("systemctl", "daemon-reload")

    def deploy(self, release: str | int, code: str | None = None) -> None:
        """Lay out a release and swap the symlink to it; nothing else, as deployments do."""
        self.machine.write(f"/srv/{self.name}/releases/{release}/trial.py", code or source(release))
        self.machine.symlink(f"releases/{release}", self.current)

    def systemctl(self, verb: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`systemctl VERB [ARGUMENTS] UNIT`."""
        self._is_loaded = True
        return self.machine.run("systemctl", verb, *arguments, self.unit, check=check)

    @contextmanager
    def calling(self, verb: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """`systemctl VERB UNIT` that goes on while we look."""
        self._is_loaded = True
        with self.machine.popen("systemctl", verb, *arguments, self.unit) as call:
            try:
                yield call
            finally:
                call.kill()

    def start(self) -> None:
        """`systemctl start`, which must succeed."""
        self.systemctl("start")

    def reload(self) -> int:
        """`systemctl reload`; its exit status."""
        return self.systemctl("reload", check=False).returncode

    def stop(self) -> None:
        """`systemctl stop`, which must succeed."""
        self.systemctl("stop")

    # What the operator sees

    def show(self, *properties: str) -> dict[str, str]:
        """These properties of the unit."""
        self._is_loaded = True
        return self.machine.show(self.unit, *properties)

    @property
    def main_pid(self) -> int:
        """systemd's MainPID, 0 for none."""
        return int(self.show("MainPID")["MainPID"])

    @property
    def status(self) -> str:
        """What `systemctl status` shows as Status."""
        return self.show("StatusText")["StatusText"]

    @property
    def processes(self) -> list[Process]:
        """The unit's living processes."""
        return [process for process in self.machine.processes(self.unit) if process.state != "Z"]

    @property
    def strays(self) -> list[Process]:
        """Processes of the unit that are neither the main one nor its children."""
        main = self.main_pid
        return [process for process in self.processes if main not in (process.pid, process.ppid)]

    @property
    def worker_pid(self) -> int:
        """The worker of the main process."""
        return self.worker_of(self.main_pid)

    def worker_of(self, supervisor: int) -> int:
        """The one child of a supervisor that runs the service's code; a spare does not."""
        children = [process.pid for process in self.processes if process.ppid == supervisor]
        with self.machine.inside.directory(f"/run/sdsupervise/{self.name}") as directory:
            (worker,) = (pid for pid in children if f"worker.{pid}" in os.listdir(directory))
        return worker

    def ask(self) -> dict[str, Any]:
        """Be a client: what the worker of the main pid answers, once it serves."""
        worker = self.worker_pid
        place = self.machine.inside.directory(f"/run/sdsupervise/{self.name}")
        with place as directory, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT_SECONDS)
            client.connect(f"/proc/self/fd/{directory}/worker.{worker}")
            answer: dict[str, Any] = json.loads(b"".join(iter(lambda: client.recv(65536), b"")))
        assert answer["pid"] == worker
        return answer

    def assert_serves(self, release: str | int) -> dict[str, Any]:
        """The unit is active, and a worker of this release, the only one, answers."""
        shown = self.show("ActiveState", "SubState")
        assert (shown["ActiveState"], shown["SubState"]) == ("active", "running")
        answer = self.ask()
        assert answer["release"] == str(release)
        return answer

    def environment_of(self, pid: int) -> Mapping[str, str]:
        """A process's environment as it was executed with (a forked worker: as its supervisor was)."""
        pairs = self.machine.read(f"/proc/{pid}/environ").split("\0")
        return dict(pair.split("=", 1) for pair in pairs if pair)

    def follow(self, *, timeout_seconds: float = LIMIT_SECONDS) -> JournalFollower:
        """The unit's journal from here on."""
        return self.machine.follow_journal(None, *self._matches, timeout_seconds=timeout_seconds)

    def story(self, *, after: str | None = None) -> Story:
        """What was logged of and by the unit, from its beginning or behind a cursor."""
        return Story(self.machine.journal(None, *self._matches, after=after or self.began))

    @property
    def _matches(self) -> list[str]:
        # journald asks /proc for the unit of a line's writer. One that is dead by then (PID 1 at level debug keeps
        # journald busy) is known by its name alone.
        units = [f"_SYSTEMD_UNIT={self.unit}", "+", f"UNIT={self.unit}"]
        return [*units, "+", "SYSLOG_IDENTIFIER=Trial", "+", "SYSLOG_IDENTIFIER=sdsupervise"]

    # FIFOs and breakpoints

    def fifo(self, name: str) -> Fifo:
        """A FIFO that the service finds under its `path`."""
        fifo = Fifo(self.machine, f"{self.name}.{name}")
        self._undo.callback(fifo.close)
        return fifo

    def gate(self) -> Gate:
        """A place for one breakpoint to hold a supervisor at."""
        gate = Gate(self.machine, f"{self.name}.gate")
        self._undo.callback(gate.close)
        return gate

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a process of the machine."""
        self.machine.kill(pid, number)

    # The end

    def assert_gone(self) -> None:
        """The unit is down as asked, and nothing of it is left."""
        shown = self.show("ActiveState", "SubState", "Result")
        assert shown == {"ActiveState": "inactive", "SubState": "dead", "Result": "success"}
        assert self.processes == []

    def close(self) -> None:
        """Stop it if need be, and look its story over."""
        self._undo.close()
        self.systemctl("stop")
        if self.ends_failed:
            self.systemctl("reset-failed", check=False)
            assert self.processes == []
        else:
            self.assert_gone()
        story = self.story()
        assert story.complaints() == []
        assert story.strangers() == [] or self.main_pid_is_doubtful


def wait_for_all(journal: JournalFollower, *texts: str) -> None:
    """Wait for each of these, in whatever order: only lines of one process are sure to come in theirs."""
    missing = set(texts)

    def was_last(entry: Entry) -> bool:
        missing.difference_update([text for text in missing if text in entry["MESSAGE"]])
        return not missing

    journal.wait_for(was_last)
