"""One instance of the shipped template: its files, its processes, and what an operator does to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sdsupervise.control.client import Client as Caller
from tests.chaos.kill.hub import Broken

HERE = Path(__file__).parent
TEMPLATE = "sdsupervise@.service"  # beside us, where this runs
PLACE = Path("/run/soak")
DISK_BYTES = 512 * 1024
KEPT_RELEASES = 8  # so many are not refused one after the other: the one that serves is still there
COMMAND_SECONDS = 60.0  # for a systemctl; far more than systemd gives any job of ours
WATCHDOG_SECONDS = 4
DROP_IN = f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
RestartSec=50ms
TimeoutStartSec=30
TimeoutStopSec=12
TimeoutAbortSec=1
WatchdogSec={WATCHDOG_SECONDS}
LimitCORE=0
Environment=SOAK_CLOCK={PLACE}/%i/clock PYTHONPATH={HERE / "injected"}
"""
# Generous: with all that goes on beside it, a process of a healthy service may have to wait for its turn.
SETTINGS: Mapping[str, object] = {
    "delay_before_respawn": 0.05,
    "respawn_backoff_limit": 0.2,
    "start_timeout": 6.0,
    "worker_timeout": 3.0,
    "reload_timeout": 6.0,
    "takeover_timeout": 3.0,
    "before_commit_timeout": 5.0,
    "barrier_timeout": 5.0,
}


class Release(NamedTuple):
    """A version of the service's code, and the settings that are deployed with it."""

    kind: str  # "good", or how it is broken while it is not cured: "import", "start", "serve", "never", "check"
    handover: str
    seconds: float  # for its warm-up
    settings: Mapping[str, object]


