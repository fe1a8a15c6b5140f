"""One service on the ground: as plain processes of ours, or as a unit of the systemd that runs here.

Both are started, asked to reload, told to stop and looked at as an operator would: by command, signal and pid file.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.chaos.kill.hub import Broken, Hub
from tests.support import breakpoints

PROBE = Path(__file__).with_name("probe.py")
PR_SET_CHILD_SUBREAPER = 36

SETTINGS: Mapping[str, object] = {
    "delay_before_respawn": 0.0,
    "respawn_backoff_limit": 0.0,
    "start_timeout": 1.5,
    "worker_timeout": 0.8,
    "stop_timeout": 0.8,
    "reload_timeout": 4.0,
    "takeover_timeout": 0.8,
    "before_commit_timeout": 1.0,
    "barrier_timeout": 0.8,
}

NO_SETTINGS: Mapping[str, object] = {}

UNIT = """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/python3 /run/kill/%i/current/service.py
ExecReload=/usr/bin/sdsupervise reload
{breakpoint}
KillMode=mixed
Restart=always
RestartSec=0
TimeoutStartSec=30
TimeoutStopSec=6
TimeoutAbortSec=1
# A supervisor that a case holds at a breakpoint hangs as far as systemd can see; no case holds one for so long.
WatchdogSec=6
LimitCORE=0
OOMPolicy=continue
RuntimeDirectory=sdsupervise/%i
RuntimeDirectoryPreserve=restart
FileDescriptorStoreMax=16
"""


class Release(NamedTuple):
    """A version of the service's code."""

    # Where it breaks while the file `broken` is there: "import", "start", "serve". Or else what it does: "promise": it
    # works unasked; "early": it only says twice that it is ready.
    breaks: str = ""
    settings: Mapping[str, object] = {}


class Instance(ABC):
    """One service with its directory and its hub. The settings go for each of its releases that says nothing else."""

    systemd: bool
    pid_file: Path
    created = 0

    def __init__(self, directory: Path, settings: Mapping[str, object]) -> None:
        self.directory = directory
        self._settings = {**SETTINGS, **settings}
        Instance.created += 1
        pid = os.getpid()
        self.listen = {
            "http": f"127.{pid >> 7 & 127 | 64}.{pid & 127}.{Instance.created}:9000",
            "file": str(directory / "app.sock"),
        }
        self._listening: set[int] = set()  # releases
        self._overlapping: set[int] = set()
        self._breaking: set[int] = set()
        (directory / "active").mkdir()
        self.hub = Hub(directory / "hub")
        self.number = 0  # of the release that is deployed
        self.told_to_stop = 0  # the supervisor that was sent SIGTERM, as an operator would; none under systemd

    def deploy(self, release: Release) -> int:
        """Install a release and swap the symlink to it; its number."""
        self.number += 1
        place = self.directory / "releases" / str(self.number)
        place.mkdir(parents=True)
        shutil.copyfile(PROBE, place / "service.py")
        shutil.copy(PROBE.with_name("marks.py"), place)
        settings = {**self._settings, **release.settings}
        if settings.get("handover") == "overlap":
            self._overlapping.add(self.number)
            if settings.get("before_commit"):
                settings["listen"] = self.listen
        if "listen" in settings:
            self._listening.add(self.number)
        if release.breaks:
            self._breaking.add(self.number)
        facts = {"number": self.number, "breaks": release.breaks, "settings": settings}
        (place / "release.json").write_text(json.dumps(facts))
        (self.directory / "broken").touch()
        fresh = self.directory / "fresh"
        fresh.symlink_to(place)
        fresh.rename(self.directory / "current")
        self.hub.tell(f"release {self.number} is deployed{f', it breaks: {release.breaks}' * bool(release.breaks)}")
        return self.number

    def overlaps(self, *releases: int) -> bool:
        """All of these releases are for overlap."""
        return self._overlapping.issuperset(releases)

    def breaks(self, release: int) -> bool:
        """Its workers may die of their own code."""
        return release in self._breaking

    def answers(self) -> list[str]:
        """Of whom a client meets at each listener: the numbers of releases, or why nobody is met."""
        return [_ask(place) for place in self.listen.values()]

    def listens(self, release: int) -> bool:
        """It has listeners."""
        return release in self._listening

    def cure(self) -> None:
        """Code that broke at its start breaks no more."""
        (self.directory / "broken").unlink(missing_ok=True)

    def write(self, line: str) -> None:
        """A line of ours among the workers' own."""
        with (self.directory / "log").open("a") as log:
            log.write(line + "\n")

    def log(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self.directory / "log").read_text().splitlines()
        return []

    def close(self) -> None:
        """Take everything away, whatever state it is in."""
        self.destroy()
        self.hub.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @abstractmethod
    def start(self) -> int | None:
        """Begin to start it; the pid of the command that ends when it is started, if there is one."""

    @abstractmethod
    def reload(self) -> int:
        """Begin to ask for a reload; the pid of the caller, a child of ours."""

    @abstractmethod
    def ask_stop(self) -> int | None:
        """Begin to stop it as an operator would; the pid of the command that does it, if there is one."""

    def named_pid(self) -> int:
        """The supervisor that the pid file names; 0 for none, and under systemd, where nobody looks there."""
        return 0

    @abstractmethod
    def left(self, *, tidy: bool = False) -> list[str]:
        """What is there of it, in words, once it has ended; where it had the time to tidy up, not only processes."""

    @abstractmethod
    def is_gone(self) -> bool:
        """No process is left, and none will come."""

    @abstractmethod
    def check(self, supervisor_pid: int, restarts_expected: bool) -> None:
        """While this one serves: raise Broken where something beside it is not as it should be."""

    @abstractmethod
    def last_words(self) -> str:
        """What its supervisors wrote."""

    @abstractmethod
    def destroy(self) -> None:
        """Kill everything that is left."""


