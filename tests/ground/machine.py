"""A throw-away Debian machine with a real systemd as its PID 1, up in about half a second.

    with Machine() as machine:
        machine.write("/etc/systemd/system/x.service", "[Service]\nExecStart=/bin/true\n")
        machine.run("systemctl", "start", "x")

It is a systemd-nspawn container over a cached read-only root: whatever is done in it is gone afterwards. The
product in it is the installed wheel. No step waits without a deadline, and none waits by sleeping.

What it cannot do: its cgroup controllers may be absent (MemoryMax= and the like have no effect where the host
uses cgroup version 1), and it has no network but its own loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.ground.debian_root import RootUnavailable, debian_root
from tests.ground.guardian import ENTER_CGROUP, TEARDOWN_LIMIT_SECONDS, Settings, tail
from tests.ground.inside import Inside, Process
from tests.ground.journal import Entry, JournalFollower, entry_from_json

SUITE = os.environ.get("SUITE", "bookworm")

BOOT_LIMIT_SECONDS = 60.0
RUN_LIMIT_SECONDS = 60.0

# Nothing of ours: a pyenv on our PATH or our LANG is not there inside.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}


class MachineError(Exception):
    """Something on the ground failed, not in the product; the message quotes what is known."""


class MachineUnavailable(MachineError):
    """No machine can be booted here; the message is one sentence on why and what to do."""


class CommandFailed(MachineError):
    """A command in the machine ended with another status than 0."""

    def __init__(self, command: tuple[str, ...], done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(
            f"{' '.join(command)} ended with status {done.returncode}\n{done.stdout}{done.stderr}"
        )
        self.done = done


def installed_product() -> list[str]:
    """The directories that the wheel put beside this Python: the package, and what describes it."""
    site_packages = Path(sysconfig.get_path("purelib"))
    package = site_packages / "sdsupervise"
    if not package.is_dir():
        raise MachineUnavailable(
            f"sdsupervise is not installed in {site_packages}; run packaging/provision first."
        )
    return [str(package), *map(str, site_packages.glob("sdsupervise-*.dist-info"))]


class Machine:
    """One booted machine; a context manager. Several may run at the same time."""

    def __init__(
        self,
        suite: str = SUITE,
        *,
        with_product: bool = True,
        boot_limit_seconds: float = BOOT_LIMIT_SECONDS,
    ) -> None:
        self.suite = suite
        self.with_product = with_product
        self.boot_limit_seconds = boot_limit_seconds
        self.cleanup = contextlib.ExitStack()

    def __enter__(self) -> Machine:
        with contextlib.ExitStack() as undo:
            self.boot(undo)
            self.cleanup = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the machine away, with all that ran in it; on return nothing is left of it."""
        self.cleanup.close()

    def boot(self, undo: contextlib.ExitStack) -> None:
        if os.geteuid() != 0 or shutil.which("systemd-nspawn", path="/usr/bin") is None:
            raise MachineUnavailable(
                "Booting a systemd needs root and systemd-nspawn: run packaging/provision as root, "
                "or set SYSTEMD=no to leave out what needs it."
            )
        try:
            root = debian_root(self.suite)
        except RootUnavailable as error:
            raise MachineUnavailable(str(error)) from error
        settings = Settings(
            str(root), installed_product() if self.with_product else [], self.boot_limit_seconds
        )
        guardian = subprocess.Popen(
            [
                sys.executable,
                "-IS",
                str(Path(__file__).with_name("guardian.py")),
                json.dumps(settings._asdict()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # what is behind its first line is for us to poll
            start_new_session=True,  # a Ctrl-C is for us; the guardian learns of our end by its standard input's
        )
        undo.callback(dismiss, guardian)
        assert guardian.stdout is not None
        place = hear(guardian, self.boot_limit_seconds + TEARDOWN_LIMIT_SECONDS * 3)
        if "error" in place:
            raise MachineError(f"The Debian {self.suite} machine did not boot: {place['error']}")
        self.leader = int(place["leader"])
        """The machine's PID 1 as numbered out here."""
        self.bell = guardian.stdout.fileno()
        os.set_blocking(self.bell, False)
        """Becomes readable when journald gets a message; see JournalFollower."""
        self.name = str(place["name"])
        self.directory = Path(str(place["directory"]))
        self.cgroup = Path(str(place["cgroup"]))
        self.exchange = self.directory / "exchange"
        """A directory that both sides can write to; the machine sees it as /exchange."""
        self.inside = Inside(self.leader, self.cgroup)
        undo.callback(self.inside.close)
        manager = (
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
        )
        self.systemd_version = self.run("busctl", "get-property", *manager, "Version").stdout.split('"')[1]
        """What the running PID 1 says it is, like `252.39-1~deb12u1`."""

    @property
    def console(self) -> str:
        """The last lines the machine printed on its console."""
        return tail(self.directory / "console")

    # Running commands

    def popen(
        self,
        *command: str,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command as root in the machine. Killing what is returned kills the command."""
        return subprocess.Popen(
            [
                # A cgroup outside of what the machine's systemd manages: to it, a visitor belongs to no unit.
                *("/bin/sh", "-c", ENTER_CGROUP, str(self.cgroup / "visitors")),
                *("/usr/bin/nsenter", f"--target={self.leader}"),
                *("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"),
                # nsenter forks and would leave the command behind when killed.
                *("/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *command),
            ],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**ENVIRONMENT, **(env or {})},
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        *command: str,
        check: bool = True,
        timeout: float = RUN_LIMIT_SECONDS,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in the machine and wait for it; CommandFailed quotes its output."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        with self.popen(*command, stdin=stdin, env=env) as process:
            try:
                stdout, stderr = process.communicate(input, timeout=timeout)
            except subprocess.TimeoutExpired as error:
                raise MachineError(
                    f"{' '.join(command)} did not end in {timeout:g} s; the console said:\n{self.console}"
                ) from error
            finally:
                process.kill()
        done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
        if check and done.returncode != 0:
            raise CommandFailed(command, done)
        return done

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """These properties of a unit, or all."""
        choice = [f"--property={','.join(properties)}"] if properties else []
        output = self.run("systemctl", "show", *choice, "--", unit).stdout
        return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)

    # The journal

    def journal(self, unit: str | None = None, *matches: str, after: str | None = None) -> list[Entry]:
        """What is in the journal: of this unit, with these FIELD=value matches, behind this cursor."""
        self.run("journalctl", "--sync")
        output = self.run(
            "journalctl", "--output=json", "--all", *journal_choice(unit, matches, after)
        ).stdout
        return [entry_from_json(line) for line in output.splitlines()]

    def journal_cursor(self) -> str:
        """The journal's present end, for `after=`."""
        last = self.run("journalctl", "--output=json", "--lines=1", "--quiet").stdout
        return entry_from_json(last)["__CURSOR"]

    def follow_journal(
        self, unit: str | None = None, *matches: str, after: str | None = None, timeout_seconds: float = 20
    ) -> JournalFollower:
        """Follow the journal from now on (or behind a cursor); call it before doing what is to be seen there."""
        if after is None:
            self.run("journalctl", "--sync")  # what was said before must not come as news
        return JournalFollower(
            lambda cursor: self.journal(unit, *matches, after=cursor),
            after or self.journal_cursor(),
            self.bell,
            timeout_seconds,
            f"journal of {unit or self.name} {' '.join(matches)}".rstrip(),
        )

    # Files: paths are the machine's

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """Replace a file's content in one step; missing parents are made."""
        self.inside.write(path, content.encode() if isinstance(content, str) else content, mode)

    def read(self, path: str) -> str:
        return self.inside.read(path).decode(errors="surrogateescape")

    def symlink(self, target: str, path: str) -> None:
        """Make a link, or swap an existing one in one step, as a deployment does."""
        self.inside.symlink(target, path)

    def readlink(self, path: str) -> str:
        """Where a link points; /proc/PID/cwd works too."""
        return self.inside.readlink(path)

    def exists(self, path: str) -> bool:
        return self.inside.exists(path)

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a whole directory."""
        self.inside.remove(path)

    # Processes: pids are the machine's

    def processes(self, unit: str | None = None) -> list[Process]:
        """Every process of the machine, or of one unit, by pid; zombies too."""
        everything = self.inside.processes()
        return sorted(process for process in everything if unit is None or process.unit == unit)

    def kill(self, pid: int, number: signal.Signals) -> None:
        """Send a signal as the machine's kernel would; ProcessLookupError when there is no such process."""
        try:
            self.inside.send_signal(pid, number)
        except FileNotFoundError as error:
            raise ProcessLookupError(f"There is no process {pid} in {self.name}.") from error

    def wait_until_gone(self, pid: int, *, timeout_seconds: float) -> None:
        """Wait until this process has ended; at once when it is not there."""
        pidfd = self.inside.open_pidfd(pid)
        if pidfd is None:
            return
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            if not poller.poll(timeout_seconds * 1000):
                raise MachineError(
                    f"Process {pid} of {self.name} is still there after {timeout_seconds:g} s."
                )
        finally:
            os.close(pidfd)


def journal_choice(unit: str | None, matches: tuple[str, ...], after: str | None) -> list[str]:
    unit_choice = [f"--unit={unit}"] if unit else []
    cursor_choice = [f"--after-cursor={after}"] if after else []
    return [*unit_choice, *cursor_choice, *matches]


def hear(guardian: subprocess.Popen[bytes], timeout_seconds: float) -> dict[str, str | int]:
    """The guardian's one line."""
    assert guardian.stdout is not None
    deadline = time.monotonic() + timeout_seconds
    if not select.select([guardian.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
        raise MachineError(
            f"The machine's guardian (pid {guardian.pid}) said nothing for {timeout_seconds:g} s."
        )
    line = guardian.stdout.readline()
    if not line:
        raise MachineError(f"The machine's guardian ended without a word, with status {guardian.wait()}.")
    answer: dict[str, str | int] = json.loads(line)
    return answer


def dismiss(guardian: subprocess.Popen[bytes]) -> None:
    """Tell the guardian to take the machine away, and wait until it has."""
    assert guardian.stdin is not None
    assert guardian.stdout is not None
    guardian.stdin.close()
    guardian.stdout.close()
    try:
        guardian.wait(TEARDOWN_LIMIT_SECONDS * 3)
    except subprocess.TimeoutExpired as error:
        guardian.kill()
        guardian.wait()
        raise MachineError("A machine could not be taken away in time; its remains have its name.") from error
