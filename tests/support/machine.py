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
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.support.guarded import BOOT_LIMIT_SECONDS, MachineError, guarded_machine
from tests.support.guardian import ENTER_CGROUP, tail
from tests.support.inside import Inside, Process
from tests.support.journal import Entry, JournalFollower, entry_from_json

SUITE = os.environ.get("SUITE", "bookworm")

RUN_LIMIT_SECONDS = 60.0

cpu_seconds_of_machines: list[float] = []
"""What each machine of this process has used, once it is gone."""

# Nothing of ours: a pyenv on our PATH or our LANG is not there inside.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}


class CommandFailed(MachineError):
    """A command in the machine ended with another status than 0."""

    def __init__(self, command: tuple[str, ...], done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"{' '.join(command)} ended with status {done.returncode}\n{done.stdout}{done.stderr}")
        self.done = done


class Visitor(subprocess.Popen[str]):
    """A running command of `Machine.popen`."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the command; Popen would wait for it, and that without an end when the body has failed."""
        self.kill()
        super().__exit__(kind, error, trace)


class Machine:
    """One booted machine; a context manager. Several may run at the same time."""

    def __init__(
        self,
        suite: str = SUITE,
        *,
        with_product: bool = True,
        bare: bool = False,
        more: Sequence[str] = (),
        shown: Mapping[str, Path] | None = None,
        boot_limit_seconds: float = BOOT_LIMIT_SECONDS,
    ) -> None:
        self.suite = suite
        self.with_product = with_product and not bare
        self.bare = bare
        """It is a Debian on which nothing we need is installed, as whoever installs a package has it."""
        self.more = more
        """Packages that are installed beside those that each machine has."""
        self.shown = shown or {}
        """Directories out here that it sees, by their paths in there."""
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

    def note_cpu_seconds(self) -> None:
        """Add what the machine has used to `cpu_seconds_of_machines`; visitors are this process's own children."""
        with contextlib.suppress(OSError):  # somebody has taken it away
            used = _cpu_seconds(self.cgroup) - _cpu_seconds(self.cgroup / "visitors")
            cpu_seconds_of_machines.append(used)

    def boot(self, undo: contextlib.ExitStack) -> None:
        limit_seconds = self.boot_limit_seconds
        place = undo.enter_context(
            guarded_machine(self.suite, self.with_product, self.shown, limit_seconds, bare=self.bare, more=self.more)
        )
        self.leader = place.leader
        """The machine's PID 1 as numbered out here."""
        self.name = place.name
        self.directory = place.directory
        self.cgroup = place.cgroup
        self.bell = place.bell
        self.exchange = self.directory / "exchange"
        """A directory that both sides can write to; the machine sees it as /exchange."""
        self.inside = Inside(self.leader)
        undo.callback(self.inside.close)
        undo.callback(self.note_cpu_seconds)
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
    ) -> Visitor:
        """Start a command as root in the machine; killing the visitor or leaving its `with` kills it."""
        return Visitor(
            [
                # A cgroup outside of what the machine's systemd manages: to it, a visitor belongs to no unit.
                *("/bin/sh", "-c", ENTER_CGROUP, str(self.cgroup / "visitors")),
                *("/usr/bin/nsenter", f"--target={self.leader}"),
                *("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"),
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
        output = self.run("journalctl", "--output=json", "--all", *journal_choice(unit, matches, after)).stdout
        entries = [entry_from_json(line) for line in output.splitlines()]
        return [entry for entry in entries if entry["__CURSOR"] != after]

    def journal_cursor(self) -> str:
        """The journal's present end, for `after=`."""
        last = self.run("journalctl", "--output=json", "--lines=1", "--quiet").stdout
        return entry_from_json(last)["__CURSOR"]

    def follow_journal(
        self, unit: str | None = None, *matches: str, after: str | None = None, timeout_seconds: float = 20
    ) -> JournalFollower:
        """Follow the journal from now on, or behind a cursor; to be called before what is to be seen."""
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
                raise MachineError(f"Process {pid} of {self.name} is still there after {timeout_seconds:g} s.")
        finally:
            os.close(pidfd)


def _cpu_seconds(cgroup: Path) -> float:
    usage, microseconds = (cgroup / "cpu.stat").read_text().splitlines()[0].split()
    assert usage == "usage_usec"
    return int(microseconds) / 1e6


def journal_choice(unit: str | None, matches: tuple[str, ...], after: str | None) -> list[str]:
    unit_choice = [f"--unit={unit}"] if unit else []
    # Not --after-cursor, which leaves out the first entry behind a cursor whose own entry is none of the choice.
    cursor_choice = [f"--cursor={after}"] if after else []
    return [*unit_choice, *cursor_choice, *matches]
