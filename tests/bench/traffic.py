"""Reloads while clients come: what they notice of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from tests.load.client import Result

from .effort import Effort
from .ground import let_time_pass
from .load import RATE, Load
from .measure import Figures, Row
from .notification import NotificationSocket
from .servers import WEB, Gunicorn, Ours, gunicorn_of_threads

MODES = ("close", "keep-alive")
_PEER = "gunicorn alone, USR2"
_PAUSE_SECONDS = 0.3  # between a reload and the next


class Taken(NamedTuple):
    """What loads said of one server, those of all modes together."""

    with_reloads: list[Result]
    without: list[Result]
    first_answers: list[float]
    """Milliseconds from each reload's asking to the first answer of the new code."""

    def of_reloads(self, field: str) -> Figures:
        """A quantity of the loads in which there were reloads."""
        return _figures(self.with_reloads, field)

    def of_quiet(self, field: str) -> Figures:
        """The same of as many requests without a reload."""
        return _figures(self.without, field)


def _figures(results: list[Result], field: str) -> Figures:
    return Figures(tuple(float(getattr(result, field)) for result in results))


def traffic(effort: Effort) -> Iterable[Row]:
    """Requests that failed, the longest pause, the slowest answers, and how soon the new code answers."""
    with NotificationSocket() as systemd, ExitStack() as kept:
        servers: dict[str, Ours | Gunicorn] = {
            "a class": Ours(systemd, "--workers", "2", WEB),
            "gunicorn, supervised": Ours(systemd, "--", *gunicorn_of_threads()),
            _PEER: Gunicorn(),
        }
        for server in servers.values():
            kept.push(server)
        taken = {name: Taken([], [], []) for name in servers}
        for _ in range(effort.loads):
            for mode in MODES:
                for name, server in servers.items():
                    _take(server, mode, effort.reloads_under_load, taken[name])
    theirs = taken.pop(_PEER)
    for name, ours in taken.items():
        yield from _rows(name, ours, theirs, effort)


def _take(server: Ours | Gunicorn, mode: str, reloads: int, into: Taken) -> None:
    with Load(server.address, mode) as load:
        load.new_answer()
        for _ in range(reloads):
            let_time_pass(server.pid, _PAUSE_SECONDS)
            asked = time.monotonic_ns()
            server.ask_reload()
            server.finish_reload()
            into.first_answers.append((load.new_answer() - asked) / 1e6)
        result = load.result()
    into.with_reloads.append(result)
    if isinstance(server, Gunicorn):
        return  # only we are compared with ourselves
    with Load(server.address, mode) as load:
        load.new_answer()
        let_time_pass(server.pid, result.seconds)
        into.without.append(load.result())


def _rows(name: str, ours: Taken, theirs: Taken, effort: Effort) -> Iterable[Row]:
    reloads = f"{effort.reloads_under_load} reloads at {RATE}/s"
    yield Row(
        f"Requests failed in {reloads}: {name}",
        "requests",
        ours.of_reloads("failed"),
        _PEER,
        theirs.of_reloads("failed"),
        limit=None,
        at_most=0.0,
    )
    for what, field in (("Longest pause", "longest_pause"), ("p99.9 latency", "p999")):
        for baseline, quantity, limit in (
            ("the same without a reload", ours.of_quiet(field), None),
            (_PEER, theirs.of_reloads(field), 1.0),
        ):
            yield Row(
                f"{what} in {reloads}: {name}",
                "ms",
                ours.of_reloads(field),
                baseline,
                quantity,
                limit=limit,
                within_noise=limit is None,
            )
    yield Row(
        f"Reload asked, to the new code's first answer: {name}",
        "ms",
        Figures(tuple(ours.first_answers)),
        _PEER,
        Figures(tuple(theirs.first_answers)),
        limit=0.5,
    )
