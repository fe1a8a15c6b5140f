"""The events of the journal: each with its entry in the catalog, each transition with its event."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from sdsupervise.hooks.notify_command import EVENTS
from sdsupervise.systemd.catalog import CatalogEntry, entry_fields

PROJECT = Path(__file__).parents[2]
CATALOG = PROJECT / "units/sdsupervise.catalog"

# What is logged beside the transitions: remarks on what is ignored, or tried in another way.
REMARKS = {
    "%s: the service ends",
    "%s The service runs nevertheless",
    "Cannot fork a spare worker: %s; a dead worker will be replaced later",
    "%s; %s",
    "Root loaded the code of %s before it became %s. Whoever may write that code becomes root at the next start%s. "
    "Name the user in the instance's file, or with 'sdsupervise run --user %s'",
    "Only root can run as another user or group; staying uid %d, gid %d",
    "Daemon is already running, initiated hot reload",
    "The predecessor has given up the reload; leaving",
    "Ending: %s",
    "Shutting down: %s",
    "%s Not reading from generation %d any more",
    "Generation %d sent an invalid message %r: %s; ignoring it",
    "Cannot watch generation %d while it drains: the hand-over lacks its descriptors",
    "Worker %d starts with changed code: %s is on disk, and generation %d has run %s",
    "Worker (pid %d) has no handler for quiet_signal (%s)",
    "Worker (pid %d) got %s; %s follows in %g s",
    "No permission to kill worker (pid %d) of generation %d",
    "No permission to kill the supervisor of generation %d (pid %s)",
    "The successor sent an invalid list of its sockets (%r); ignoring it",
    "Cannot change which generation gets new clients of %s: %s",
    "Cannot pass the clients of %s on; the successor fetches them itself: %s",
    "%s has only one lane: %s",
    "%s still leads to the socket of the predecessor: %s (listen %r)",
    "%s keeps its present options: %s (listen %r)",
    "%s is passed on to pid %s",
    "%s is ignored: no worker has a handler for it, so it would kill the workers",
    "%s is ignored: it has no meaning for a supervisor",
    "Stopping; workers may take up to %.0f s; Ctrl-C again ends them at once",
    "Ctrl-C again; ending all workers at once",
    'workers = "auto" is %d here: %s',
    "The shim (pid %d) of worker (pid %d) %s",
    "Worker (pid %d): %s",
    "Worker (pid %d): %s Ignoring it",
    "Worker (pid %d) leaves by itself",
    "Worker (pid %d) ends, and these threads of it have not finished: %s",
    "Worker (pid %d) ends, and an exit function of it has not finished%s",
    "Exit functions of the service's code have not finished after %g s; not waiting for them",
    "Loading the service's code started threads: %s. They run in the supervisor and do not exist in workers; start "
    "them in supervised_process",
    "Worker (pid %d) leaves a process behind: %s; ending it",
    "Worker (pid %d) sent %r, which is not a message; ignoring it",
    "Worker (pid %d) sent an unreadable report on its code: %s; ignoring it",
    "Worker (pid %d) runs %s as it is on disk now, but other workers of this generation run an earlier version of "
    "it; reload, so that all run the same code",
    "Cannot fork a command: %s",
    "The supervisor is gone, stopping the command (pid %d)",
    "Cannot accept a connection on the control socket: %s; trying again",
    "notify_command is not run before the next reload: another sdsupervise is installed now",
    "This reload applies no change of the unit: %s",
    "systemd passed %r, which is not a socket; ignoring it",
    "systemd did not accept %s (%s); ignoring that",
    "systemd did not accept the barrier (%s); ignoring that",
    "systemd did not accept %s into its fd store (%s); ignoring that",
}
REMARK_FILES = {"leftovers.py"}  # of processes that a worker left behind


def catalog() -> dict[str, list[str]]:
    """The lines of each entry, by its id."""
    entries: dict[str, list[str]] = {}
    for line in CATALOG.read_text().splitlines():
        if line.startswith("-- "):
            assert line[3:] not in entries, f"two entries have the id {line[3:]}"
            entries[line[3:]] = []
        elif entries:
            entries[list(entries)[-1]].append(line)
        else:
            assert not line or line.startswith("#")
    return entries


def test_ids_are_of_128_bits() -> None:
    """And no two events have the same."""
    assert all(re.fullmatch("[0-9a-f]{32}", news.value) for news in CatalogEntry)
    assert len({news.value for news in CatalogEntry}) == len(CatalogEntry)


def test_every_event_is_in_the_catalog() -> None:
    """With a subject and a text, and nothing else is there."""
    entries = catalog()
    assert set(entries) == {news.value for news in CatalogEntry}
    for lines in entries.values():
        assert lines[0].startswith("Subject: ")
        assert "Defined-By: sdsupervise" in lines
        text = "\n".join(lines[lines.index("") :]).strip()
        assert text.endswith((".", "@SDSUPERVISE_REASON@", "@SDSUPERVISE_WORKER_PID@", "-k"))


@pytest.mark.parametrize("news", CatalogEntry, ids=lambda news: news.word)
def test_the_catalog_names_fields_the_event_has(news: CatalogEntry) -> None:
    """A field that a log call does not give would be shown as its name."""
    named = set(re.findall("@([A-Z_]+)@", "\n".join(catalog()[news.value]))) - {"SDSUPERVISE_GENERATION"}
    for file, call in log_calls():
        given = extra_of(call, file)
        if given is not None and re.search(rf"\bCatalogEntry\.{news.name}\b", ast.unparse(given)):
            keywords = {keyword.arg for keyword in given.keywords}
            fields = {f"SDSUPERVISE_{arg.upper()}" for arg in keywords - {"worker", "seconds"} if arg}
            fields |= {"SDSUPERVISE_WORKER_PID", "SDSUPERVISE_WORKER_INDEX"} if "worker" in keywords else set()
            fields |= {"SDSUPERVISE_DURATION_SEC"} if "seconds" in keywords else set()
            assert named <= fields, f"{file.name}:{call.lineno}"


def test_fields() -> None:
    """An event's fields are text, seconds with three digits, and nothing that is not known."""
    assert entry_fields(CatalogEntry.RELOADED, generation=2, verdict="done", seconds=1.5) == {
        "sdsupervise": {
            "MESSAGE_ID": CatalogEntry.RELOADED.value,
            "SDSUPERVISE_EVENT": "reloaded",
            "SDSUPERVISE_GENERATION": "2",
            "SDSUPERVISE_DURATION_SEC": "1.500",
            "SDSUPERVISE_VERDICT": "done",
        }
    }
    reloads, crashes = ["reloaded", "rolled-back", "nobody-serves"], ["crash-loop", "crash-loop-over"]
    assert [news.word for news in EVENTS] == [*reloads, *crashes, "gave-up"]