class Process(NamedTuple):
    """One of the unit's."""

    pid: int
    parent: int
    began: int  # in clock ticks; who began later is younger
    role: str  # "supervisor", "shim", "worker" (or spare), "reload" (ExecReload=), "other"
    supervisor: int  # whose it is; its own pid if it is one

    @property
    def age(self) -> float:
        """In seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.began / os.sysconf("SC_CLK_TCK")


def install() -> None:
    """The template, and what is shorter here than for real services; once per machine."""
    units = Path("/run/systemd/system")
    shutil.copy(HERE / TEMPLATE, units)
    (units / "sdsupervise@.service.d").mkdir(exist_ok=True)
    (units / "sdsupervise@.service.d/soak.conf").write_text(DROP_IN)
    PLACE.mkdir(exist_ok=True)
    systemctl("daemon-reload")


def systemctl(*words: str, check: bool = True) -> str:
    """What it prints. Raises Broken if it fails, or does not end."""
    try:
        done = subprocess.run(
            ["/usr/bin/systemctl", *words], check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Broken(f"systemctl {' '.join(words)} did not end in {COMMAND_SECONDS:g} s.") from None
    if check and done.returncode != 0:
        raise Broken(f"systemctl {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


class Instance:
    """A service on two small disks of its own, one for its code and one for its run directory."""

    created = 0

    def __init__(self, kind: str) -> None:
        Instance.created += 1
        self.kind = kind  # "class"; "command"; "waiting", a command that calls `sdsupervise ready`
        self.name = f"soak{os.getpid()}-{Instance.created}"
        self.unit = f"sdsupervise@{self.name}.service"
        self.port = 10000 + os.getpid() % 50000  # of one runner only one instance at a time
        self.place = PLACE / self.name
        self.run_directory = Path("/run/sdsupervise", self.name)
        self.cgroup = Path("/sys/fs/cgroup/system.slice/system-sdsupervise.slice", self.unit)
        self.number = 0
        self._file = Path("/etc/sdsupervise", f"{self.name}.toml")
        (self.place / "active").mkdir(parents=True)
        for disk in self.disks:
            disk.mkdir(parents=True)
            size = f"size={DISK_BYTES},mode=755"
            subprocess.run(["/usr/bin/mount", "-t", "tmpfs", "-o", size, "soak", disk], check=True)

    @property
    def disks(self) -> tuple[Path, Path]:
        return self.place / "disk", self.run_directory

    # Files

    def deploy(self, release: Release) -> int:
        """Install a release and swap the symlink to it; its number."""
        self.number += 1
        top = self.disks[0]
        directory = top / str(self.number)
        directory.mkdir()
        for file in (HERE / "service.py", HERE.parent / "kill/marks.py"):
            shutil.copy(file, directory)
        facts = {
            "release": self.number,
            "place": str(self.place),
            "breaks": release.kind,
            "handover": release.handover,
            "seconds": release.seconds,
            "waits": self.kind == "waiting",
        }
        (directory / "facts.json").write_text(json.dumps(facts))
        (self.place / "broken").touch()
        settings = {**SETTINGS, **release.settings, "handover": release.handover, "directory": str(top / "current")}
        if self.kind == "class":
            settings["service"] = "service.py:Soak"
        else:
            settings["command"] = ["/usr/bin/python3", "service.py"]
        if self.kind == "waiting":
            settings["waits_for_release"] = True
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]  # which is TOML, for these
        self._file.parent.mkdir(exist_ok=True)
        self._file.write_text("\n".join([*lines, f'listen.http = "127.0.0.1:{self.port}"', ""]))
        (top / "fresh").symlink_to(str(self.number))
        (top / "fresh").rename(top / "current")
        shutil.rmtree(top / str(self.number - KEPT_RELEASES), ignore_errors=True)
        return self.number

    def cure(self) -> None:
        """Code that was broken is broken no more."""
        (self.place / "broken").unlink(missing_ok=True)

    def set_clock(self, seconds: float) -> None:
        """Its Python programs believe to be so many seconds ahead."""
        (self.place / "new-clock").write_text(str(seconds))
        (self.place / "new-clock").rename(self.place / "clock")

    @property
    def violations(self) -> list[str]:
        """What workers have said that found another one at work."""
        with contextlib.suppress(FileNotFoundError):
            return (self.place / "violations").read_text().splitlines()
        return []

    # What an operator does

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """`systemctl WORDS UNIT`, running."""
        return subprocess.Popen(
            ["/usr/bin/systemctl", *words, self.unit],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def show(self) -> dict[str, str]:
        """How systemd sees it."""
        names = "ActiveState,SubState,MainPID,Job,NRestarts,Result,ExecMainStatus,NFileDescriptorStore"
        lines = systemctl("show", f"--property={names}", self.unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def status(self) -> Mapping[str, Any]:
        """The supervisor's answer to Status. Raises SdsuperviseError where there is none."""
        caller = Caller.connect(str(self.run_directory / "control"), timeout_seconds=2)
        try:
            return caller.ask("Status").parameters
        finally:
            caller.close()

    # Processes

    def processes(self) -> list[Process]:
        """All of the unit's that live, the oldest first."""
        try:
            pids = [int(word) for word in (self.cgroup / "cgroup.procs").read_text().split()]
        except OSError:  # the unit is down
            return []
        stats = {pid: stat for pid in pids if (stat := _stat(pid)) is not None}
        tops = {pid: _top(pid, stats) for pid in stats}
        reloads = {pid for pid in set(tops.values()) if re.search(rb"[ \0]reload\0", _command_line(pid))}
        found = []
        for pid, (parent, began) in stats.items():
            top = tops[pid]
            if top in reloads:
                role = "reload" if pid == top else "other"
            elif pid == top:
                role = "supervisor"
            elif self.kind != "class" and parent == top and any(other == pid for other, _ in stats.values()):
                role = "shim"
            else:
                role = "worker"
            found.append(Process(pid, parent, began, role, top))
        return sorted(found, key=lambda process: (process.began, process.pid))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing of it runs."""
        with contextlib.suppress(OSError):
            (self.cgroup / "cgroup.freeze").write_text("1")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (self.cgroup / "cgroup.freeze").write_text("0")

    def last_words(self) -> list[str]:
        """What its supervisors and systemd have said, and what systemd is at."""
        found = []
        for command in (
            ("journalctl", "--quiet", "--lines=150", "--output=short-monotonic", f"--unit={self.unit}"),
            ("systemctl", "list-jobs", "--no-pager"),
            ("systemctl", "status", "--no-pager", "--lines=0", "systemd-journald.service", self.unit),
            ("journalctl", "--quiet", "--lines=40", "--output=short-monotonic", "_PID=1"),
            ("ps", "-axo", "pid,ppid,stat,wchan:20,args"),
        ):
            with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
                found += [f"$ {' '.join(command)}", *done.stdout.splitlines()]
        return found

    def destroy(self) -> None:
        """Take everything away, whatever state it is in."""
        systemctl("kill", "--signal=KILL", self.unit, check=False)
        systemctl("stop", self.unit, check=False)
        systemctl("reset-failed", self.unit, check=False)
        for disk in self.disks:
            subprocess.run(["/usr/bin/umount", "--lazy", disk], check=False)
        self._file.unlink(missing_ok=True)
        shutil.rmtree(self.place, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.run_directory.rmdir()


def end_of(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether it ends in that time."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    return False


def send(pid: int, number: signal.Signals, cgroup: Path) -> bool:
    """Signal a process, if it is still one of the unit's."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if str(pid) not in (cgroup / "cgroup.procs").read_text().split():
            return False
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def _stat(pid: int) -> tuple[int, int] | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[1]), int(fields[19]))


def _top(pid: int, stats: Mapping[int, tuple[int, int]]) -> int:
    while stats[pid][0] in stats:
        pid = stats[pid][0]
    return pid


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
