"""Hundreds of workers: how soon they are all ready, what each takes, and what they cost the supervisor."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.machine import Machine

from .effort import Effort
from .ground import BenchError, Process, bare, can_boot, clean_environment, let_time_pass
from .measure import Figures, Row, in_turns
from .notification import NotificationSocket
from .servers import SDSUPERVISE, SERVED

# Any language would do for both sides; this one is in the smallest Debian, and starts in 2 ms.
_COMMAND = r"""#!/usr/bin/perl
socket(S, 1, 2, 0);
($place = $ENV{NOTIFY_SOCKET}) =~ s/^@/\0/;
send(S, "READY=1", 0, pack("Sa*", 1, $place));
sleep;
"""
_INSTANCE = "[Service]\nType=notify\nExecStart=/exchange/one\n"
_SUPERVISED = """[Service]
Type=notify
NotifyAccess=main
KillMode=mixed
RuntimeDirectory=sdsupervise/%N
ExecStart=/usr/bin/sdsupervise run --handover overlap --workers {count} -- /exchange/one
"""


class Crowd(Process):
    """A supervisor of so many class workers."""

    def __init__(self, count: int, *, pings: bool) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sdsupervise-bench-")
        pid_file = os.path.join(self._directory.name, "pid")
        with NotificationSocket() as systemd:
            environment = clean_environment(NOTIFY_SOCKET=systemd.address, BENCH_PINGS="1" if pings else "")
            service = [f"{SERVED / 'crowd.py'}:Crowd", "--pid-file", pid_file]
            arguments = [SDSUPERVISE, "run", "--workers", str(count), *service]
            started = time.monotonic_ns()
            super().__init__(arguments, environment, to_journal=True)
            self.seconds_to_ready = (systemd.wait_until_ready() - started) / 1e9

    def end(self) -> None:
        """Stop it."""
        os.kill(self.pid, signal.SIGTERM)
        super().end()
        self._directory.cleanup()


@contextmanager
def _bare_crowd(count: int, *, pings: bool) -> Iterator[tuple[Process, float]]:
    """Forked by the least that can; with the seconds until all have said that they are there."""
    started = time.monotonic_ns()
    with bare("crowd", BENCH_CROWD=str(count), BENCH_PINGS="1" if pings else "") as process:
        process.numbers()
        yield process, (time.monotonic_ns() - started) / 1e9


def crowd(effort: Effort) -> Iterable[Row]:
    """Class workers, each a fork of the supervisor."""
    shares: tuple[list[float], list[float]] = [], []
    loads: tuple[list[float], list[float]] = [], []

    def take(process: Process, whose: int) -> None:
        shares[whose].append(_proportional_megabytes(process.pid, effort.crowd))
        let_time_pass(process.pid, 1.5)  # until each has pinged once
        loads[whose].append(_cpu_percent(process.pid, effort.crowd_seconds))

    def start_ours() -> float:
        with Crowd(effort.crowd, pings=True) as ours:
            take(ours, 0)
            return ours.seconds_to_ready

    def start_bare() -> float:
        with _bare_crowd(effort.crowd, pings=True) as (theirs, seconds):
            take(theirs, 1)
            return seconds

    times = in_turns(effort.crowds, start_ours, start_bare)
    what = f"{effort.crowd} class workers"
    for name, unit, (ours, theirs), goal in (
        (f"{what}: exec, to all of them ready", "s", times, 1.5),
        (f"{what}: memory of each (PSS)", "MB", _figures(shares), 1.0),
        (f"{what}, each pings once a second: the supervisor's share of a core", "%", _figures(loads), 3.0),
    ):
        yield Row(name, unit, ours, "os.fork in a loop, then epoll", theirs, limit=None, at_most=goal)


def _figures(samples: tuple[list[float], list[float]]) -> tuple[Figures, ...]:
    return tuple(Figures(tuple(each)) for each in samples)


def _proportional_megabytes(parent: int, count: int) -> float:
    """The mean over a process's children.

    Raises BenchError where they are not so many.
    """
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    if len(children) != count:
        raise BenchError(f"Process {parent} has {len(children)} children, not {count}.")
    lines = (line for pid in children for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024 / count


def _cpu_percent(pid: int, seconds: float) -> float:
    place = Path(f"/proc/{pid}/schedstat")
    began, before = time.monotonic_ns(), int(place.read_text().split()[0])
    let_time_pass(pid, seconds)
    return (int(place.read_text().split()[0]) - before) / (time.monotonic_ns() - began) * 100


def crowd_of_commands(effort: Effort) -> Iterable[Row]:
    """Commands that say READY=1: workers of one supervisor, or instances of a unit, under a systemd of their own."""
    if not can_boot():
        print("left out: what needs to boot a systemd", file=sys.stderr)
        return
    with Machine() as machine:
        machine.write("/exchange/one", _COMMAND, mode=0o755)
        machine.write("/run/systemd/system/one@.service", _INSTANCE)
        machine.write("/run/systemd/system/many.service", _SUPERVISED.format(count=effort.crowd))
        machine.run("systemctl", "daemon-reload")
        instances = [f"one@{number}" for number in range(effort.crowd)]
        ours, theirs = in_turns(
            effort.crowds, _start(machine, ["many"], effort.crowd), _start(machine, instances, effort.crowd)
        )
    yield Row(
        f"{effort.crowd} command workers: start, to all of them ready",
        "s",
        ours,
        f"systemd {machine.systemd_version.split('.')[0]} starting as many instances",
        theirs,
        limit=1.0,
    )


def _start(machine: Machine, units: list[str], count: int) -> Callable[[], float]:
    def measure() -> float:
        started = time.monotonic_ns()
        machine.run("systemctl", "start", *units)
        seconds = (time.monotonic_ns() - started) / 1e9
        running = [process for process in machine.processes() if process.cmdline[-1:] == ["/exchange/one"]]
        machine.run("systemctl", "stop", *units)
        if len(running) < count:
            raise BenchError(f"{units[0]} started {len(running)} processes, not {count}.")
        return seconds

    return measure
