"""The process that owns one machine, and takes it away when its user is gone: `python guardian.py SETTINGS`.

A `Machine` starts one guardian, which makes everything the machine consists of (a directory, a cgroup, an
nspawn) and is the only one to remove it. It does so when its standard input ends: that is the end of a pipe
only the user holds, so closing the machine, a Ctrl-C, an exception and a `kill -9` of the user all lead to
the one same teardown.

It answers with one line of JSON: where the machine is, or why there is none. After that it writes a byte
whenever the machine's journal gets a message.

Alternatives considered: PR_SET_PDEATHSIG alone kills the container, but leaves directories and cgroups, and
fires when the *thread* that booted the machine ends; atexit and signal handlers in the user do not survive
SIGKILL.
"""

from __future__ import annotations

import configparser
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DISTRIBUTION_DIRECTORY = "/usr/lib/python3/dist-packages"
# What pip makes of an entry point, but for the machine's Python.
COMMAND = """\
#!/usr/bin/python3
import sys
from {module} import {function}
if __name__ == "__main__":
    sys.exit({function}())
"""
GENERATORS = "/usr/lib/systemd/system-generators"
TEARDOWN_LIMIT_SECONDS = 10
CONSOLE_TAIL_LINES = 30
MNT_DETACH = 2  # umount2(2)

# Write ourselves into the cgroup before anything exists that would have to be moved too.
ENTER_CGROUP = 'echo $$ >"$0/cgroup.procs" && exec "$@"'

libc = ctypes.CDLL(None, use_errno=True)


class Settings(NamedTuple):
    """What the user of the machine asks for; travels as JSON on the command line."""

    root: str
    packages: list[str]
    shown: dict[str, str]
    """Directories of ours that the machine sees and cannot write to, by their paths in there."""
    boot_limit_seconds: float


class BootFailed(Exception):
    """The machine did not come up; the message is for the user."""


class Told(Exception):
    """Somebody sent us SIGTERM: take the machine away."""


def cgroup2_mount() -> Path:
    """Where the unified hierarchy is: /sys/fs/cgroup, or below it on a machine that also has version 1."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            return Path(before.split()[4])
    raise BootFailed("There is no cgroup2 mount on this machine, so no systemd can be booted in it.")


def lay_out(directory: Path, packages: list[str]) -> list[str]:
    """Fill the machine's directory; return the nspawn options that show its parts inside."""
    exchange = directory / "exchange"
    exchange.mkdir()
    exchange.chmod(0o1777)
    options = [f"--bind={exchange}:/exchange"]
    if packages:
        # No file systems, no gettys: each daemon-reload would run a dozen programs for nothing.
        (directory / "generators").mkdir()
        options.append(f"--bind-ro={directory / 'generators'}:{GENERATORS}")
    for package in map(Path, packages):
        # A copy of its own: reinstalling the wheel does not change a machine, and a test may edit the code. With its
        # compiled files, as a package has them: a user's process cannot write them there.
        copy = directory / "packages" / package.name
        shutil.copytree(package, copy)
        options.append(f"--bind={copy}:{DISTRIBUTION_DIRECTORY}/{package.name}")
        for command, entry_point in entry_points(copy / "entry_points.txt").items():
            module, _, function = entry_point.partition(":")
            script = directory / "commands" / command
            script.parent.mkdir(exist_ok=True)
            script.write_text(COMMAND.format(module=module, function=function))
            script.chmod(0o755)
            options.append(f"--bind={script}:/usr/bin/{command}")
    return options


def entry_points(path: Path) -> dict[str, str]:
    """The commands a wheel declares; none when the file is not there."""
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # commands are case-sensitive
    parser.read(path)
    return dict(parser["console_scripts"]) if parser.has_section("console_scripts") else {}


