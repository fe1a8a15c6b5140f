"""The machine's journal as `journalctl -o json` tells it, also while it is being written."""

from __future__ import annotations

import collections
import contextlib
import json
import math
import os
import select
import time
from collections.abc import Callable, Iterator

Entry = dict[str, str]
"""One journal entry: MESSAGE, _PID, _SYSTEMD_UNIT, UNIT, PRIORITY, __CURSOR, …; every value is text."""

REMEMBERED_ENTRIES = 15


class NotInJournal(Exception):
    """What was waited for did not come before the deadline; the message tells what came instead."""


def entry_from_json(line: str | bytes) -> Entry:
    """One line of `journalctl -o json --all`."""
    return {field: as_text(value) for field, value in json.loads(line).items()}


def as_text(value: object) -> str:
    """journalctl gives text, a list of bytes for what is not printable, or a list of both for a repeated
    field."""
    match value:
        case None:
            return ""
        case str():
            return value
        case [int(), *_]:
            return bytes(byte for byte in value if isinstance(byte, int)).decode(errors="replace")
        case list():
            return "\n".join(map(as_text, value))
    return str(value)


class JournalFollower(Iterator[Entry]):
    """Entries as they come; each wait for one has a deadline of its own.

    The machine's guardian rings a bell when journald gets a message, and then we ask journalctl for what is
    new. `journalctl --follow` would tell 0.5 s late: journald announces its writes in bundles (twice 250 ms).
    The bell is the machine's: no two threads may wait at the same time.
    """

    def __init__(
        self, fetch: Callable[[str], list[Entry]], cursor: str, bell: int, timeout_seconds: float, what: str
    ) -> None:
        self.fetch = fetch
        self.cursor = cursor
        self.bell = bell
        self.timeout_seconds = timeout_seconds
        self.deadline = math.inf
        self.what = what
        self.unread: collections.deque[Entry] = collections.deque()
        self.seen: collections.deque[str] = collections.deque(maxlen=REMEMBERED_ENTRIES)

    def __next__(self) -> Entry:
        """The next entry; NotInJournal when none comes in time."""
        self.deadline = time.monotonic() + self.timeout_seconds
        return self.next_before_deadline()

    def wait_for(self, wanted: str | Callable[[Entry], bool], *, timeout_seconds: float | None = None) -> Entry:
        """The first entry from here on whose MESSAGE contains this text, or for which this is true."""
        limit = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        self.deadline = time.monotonic() + limit
        while True:
            entry = self.next_before_deadline()
            if wanted in entry.get("MESSAGE", "") if isinstance(wanted, str) else wanted(entry):
                return entry

    def next_before_deadline(self) -> Entry:
        while not self.unread:
            # In this order: what comes after the silencing rings anew.
            self.silence_bell()
            self.unread.extend(self.fetch(self.cursor))
            if not self.unread:
                self.wait_for_bell()
        entry = self.unread.popleft()
        self.cursor = entry["__CURSOR"]
        self.seen.append(as_line(entry))
        return entry

    def silence_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self.bell, 4096):
                pass
            raise NotInJournal(f"The machine was taken away {self.told_so_far()}")

    def wait_for_bell(self) -> None:
        poller = select.poll()
        poller.register(self.bell, select.POLLIN)
        if not poller.poll(max(0, self.deadline - time.monotonic()) * 1000):
            raise NotInJournal(f"What was waited for did not come in time {self.told_so_far()}")

    def told_so_far(self) -> str:
        seen = "\n  ".join(self.seen) or "nothing"
        return f"({self.what}); seen:\n  {seen}"


def as_line(entry: Entry) -> str:
    """An entry for people: the seconds within the quarter of an hour, who, what."""
    seconds = int(entry["__REALTIME_TIMESTAMP"]) / 1e6 % 1000
    return f"{seconds:07.3f} {entry.get('SYSLOG_IDENTIFIER')}[{entry.get('_PID')}]: {entry.get('MESSAGE')}"
