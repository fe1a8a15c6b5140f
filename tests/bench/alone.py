"""One supervisor with one worker, beside the least that Python needs to do the same."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from .effort import Effort
from .ground import TRIVIAL, Process, Supervised, bare, clean_environment, let_time_pass, wait_for_end
from .measure import Figures, Row, in_turns
from .notification import NotificationSocket

BARE_PYTHON = "python3 -I -S"
SERVICE_IMPORTS = "asyncio http.server sqlite3 xml.dom.minidom"


_LIFE_SECONDS = 0.02  # what a worker lives before it is killed, so that all that follows its own start is over


def respawn(effort: Effort) -> Iterable[Row]:
    """SIGKILL of a worker, to the first line of its replacement's code, with no delay between."""
    for what, simple in (("", ""), (", of a class without ready_to_take_over", "1")):
        with bare("respawn") as baseline, Supervised(BENCH_SIMPLE=simple) as supervised:
            baseline.order("first")
            baseline.numbers()
            ours, theirs = in_turns(effort.respawns, _kill(supervised), _ordered(baseline))
        yield Row(
            f"SIGKILL of a worker, to its replacement's first line{what}",
            "µs",
            ours,
            "os.kill, os.waitpid, os.fork in a loop",
            theirs,
            limit=2.0,
        )


def _kill(supervised: Supervised) -> Callable[[], float]:
    def measure() -> float:
        time.sleep(_LIFE_SECONDS)
        killed = time.monotonic_ns()
        os.kill(supervised.worker.pid, signal.SIGKILL)
        return (supervised.next_worker().first_line - killed) / 1e3

    return measure


def _ordered(baseline: Process) -> Callable[[], float]:
    def measure() -> float:
        time.sleep(_LIFE_SECONDS)
        baseline.order("again")
        asked, began = baseline.numbers()
        return (began - asked) / 1e3

    return measure