class Plain(Instance):
    """Without systemd. This process is the init of the service: what it forks away ends up as our child."""

    systemd = False

    def __init__(self, settings: Mapping[str, object] = NO_SETTINGS, *, notify: bool = False) -> None:
        _become_init()
        directory = Path(tempfile.mkdtemp(prefix="kill-"))
        super().__init__(directory, settings)
        self.pid_file = directory / "probe.pid"
        self._output = (directory / "output").open("ab")
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            **breakpoints.environment(str(directory / "hub")),
        }
        self._pid1 = MutePid1(directory / "notify", self.hub) if notify else None
        if notify:
            self._environment["NOTIFY_SOCKET"] = str(directory / "notify")

    def start(self) -> None:
        script = str(self.directory / "current" / "service.py")
        self._spawn([sys.executable, script, "--no-fork", "--pid-file", str(self.pid_file)])

    def reload(self) -> int:
        return self._spawn([_command("sdsupervise"), "reload", "--pid-file", str(self.pid_file)])

    def named_pid(self) -> int:
        text = self.pid_file.read_text()
        return int(text.partition("\n")[0]) if text[:1].isdigit() else 0

    def ask_stop(self) -> None:
        pid = self.told_to_stop = self.named_pid()
        if pid <= 1:
            raise Broken(f"The pid file says {self.pid_file.read_text()!r}.")
        self.hub.tell(f"SIGTERM to {pid}, as the pid file names it")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    def is_gone(self) -> bool:
        self.hub.reap()
        return self.hub.childless

    def left(self, *, tidy: bool = False) -> list[str]:
        found = [_describe(pid) for pid in _children()]
        control = self.pid_file.with_suffix(".control")
        return found + ([str(control)] if tidy and control.exists() else [])

    def check(self, supervisor_pid: int, restarts_expected: bool) -> None:
        named = self.pid_file.read_text().strip()
        if named != str(supervisor_pid):
            raise Broken(f"The pid file names {named}, but it is {supervisor_pid} who serves.")

    def last_words(self) -> str:
        return (self.directory / "output").read_text(errors="replace")

    def destroy(self) -> None:
        # Each that dies may leave its own children to us.
        while not self.is_gone():
            for pid in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        self._output.close()
        if self._pid1 is not None:
            self._pid1.close()

    def _spawn(self, argv: list[str]) -> int:
        # Not subprocess: it would wait for its children itself, and all waiting is the hub's.
        output = self._output.fileno()
        return os.posix_spawn(
            argv[0],
            argv,
            self._environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGCHLD, signal.SIGPIPE],
        )


class MutePid1:
    """A pid 1 that takes every notification and answers no barrier."""

    def __init__(self, path: Path, hub: Hub) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._barriers: list[int] = []
        self._hub = hub
        hub.watch(self._socket.fileno(), self._take)

    def _take(self) -> None:
        data, fds, _, _ = socket.recv_fds(self._socket, 4096, 16)
        self._barriers += fds
        self._hub.tell(f"pid 1 hears {data.decode(errors='replace')!r}")

    def close(self) -> None:
        self._hub.unwatch(self._socket.fileno())
        self._socket.close()
        for fd in self._barriers:
            os.close(fd)


