"""What each process of ours is called in ps and top, and what it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sdsupervise.linux import process_title

MEANINGS: Mapping[str, str] = {
    "supervisor": "the main process of the unit: it starts workers, reloads, and answers the control socket",
    "successor": "the supervisor that a reload has started, until it has proved that it serves",
    "draining supervisor": "the supervisor that a reload has replaced, until its workers have finished",
    "worker": "runs the code of the class; a command is executed in its place, and has names of its own",
    "spare worker": "takes the place of the next worker that ends",
    "draining worker": "finishes what it began, and takes on nothing new",
    "child of worker": "what the code of the class has forked",
    "shim": "the parent of an exclusive command; it holds the lock until nothing of the command is left",
    "holder": "stops the other workers while `before_commit` looks at one",
    "reload": "`sdsupervise reload`, also as ExecReload= of the unit",
    "check": "looks at files for `sdsupervise check` or `status`, as the service's user",
    "reader": "reads the file of an instance, and ends",
    "loader": "imports the class, to say what it sets, and ends",
    "keeper": "keeps root's terminal while a service of another user runs in it",
    "init": "pid 1 of a container that has no other",
    "daemon": "a class derived from `Daemon`, which has no supervisor",
}


class Row(NamedTuple):
    """One role, as it is shown of worker 2 in generation 3 of counter."""

    title: str
    short_name: str
    meaning: str


def rows() -> Iterator[Row]:
    """In the order of process_title.ROLES."""
    for role in process_title.ROLES:
        belongs = role not in ("reload", "check", "reader", "loader", "init", "daemon")
        process_title.introduce("counter", 3 if belongs else 0)
        shown = process_title.names_of(role, 2)
        yield Row(shown.title.removeprefix("sdsupervise: "), shown.short_name, MEANINGS[role])


def table() -> str:
    """For the guide."""
    lines = [f"| {row.title} | `{row.short_name}` | {row.meaning} |" for row in rows()]
    return "\n".join(["| title, after `sdsupervise: ` | short name | the process |", "|---|---|---|", *lines])
