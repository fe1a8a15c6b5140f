"""An instance as lines of text: its state, its generations as a tree of processes, sockets, and the last reload."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.phases import PHASES
from ..core.takeover import State
from ..errors import HandoverError
from ..input.printable import printable
from ..linux.channel import Sender
from ..supervisor.status_text import DOWN
from ..systemd.units import unit_of
from . import command_line
from .apart import look_as
from .process_usage import Processes, Usage, may_see_shares, together
from .terminal import Screen, clock, columns, count, cut, duration, size

MOST_WORKERS = 10  # of a generation, with a line each
_MOST_ADDED_UP = 200  # workers whose memory is read for a summary line
_LOOK_SECONDS = 2.0  # for a look at paths on disk
_MARGIN = 13  # column of the values
_MOST_CHARACTERS = 20_000  # of a value
_HEADINGS = ("PROCESS", "PID", "STATE", "AGE", "", "", "PING", "CRASHES", "SAYS")
_TO_THE_LEFT = {"PROCESS", "STATE", "SAYS"}

# Short names of a reload's phases, most of which are states of the predecessor.
_STEPS = {"waiting": "waited", **{state.name.lower(): phase.step for state, phase in PHASES.items() if phase.step}}


class StyledLine(NamedTuple):
    """A line with its style: bold, dim, good, busy, bad, or plain."""

    text: str
    style: str = ""


class Meter:
    """The usage of processes that a process of this uid has named, read once.

    `cpu` gives the text of the CPU column from a pid and its usage.
    """

    def __init__(
        self, main_pid: int, *, uid: int, heading: str = "CPU", cpu: Callable[[int, Usage], str] | None = None
    ) -> None:
        self.processes = Processes(uid=uid)
        # PSS or RSS for all processes, because the two cannot be compared.
        self.shares = may_see_shares(main_pid)
        self.cpu_heading = heading
        self._cpu = cpu or (lambda _pid, usage: duration(usage.cpu_seconds))

    def cells(self, usage: Usage | None, pid: int) -> tuple[str, str]:
        """The texts for CPU and memory; "" for what is not readable."""
        if usage is None:
            return "", ""
        taken = usage.proportional if self.shares else usage.resident
        return self._cpu(pid, usage), "" if taken is None else size(taken)


def state_in_words(facts: Mapping[str, Any]) -> tuple[str, str]:
    """The state, and its style."""
    state = str(facts["state"])
    if state == DOWN:
        return state, "bad"
    try:
        main_state = PHASES[State[state.upper()]].main_state
    except KeyError:  # a state of another release
        return state, "busy"
    if state == "serving":
        return state, "good" if facts["healthy"] else "bad"
    return (state if main_state in ("ready", state) else f"{main_state} ({state})"), "busy"


def lines(
    name: str,
    facts: Mapping[str, Any],
    sender: Sender | None,
    meter: Meter,
    screen: Screen,
    *,
    most: int | None = MOST_WORKERS,
    full: bool,
) -> list[StyledLine]:
    """All lines about one instance from the answer of `sender`, cut to the width of the screen unless `full`."""
    state, style = state_in_words(facts)
    same = not name or name.casefold() == str(facts["name"]).casefold()
    title = name or str(facts["name"]) if same else f"{name} ({facts['name']})"
    since = facts.get("since")
    when = [f"since {clock(since)}"] if since is not None else []
    head = " · ".join([state, f"generation {facts['generation']}", str(facts["handover"]), *when])
    found = [StyledLine(f"● {title}   {head}", style)]
    width = None if full else screen.columns
    if not facts["healthy"]:
        found += _entry("status", str(facts["status"]), width, "bad" if style == "bad" else "busy")
    found += _entry("code", code_in_words(facts, sender), width)
    unit, _ = unit_of(facts["pid"])
    if unit:
        found += _entry("unit", unit, width)
    for listener in facts.get("sockets", ()):
        origin = "   from systemd" if listener["from"] == "systemd" else ""
        found += _entry("socket", f"{listener['name']}   {listener['address']}{origin}", width)
    if facts["pool"].get("automatic"):
        found += _entry("workers", f"{facts['pool']['workers']} (auto)", width)
    if facts["last_reload"]:
        bad = "bad" if facts["last_reload"]["verdict"] != "done" else ""
        outcome, *details = _reload_in_words(facts["last_reload"])
        found += _entry("reload", outcome, width, bad)
        for detail in details:
            found += _entry("", detail, width, bad)
    found += table(facts, meter, width, most=None if full else most)
    logs = logs_in_words(facts["pid"])
    return found + (_entry("logs", logs, width) if logs else [])


def table(facts: Mapping[str, Any], meter: Meter, width: int | None, *, most: int | None) -> list[StyledLine]:
    """The tree of processes with headings, without columns that are empty in all rows."""
    headings = list(_HEADINGS)
    headings[4:6] = [meter.cpu_heading, "PSS" if meter.shares else "RSS"]
    rows = [(tuple(headings), "dim"), *_rows(facts, meter, most)]
    used = [number for number in range(len(headings)) if any(row[number] for row, _ in rows[1:])]
    to_the_right = [place for place, number in enumerate(used) if headings[number] not in _TO_THE_LEFT]
    cells = columns([[row[number] for number in used] for row, _ in rows], to_the_right=to_the_right)
    texts = ["  " + "  ".join(row).rstrip() for row in cells]
    return [
        StyledLine(text if width is None else cut(text, width), style)
        for text, (_, style) in zip(texts, rows, strict=True)
    ]


def code_in_words(facts: Mapping[str, Any], sender: Sender | None) -> str:
    """The path of the code; by the symlink that leads there, if the answering process can follow one."""
    path, fingerprint = str(facts["code"]["path"]), str(facts["code"]["fingerprint"])
    if sender is None:
        return f"{path} ({fingerprint})"
    try:
        return look_as(sender, lambda: _code_by_symlink(facts, path, fingerprint), limit_seconds=_LOOK_SECONDS)
    except HandoverError:
        return f"{path} ({fingerprint})"


def _code_by_symlink(facts: Mapping[str, Any], path: str, fingerprint: str) -> str:
    for directory in _typed_directories(facts):
        real = os.path.realpath(directory)
        if real == directory:
            continue
        if path.startswith(real + os.sep):
            return f"{directory} → {_beside(path, directory)} ({fingerprint})"
        if _is_beside(path, real):
            return f"{path} ({fingerprint}), but {directory} is {_beside(real, directory)} now"
    return f"{path} ({fingerprint})"


def logs_in_words(pid: int) -> str:
    """The command that shows its log, or where its standard error goes."""
    unit, is_users = unit_of(pid)
    if unit:
        return f"journalctl {'--user ' if is_users else ''}-u {unit}"
    try:
        return f"standard error of pid {pid}: {os.readlink(f'/proc/{pid}/fd/2')}"
    except OSError:
        return ""


def _entry(title: str, text: str, width: int | None, style: str = "") -> list[StyledLine]:
    """A title in the margin, and a text beside it, on as many lines as it needs."""
    if not text:
        return []
    text = printable(text[:_MOST_CHARACTERS]).replace("\n", " ")  # a process can choose texts that the kernel shows
    parts = [text]
    if width is not None and _MARGIN + len(text) > width:
        import textwrap

        parts = textwrap.wrap(text, max(20, width - _MARGIN), break_on_hyphens=False)
    heads = [f"  {title}", *[""] * (len(parts) - 1)]
    return [StyledLine(f"{head:<{_MARGIN}}{part}", style) for head, part in zip(heads, parts, strict=True)]


def _typed_directories(facts: Mapping[str, Any]) -> list[str]:
    """The working directories as they were typed, the most relevant one first."""
    by_name = str(facts.get("directory", ""))
    scripts = [os.path.join(by_name, os.path.dirname(script)) for script in command_line.scripts(facts.get("argv", ()))]
    return [directory for directory in (by_name, *scripts) if directory]


def _beside(real: str, directory: str) -> str:
    """A path relative to the directory of the symlink, if that is shorter."""
    relative = os.path.relpath(real, os.path.dirname(directory))
    return real if relative.startswith("..") else relative


def _is_beside(path: str, real: str) -> bool:
    """Whether a path is in another release beside the one at `real`."""
    parent = os.path.dirname(real)
    return path.startswith(parent + os.sep)


# ------------------------------------------------------------------------------------------------------ the tree

_Row = tuple[tuple[str, ...], str]


def _rows(facts: Mapping[str, Any], meter: Meter, most: int | None) -> Iterator[_Row]:
    workers: Sequence[Mapping[str, Any]] = facts["workers"]
    pids = {worker["pid"] for worker in workers} | {facts.get("spare")}
    successor = facts.get("successor")
    if successor:
        says = f"{successor['ready']} ready" if successor["workers"] else str(successor["code"])
        yield from _other_generation(successor, "starting", says, meter)
    state, style = state_in_words(facts)
    state = state.partition(" (")[0]  # the first line has the details
    crashes = str(facts["crashes"]) if facts["crashes"] else ""
    usage = meter.processes.usage(facts["pid"], apart_from=pids)
    yield _row(f"generation {facts['generation']}", facts["pid"], state, usage, meter, crashes=crashes), style
    children = list(_workers(workers, meter, most))
    spare = facts.get("spare")
    if spare:
        usage = meter.processes.usage(spare)
        children.append((_row("spare", spare, "waiting", usage, meter), "dim"))
    yield from _as_children(children)
    for generation in facts.get("draining", ()):
        says = f"{duration(generation['at_most'])} left"
        yield from _other_generation(generation, "draining", says, meter)


def _other_generation(facts: Mapping[str, Any], state: str, says: str, meter: Meter) -> Iterator[_Row]:
    """The rows of a generation of which only pids are known."""
    pids = facts["workers"]
    usage = meter.processes.usage(facts["pid"], apart_from=set(pids))
    yield _row(f"generation {facts['generation']}", facts["pid"], state, usage, meter, says=says), "busy"
    children = []
    for pid in pids[:MOST_WORKERS]:
        usage = meter.processes.usage(pid)
        open_ones = meter.processes.connections(usage) if usage is not None and state == "draining" else None
        says = "" if open_ones is None else count(open_ones, "connection")
        children.append((_row("worker", pid, state, usage, meter, says=says), "busy"))
    if len(pids) > len(children):
        children.append((_row(f"{len(pids) - len(children)} more", None, state, None, meter), "busy"))
    yield from _as_children(children)


def _as_children(rows: Sequence[_Row]) -> Iterator[_Row]:
    for number, ((label, *cells), style) in enumerate(rows, 1):
        yield (f"{'└─' if number == len(rows) else '├─'} {label}", *cells), style


def _workers(workers: Sequence[Mapping[str, Any]], meter: Meter, most: int | None) -> Iterator[_Row]:
    """A row for each worker. In a big pool only workers with an unusual state have one, and the rest share one."""
    shown = workers
    if most is not None and len(workers) > most:
        others = [worker for worker in workers if worker["state"] != "serving" or worker["retiring"]]
        shown = others[: max(0, most - 1)]
    for worker in shown:
        usage = meter.processes.usage(worker["pid"])
        says = [f"to be replaced: {worker['retiring']}"] if worker["retiring"] else []
        says += [str(worker["status"])] if worker["status"] else []
        if usage is not None and usage.processes > 1:
            says.insert(0, count(usage.processes, "process"))
        ping = "-" if worker["last_ping"] is None else duration(worker["last_ping"])
        crashes, state = str(worker["crashes"]), str(worker["state"])
        label = f"worker {worker['index']}"
        row = _row(label, worker["pid"], state, usage, meter, worker["age"], ping, crashes, "; ".join(says))
        yield row, "" if state == "serving" and not worker["retiring"] else "busy"
    numbers = {worker["pid"] for worker in shown}
    rest = [worker for worker in workers if worker["pid"] not in numbers]
    if rest:
        yield _summary(rest, meter), ""


def _summary(workers: Sequence[Mapping[str, Any]], meter: Meter) -> tuple[str, ...]:
    ages = [worker["age"] for worker in workers]
    pings = [worker["last_ping"] for worker in workers if worker["last_ping"] is not None]
    states = ", ".join(sorted({str(worker["state"]) for worker in workers}))
    says = f"ages {duration(min(ages))} to {duration(max(ages))}"
    if pings:
        says += f", pings {duration(min(pings))} to {duration(max(pings))} ago"
    crashes = str(sum(worker["crashes"] for worker in workers))
    taken = [meter.processes.usage(worker["pid"]) for worker in workers] if len(workers) <= _MOST_ADDED_UP else []
    cpu, memory = meter.cells(together(taken), -workers[0]["pid"])
    return (f"{len(workers)} workers", "", states, "", cpu, memory, "", crashes, says)


def _row(
    label: str,
    pid: int | None,
    state: str,
    usage: Usage | None,
    meter: Meter,
    age: float | None = None,
    ping: str = "",
    crashes: str = "",
    says: str = "",
) -> tuple[str, ...]:
    if age is None and usage is not None:
        age = usage.age
    seen_age = "" if age is None else duration(age)
    cpu, memory = meter.cells(usage, pid or 0)
    return (label, str(pid or ""), state, seen_age, cpu, memory, ping, crashes, says)


# ------------------------------------------------------------------------------------------------- the last reload


def _reload_in_words(reload: Mapping[str, Any]) -> tuple[str, ...]:
    """The outcome and who asked; the reason of a failure; what was not applied; and the seconds of each step."""
    outcome = f"{clock(reload['asked_at'])} {reload['verdict']} in {reload['seconds']:.2f} s"
    outcome += f", asked by {_asker(str(reload['asked_by']))}"
    took: dict[str, float] = {}
    for name, seconds in reload["phases"].items():
        step = _STEPS.get(name, name)
        took[step] = took.get(step, 0.0) + seconds
    steps = ", ".join(f"{step} {seconds:.2f}" for step, seconds in took.items())
    left_out = f"no change of the unit was applied: {why}" if (why := reload.get("not_applied")) else ""
    return outcome, str(reload["reason"]), left_out, steps


def _asker(text: str) -> str:
    """The caller, such as "pid 4391, uid 0", with the user's name."""
    found = re.fullmatch(r"pid ([0-9]+), uid ([0-9]{1,10})", text)
    if found is None:
        return text
    import pwd

    try:
        return f"{pwd.getpwuid(int(found[2])).pw_name} (pid {found[1]})"
    except (KeyError, OverflowError):
        return text