class Unit(Instance):
    """A unit of the systemd that is PID 1 here. Each is another instance of one template, `kill@.service`."""

    systemd = True

    def __init__(self, settings: Mapping[str, object] = NO_SETTINGS) -> None:
        self.name = f"{os.getpid()}-{Instance.created}"
        self.unit = f"kill@{self.name}.service"
        directory = Path("/run/kill", self.name)
        directory.mkdir(parents=True)
        super().__init__(directory, settings)
        self.pid_file = Path("/run/sdsupervise", self.name, "Probe.pid")

    @staticmethod
    def install() -> None:
        """The template, once per machine."""
        text = UNIT.format(breakpoint=breakpoints.setting("/run/kill/%i/hub"))
        Path("/run/systemd/system/kill@.service").write_text(text)
        _systemctl("daemon-reload")

    def start(self) -> int:
        return self._begin("start")

    def reload(self) -> int:
        return self._begin("reload")

    def ask_stop(self) -> int:
        return self._begin("stop")

    def _begin(self, verb: str) -> int:
        self.hub.tell(f"systemctl {verb}")
        argv = ["/usr/bin/systemctl", verb, self.unit]
        actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        return os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)

    def is_gone(self) -> bool:
        return not self._pids() and not self.left()

    def left(self, *, tidy: bool = False) -> list[str]:
        shown, pids = self.show("ActiveState", "Result"), self._pids()
        ended = ("inactive",) if tidy else ("inactive", "failed")
        state = [] if shown["ActiveState"] in ended else [str(shown)]
        return state + [_describe(int(pid)) for pid in pids]

    def _pids(self) -> list[str]:
        cgroup = Path(f"/sys/fs/cgroup/system.slice/system-kill.slice/{self.unit}/cgroup.procs")
        return cgroup.read_text().split() if cgroup.exists() else []

    def show(self, *properties: str) -> dict[str, str]:
        output = _systemctl("show", f"--property={','.join(properties)}", self.unit)
        return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)

    def check(self, supervisor_pid: int, restarts_expected: bool) -> None:
        shown = self.show("ActiveState", "SubState", "MainPID", "NRestarts", "StatusText")
        if (shown["ActiveState"], shown["SubState"]) != ("active", "running"):
            raise Broken(f"Supervisor {supervisor_pid} serves, but the unit is {shown}.")
        if shown["MainPID"] != str(supervisor_pid):
            raise Broken(f"systemd's main pid is {shown['MainPID']}, but it is {supervisor_pid} who serves.")
        if shown["NRestarts"] != "0" and not restarts_expected:
            raise Broken(f"The unit was restarted, although no supervisor was harmed: {shown}.")

    def last_words(self) -> str:
        command = ["/usr/bin/journalctl", "--sync", f"--unit={self.unit}", "--output=short-monotonic", "--no-pager"]
        subprocess.run(["/usr/bin/journalctl", "--sync"], check=False, capture_output=True)
        command.remove("--sync")
        journal = subprocess.run(command, check=False, capture_output=True, text=True).stdout
        status = ["/usr/bin/systemctl", "status", "--no-pager", "--lines=0", self.unit]
        return subprocess.run(status, check=False, capture_output=True, text=True).stdout + journal

    def destroy(self) -> None:
        subprocess.run(["/usr/bin/systemctl", "kill", "--signal=KILL", self.unit], check=False, capture_output=True)
        subprocess.run(["/usr/bin/systemctl", "stop", self.unit], check=False, capture_output=True)
        subprocess.run(["/usr/bin/systemctl", "reset-failed", self.unit], check=False, capture_output=True)


def _ask(place: str) -> str:
    host, _, port = place.rpartition(":")
    with socket.socket(socket.AF_INET if host else socket.AF_UNIX) as client:
        client.settimeout(5.0)
        try:
            client.connect((host, int(port)) if host else place)
            return client.recv(100).decode()
        except OSError as error:
            return f"nobody ({error})"


def _systemctl(*arguments: str) -> str:
    done = subprocess.run(["/usr/bin/systemctl", *arguments], check=False, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Broken(f"systemctl {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def _command(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _become_init() -> None:
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("This process cannot become a subreaper.")


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]


def _describe(pid: int) -> str:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return f"process {pid} ({state}) {command}"
    return f"process {pid}"