def ping(effort: Effort) -> Iterable[Row]:
    """ping_supervisor(), both processes on one core, and on two."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    for place, (asker, answerer) in (("one core", (cores[0], cores[0])), ("two cores", (cores[-1], cores[0]))):
        with bare("echo") as client, Supervised() as supervised:
            (server,) = client.numbers()
            for pid in (client.pid, supervised.worker.pid):
                os.sched_setaffinity(pid, {asker})
            for pid in (server, supervised.pid):
                os.sched_setaffinity(pid, {answerer})
            ours, theirs = in_turns(
                effort.ping_rounds, _round_trips(supervised, effort.pings), _round_trips(client, effort.pings)
            )
        yield Row(f"ping_supervisor(), {place}", "µs", ours, "bare echo over a socketpair", theirs, limit=1.5)


def _round_trips(process: Process, count: int) -> Callable[[], float]:
    def measure() -> float:
        process.order(str(count))
        (nanoseconds,) = process.numbers()
        return nanoseconds / 1e3 / count

    return measure


def memory(effort: Effort) -> Iterable[Row]:
    """What a supervisor keeps in memory beyond what its service's imports would cost without it.

    Taken off is what the same imports add to a bare interpreter, and nothing else: the interpreter itself counts, and
    so does what is imported to speak with systemd and the journal. The worker runs, and shares its pages.
    """
    for what, imports, fields in (
        ("Resident memory of a supervisor", "", ("Rss",)),
        ("Private memory of a supervisor", "", ("Private_Clean", "Private_Dirty")),
        (f"Resident memory of one, beyond its service's {SERVICE_IMPORTS}", SERVICE_IMPORTS, ("Rss",)),
    ):
        ours, theirs = [], []
        for _ in range(effort.memory_starts):
            with (
                NotificationSocket() as systemd,
                Supervised(notify_socket=systemd.address, BENCH_SERVICE_IMPORTS=imports) as supervised,
                bare("idle", BENCH_SERVICE_IMPORTS=imports) as importing,
                bare("idle") as idle,
            ):
                for process in (importing, idle):
                    process.numbers()
                nothing = _megabytes(idle.pid, fields)
                ours.append(_megabytes(supervised.pid, fields) - (_megabytes(importing.pid, fields) - nothing))
                theirs.append(nothing)
        goal = 2.0 if fields == ("Rss",) else None
        yield Row(what, "MB", Figures(tuple(ours)), f"idle {BARE_PYTHON}", Figures(tuple(theirs)), limit=goal)


def _megabytes(pid: int, fields: tuple[str, ...]) -> float:
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    kilobytes = {words[0].rstrip(":"): int(words[1]) for words in lines}
    return sum(kilobytes[field] for field in fields) / 1024


def idle(effort: Effort) -> Iterable[Row]:
    """What a supervisor does while there is nothing to do: nothing, for its worker idles too."""
    with (
        NotificationSocket() as systemd,
        Supervised(notify_socket=systemd.address) as supervised,
        bare("idle") as baseline,
    ):
        baseline.numbers()
        let_time_pass(supervised.pid, min(effort.idle_seconds, 1.0))  # what follows a start is not idling yet
        pids = (supervised.pid, baseline.pid)
        before = [_activity(pid) for pid in pids]
        let_time_pass(supervised.pid, effort.idle_seconds)
        after = [_activity(pid) for pid in pids]
    seconds = f"in {effort.idle_seconds:g} s of idling"
    for number, (what, unit) in enumerate((("Wake-ups", "times"), ("CPU time", "ms"))):
        ours, theirs = (Figures((after[who][number] - before[who][number],)) for who in (0, 1))
        yield Row(f"{what} {seconds}", unit, ours, f"idle {BARE_PYTHON}", theirs, limit=None, at_most=0.0)


def _activity(pid: int) -> tuple[float, float]:
    """Context switches and milliseconds of CPU so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    switches = sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return switches, int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def reload(effort: Effort) -> Iterable[Row]:
    """A reload asked, to the new worker's first line after ready_to_take_over."""
    with Supervised() as supervised:
        yield _reload_row("SIGUSR2 to a script", effort, supervised, _ask_by_signal)
    with NotificationSocket() as systemd, Supervised(notify_socket=systemd.address) as supervised:
        yield _reload_row("Reload call to sdsupervise run", effort, supervised, _ask_by_call)


def _reload_row(what: str, effort: Effort, supervised: Supervised, ask: Callable[[Supervised, ExitStack], None]) -> Row:
    with ExitStack() as kept:
        ours, theirs = in_turns(effort.reloads, _reload(supervised, ask, kept), _start_interpreter)
    return Row(f"{what}, to its new worker released", "ms", ours, "starting Python with its imports", theirs, limit=2.0)


def _reload(
    supervised: Supervised, ask: Callable[[Supervised, ExitStack], None], kept: ExitStack
) -> Callable[[], float]:
    def measure() -> float:
        asked = time.monotonic_ns()
        ask(supervised, kept)
        return (supervised.next_generation().released - asked) / 1e6

    return measure


def _ask_by_signal(supervised: Supervised, _kept: ExitStack) -> None:
    os.kill(supervised.pid, signal.SIGUSR2)


def _ask_by_call(supervised: Supervised, kept: ExitStack) -> None:
    kept.pop_all().close()  # the caller of the reload before
    caller = kept.enter_context(socket.socket(socket.AF_UNIX))
    caller.connect(supervised.control_path)
    caller.sendall(json.dumps({"method": "io.sdsupervise.Reload", "more": True}).encode() + b"\0")


def _start_interpreter() -> float:
    reader, writer = os.pipe()
    started = time.monotonic_ns()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, str(TRIVIAL)],
        clean_environment(BENCH_ONLY_IMPORT="1"),
        file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
    )
    os.close(writer)
    first_line = int(os.read(reader, 64))
    os.close(reader)
    wait_for_end(pid)
    return (first_line - started) / 1e6