@cache
def nodes_of(file: Path) -> list[ast.AST]:
    """The parsed module, node by node."""
    return list(ast.walk(ast.parse(file.read_text())))


@cache
def log_calls() -> list[tuple[Path, ast.Call]]:
    """Every call of a logger whose line an operator sees."""
    return [
        (file, node)
        for file in sorted((PROJECT / "sdsupervise").rglob("*.py"))
        for node in nodes_of(file)
        if isinstance(node, ast.Call) and re.fullmatch(r"_log\.(info|warning|error|critical)", ast.unparse(node.func))
    ]


def extra_of(call: ast.Call, file: Path) -> ast.Call | None:
    """The call of entry_fields() that a log call has as its extra: there, or in the assignment before it."""
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
    if isinstance(given, ast.Name):
        assignments = [
            node
            for node in nodes_of(file)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == given.id and node.lineno < call.lineno
        ]
        given = max(assignments, key=lambda node: node.lineno).value
    assert given is None or (isinstance(given, ast.Call) and ast.unparse(given.func) == "entry_fields")
    return given


def test_every_transition_has_an_event() -> None:
    """What is logged has an event, or is one of the remarks; and each event is told somewhere."""
    silent = set()
    for file, call in log_calls():
        if extra_of(call, file) is None and file.name not in REMARK_FILES:
            text = call.args[0]
            assert isinstance(text, ast.Constant), f"{file.name}:{call.lineno}"
            silent.add(text.value)
            assert text.value in REMARKS, (
                f"{file.name}:{call.lineno} logs {text.value!r} without an event: give it "
                "extra=entry_fields(CatalogEntry.NAME, ...), or add it to REMARKS in tests/unit/test_events.py"
            )
    assert silent == REMARKS, f"strike these out of REMARKS, for nothing logs them: {REMARKS - silent}"
    sources = [
        file for file in (PROJECT / "sdsupervise").rglob("*.py") if file.name not in ("catalog.py", "notify_command.py")
    ]
    used = set(re.findall(r"\bCatalogEntry\.([A-Z_]+)\b", "".join(file.read_text() for file in sources)))
    assert used | {"NOTIFY_FAILED"} == {news.name for news in CatalogEntry}