def start_nspawn(name: str, root: str, directory: Path, cgroup: Path, options: list[str]) -> subprocess.Popen[bytes]:
    with (directory / "console").open("wb") as console:
        return subprocess.Popen(
            [
                *("/bin/sh", "-c", ENTER_CGROUP, str(cgroup)),
                *("/usr/bin/systemd-nspawn", "--quiet", f"--directory={root}", "--volatile=overlay"),
                *(f"--machine={name}", "--register=no", "--keep-unit", "--private-network"),
                *("--link-journal=no", "--resolv-conf=off", "--timezone=off"),
                *("--console=pipe", "--notify-ready=yes", *options, "--boot"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "NOTIFY_SOCKET": str(directory / "notify"),
                # Without it a host that mixes both cgroup versions gives the machine the same mixture.
                "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                # The root is never written to; its lock would only leave a file beside it.
                "SYSTEMD_NSPAWN_LOCK": "0",
            },
        )


def wait_until_booted(nspawn: subprocess.Popen[bytes], notify: socket.socket, deadline: float) -> int:
    """Wait until the machine's systemd says READY=1, its start-up being finished; return its pid out here."""
    pidfd = os.pidfd_open(nspawn.pid)
    poller = select.poll()
    for descriptor in (0, notify.fileno(), pidfd):
        poller.register(descriptor, select.POLLIN)
    leader = 0
    try:
        while True:
            ready = {fd for fd, _ in poller.poll(max(0, deadline - time.monotonic()) * 1000)}
            if not ready:
                raise BootFailed("The machine's systemd did not finish booting in time.")
            if 0 in ready:
                raise Told
            if pidfd in ready:
                raise BootFailed(f"systemd-nspawn ended while booting, with status {nspawn.wait()}.")
            for line in notify.recv(65536).decode(errors="replace").splitlines():
                if line.startswith("X_NSPAWN_LEADER_PID="):
                    leader = int(line.partition("=")[2])
                if line == "READY=1" and leader:
                    return leader
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def journal_tap(leader: int) -> Iterator[socket.socket]:
    """Be the machine's syslog: journald, as configured in the root, hands on every message at once."""
    host_network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    machine_network = os.open(f"/proc/{leader}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    # How many messages may queue is the network namespace's to say, when the socket is made. Ours says ten,
    # the kernel's default, and journald complains in the journal when the eleventh fails; systemd made it 512
    # in there.
    setns(machine_network)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as tap:
        setns(host_network)
        os.close(machine_network)
        os.close(host_network)
        tap.bind(f"/proc/{leader}/root/run/systemd/journal/syslog")
        yield tap


def setns(namespace: int) -> None:
    """setns(2), which Python has from 3.12 on."""
    if libc.setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "setns")


def ring_until_dismissed(tap: socket.socket, notify: socket.socket) -> None:
    """Write a byte to standard output whenever the journal got messages, until standard input ends."""
    os.set_blocking(1, False)
    notify.setblocking(False)
    poller = select.poll()
    poller.register(0, select.POLLIN)
    poller.register(tap, select.POLLIN)
    poller.register(notify, select.POLLIN)
    while 0 not in (fd for fd, _ in poller.poll()):
        with contextlib.suppress(BlockingIOError):
            while tap.recv(1):
                pass
        # PID 1 goes on to tell its nspawn how long its jobs take, and nspawn tells us: unread, these would fill our
        # queue, then nspawn's, and PID 1 would stand still.
        with contextlib.suppress(BlockingIOError):
            while notify.recv(1):
                pass
        # A full pipe has rung enough; a closed one is about to be followed by standard input.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(1, b"!")


def tail(console: Path) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(console.read_text(errors="replace").splitlines()[-CONSOLE_TAIL_LINES:])
    return ""


@contextlib.contextmanager
def own_directory(name: str) -> Iterator[Path]:
    directory = Path(tempfile.gettempdir(), name)
    directory.mkdir(mode=0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def own_cgroup(name: str) -> Iterator[Path]:
    """A cgroup for nspawn, the machine and its visitors; leaving kills whoever is still in it."""
    cgroup = cgroup2_mount() / name
    cgroup.mkdir()
    try:
        # nspawn adds `supervisor` and `payload`. Visitors are beside these: the machine's systemd does not
        # see them.
        (cgroup / "visitors").mkdir()
        yield cgroup
    finally:
        remove_cgroup(cgroup)


def remove_cgroup(cgroup: Path) -> None:
    """Kill whoever is in this cgroup of a machine, and remove it with what nspawn left beside it."""
    empty(cgroup)
    # On a mixed host nspawn mirrors the path into systemd's version 1 hierarchy.
    for place in (cgroup, Path("/sys/fs/cgroup/systemd", cgroup.name)):
        for path, _, _ in os.walk(place, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
    for leftover in ("propagate", "unix-export"):
        place = Path("/run/systemd/nspawn", leftover, cgroup.name)
        libc.umount2(os.fsencode(place), MNT_DETACH)  # nspawn 257 mounts the latter; where nothing is, nothing happens
        with contextlib.suppress(OSError):
            place.rmdir()


def empty(cgroup: Path) -> None:
    """Kill all in the cgroup and wait until the kernel says that it is empty."""
    deadline = time.monotonic() + TEARDOWN_LIMIT_SECONDS
    (cgroup / "cgroup.kill").write_text("1")
    with (cgroup / "cgroup.events").open() as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        while "populated 0" not in events.read() and time.monotonic() < deadline:
            poller.poll(max(0, deadline - time.monotonic()) * 1000)
            events.seek(0)


def guard(settings: Settings) -> None:
    """Have the machine for as long as standard input is open."""
    name = f"sdsupervise-{os.getpid()}-{os.urandom(3).hex()}"
    with (
        own_directory(name) as directory,
        own_cgroup(name) as cgroup,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
    ):
        notify.bind(str(directory / "notify"))
        options = lay_out(directory, settings.packages)
        options += [f"--bind-ro={ours}:{theirs}" for theirs, ours in settings.shown.items()]
        nspawn = start_nspawn(name, settings.root, directory, cgroup, options)
        try:
            leader = wait_until_booted(nspawn, notify, time.monotonic() + settings.boot_limit_seconds)
            with journal_tap(leader) as tap:
                tell(leader=leader, name=name, directory=str(directory), cgroup=str(cgroup))
                ring_until_dismissed(tap, notify)
        except BootFailed as error:
            raise BootFailed(f"{error} Its console said:\n{tail(directory / 'console')}") from None
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing may interrupt the teardown
            # No asking first: a machine half booted does not listen, and of a whole one nothing is to be saved.
            # Its processes go with the cgroup; but nspawn itself may be so young that it has not entered that yet.
            nspawn.kill()
            nspawn.wait()


def tell(**answer: str | int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(answer).encode() + b"\n")


def told(*_: object) -> None:
    raise Told


def main() -> int:
    """Guard one machine; 0 when it was taken away as asked."""
    signal.signal(signal.SIGTERM, told)
    try:
        guard(Settings(**json.loads(sys.argv[1])))
    except Told:
        return 0
    except (BootFailed, OSError) as error:
        tell(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
