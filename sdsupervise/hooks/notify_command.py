"""Runs notify_command to inform operators of events, without delaying anything else.

The main supervisor at that time runs it. For "reloaded" that is the successor, to which the predecessor sends the
verdict before it leaves. One command runs at a time, in the order of the events. If too many wait, the oldest one is
dropped. A supervisor that leaves waits for the last ones, within a time limit, and drops the rest.

Rejected: a process for each run that outlives its supervisor. Nothing would end it when the service stops.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..linux.event_loop import EventLoop, Timer
from ..systemd.catalog import CatalogEntry, entry_fields
from ..systemd.units import unit_of
from .hook import Hook

_log = logging.getLogger("sdsupervise")

_MOST_WAITING = 4  # runs
_MOST_CHARACTERS = 4000  # of one variable; the kernel's limit is 128 KiB

EVENTS = (
    *(CatalogEntry.RELOADED, CatalogEntry.ROLLED_BACK, CatalogEntry.NOBODY_SERVES),
    *(CatalogEntry.CRASH_LOOP, CatalogEntry.CRASH_LOOP_OVER, CatalogEntry.GAVE_UP),
)

# The environment of the command. Each run has each variable; it may be empty.
VARIABLES: Mapping[str, str] = {
    "SDSUPERVISE_EVENT": f"what happened: {', '.join(entry.word for entry in EVENTS)}",
    "SDSUPERVISE_NAME": "the service, as `sdsupervise status` calls it",
    "SDSUPERVISE_GENERATION": "the generation that serves now, or should, counted from 1",
    "SDSUPERVISE_VERDICT": "of a reload: done, or failed",
    "SDSUPERVISE_REASON": "why it failed (and why nobody serves), why workers crash, or why it gave up",
    "SDSUPERVISE_DURATION_SEC": "how long the reload took: seconds, with fractions",
    "SDSUPERVISE_CODE": "the code that serves now: its path and fingerprint",
    "SDSUPERVISE_PID": "the supervisor",
    "SDSUPERVISE_UNIT": "the unit, if systemd runs it",
}


class NotifyCommand:
    """The runs of one supervisor. Calls `on_idle` when none runs or waits any more."""

    def __init__(
        self,
        loop: EventLoop,
        command: Sequence[str],
        timeout_seconds: float,
        *,
        facts: Mapping[str, str],
        on_idle: Callable[[], None],
    ) -> None:
        """`facts` gives the variables that are the same in each run: NAME and GENERATION, see VARIABLES."""
        self._loop, self._command, self._timeout_seconds, self._on_idle = loop, command, timeout_seconds, on_idle
        self._facts = {**facts, "PID": str(os.getpid()), "UNIT": _own_unit()}
        self._waiting: deque[tuple[CatalogEntry, dict[str, str]]] = deque()
        self._current: Hook | None = None
        self._end: Timer | None = None

    @property
    def busy(self) -> bool:
        """Whether a command runs or waits."""
        return self._current is not None or bool(self._waiting)

    def tell(
        self, entry: CatalogEntry, *, code: str, verdict: str = "", reason: str = "", seconds: float | None = None
    ) -> None:
        """Run the command for this event when its turn comes; `seconds` is the duration of a reload."""
        changing = {
            "EVENT": entry.word,
            "CODE": code,
            "VERDICT": verdict,
            "REASON": reason,
            "DURATION_SEC": "" if seconds is None else f"{seconds:.3f}",
        }
        texts = {**self._facts, **changing}
        environment = {variable: texts.get(variable.removeprefix("SDSUPERVISE_"), "") for variable in VARIABLES}
        if len(self._waiting) == _MOST_WAITING:
            self._drop(self._waiting.popleft()[0], f"{_MOST_WAITING} others wait for their turn")
        self._waiting.append((entry, {name: _fit(text) for name, text in environment.items()}))
        self._run_next()

    def finish(self, *, within_seconds: float) -> None:
        """The supervisor leaves: abandon what still runs or waits after this many seconds."""
        if self.busy and (self._end is None or self._end.seconds_left > within_seconds):
            if self._end is not None:
                self._end.cancel()
            self._end = self._loop.expect_within(within_seconds, lambda: self.abandon("the supervisor leaves"))

    def abandon(self, why: str) -> None:
        """Kill the running command, and drop all that wait."""
        while self._waiting:
            self._drop(self._waiting.popleft()[0], why)
        if self._current is not None:
            self._current.kill(f"was killed because {why}")

    def _run_next(self) -> None:
        while self._current is None and self._waiting:
            entry, environment = self._waiting.popleft()
            try:
                self._current = Hook(
                    self._loop,
                    "notify_command",
                    self._command,
                    self._timeout_seconds,
                    environment=environment,
                    on_end=partial(self._ended, entry),
                )
            except OSError as error:
                self._complain(entry, f"Cannot fork notify_command: {error.strerror}")

    def _ended(self, entry: CatalogEntry, why_failed: str, _output: str) -> None:
        self._current = None
        if why_failed:
            self._complain(entry, why_failed)
        self._run_next()
        if not self.busy:
            if self._end is not None:
                self._end.cancel()
                self._end = None
            self._on_idle()

    def _drop(self, entry: CatalogEntry, why: str) -> None:
        self._complain(entry, f"notify_command is not run: {why}")

    @staticmethod
    def _complain(entry: CatalogEntry, what: str) -> None:
        extra = entry_fields(CatalogEntry.NOTIFY_FAILED, reason=what)
        _log.warning("The event %s may not have been reported: %s", entry.word, what, extra=extra)


def _own_unit() -> str:
    """The unit of this process if systemd started it; "" in a shell, whose unit is not ours."""
    return unit_of(os.getpid())[0] if {"INVOCATION_ID", "NOTIFY_SOCKET"} <= os.environ.keys() else ""


def _fit(text: str) -> str:
    """The text in a form that fits an environment variable."""
    return text.replace("\0", "")[:_MOST_CHARACTERS]
