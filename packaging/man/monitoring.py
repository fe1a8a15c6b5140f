"""What a supervisor tells those who watch it: events in the journal, numbers, and calls of notify_command."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from sdsupervise.cli import metrics
from sdsupervise.hooks import notify_command
from sdsupervise.systemd import catalog

_CATALOG = Path(__file__).parents[2] / "units" / "sdsupervise.catalog"


class Event(NamedTuple):
    """What `journalctl -x` says of one."""

    word: str
    message_id: str
    subject: str


class Metric(NamedTuple):
    """One of `sdsupervise metrics`."""

    name: str
    labels: tuple[str, ...]
    meaning: str


def fields() -> str:
    """The fields of an entry in the journal, as catalog.py has them."""
    (table,) = re.findall(r"(?<=\n\n)    .*?(?=\n\n)", catalog.__doc__ or "", re.DOTALL)
    return inspect.cleandoc(table)


def every_event() -> Iterator[Event]:
    """In the order of catalog.py."""
    subjects = dict(re.findall(r"^-- (\w{32})\nSubject: (.+)$", _CATALOG.read_text(), re.MULTILINE))
    return (Event(entry.word, entry.value, subjects[entry.value]) for entry in catalog.CatalogEntry)


def variables() -> Mapping[str, str]:
    """What notify_command finds in its environment."""
    return notify_command.VARIABLES


def every_metric() -> list[Metric]:
    """What the command tells of an instance that has everything; the library it writes by need not be there."""
    recorder = _Recorder()
    me = os.getpid()  # whose memory can be looked up
    worker = {"index": 0, "pid": me, "state": "serving", "age": 1.0, "last_ping": 1.0}
    counters = {
        **{"reloads": {"done": 1}, "reload_seconds": {"done": 1.0}, "phases": {"starting_successor": 1}},
        **{"phase_seconds": {"starting_successor": 1.0}, "crashes": {"exit": 1}},
        **{"starts": {"all": 1}, "crash_loops": {"all": 1}},
    }
    facts = {
        **{"name": "", "version": "", "healthy": True, "generation": 1, "handover": "", "pid": me, "spare": None},
        **{"code": {"path": "", "fingerprint": ""}, "sockets": [{"name": "", "address": ""}], "draining": []},
        **{"pool": {"workers": 1, "serving": 1}, "workers": [worker], "counters": counters},
        "last_reload": {"asked_at": 0.0, "seconds": 0.0, "verdict": "done"},
    }
    metrics._tell_instance(cast(Any, recorder), facts, os.getuid())
    return list(recorder.metrics.values())


class _Recorder:
    """Takes numbers as metrics._Numbers does, and keeps what they are called."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}

    def gauge(self, name: str, meaning: str, _value: float, /, **labels: object) -> None:
        self._keep(name, labels, meaning)

    def counter(self, name: str, meaning: str, _value: float, /, **labels: object) -> None:
        self._keep(f"{name}_total", labels, meaning)

    def summary(self, name: str, meaning: str, _count: float, _seconds: float, /, **labels: object) -> None:
        self._keep(f"{name}_count", labels, meaning)
        self._keep(f"{name}_sum", labels, meaning)

    def info(self, name: str, meaning: str, /, **texts: object) -> None:
        self._keep(f"{name}_info", texts, meaning)

    def _keep(self, name: str, labels: Mapping[str, object], meaning: str) -> None:
        self.metrics[name] = Metric(f"sdsupervise_{name}", tuple(labels), meaning)
