"""The progress of a reload on a terminal, as a line that is redrawn below lines that stay; and as JSON for programs."""

import json
import sys
import time
from collections.abc import Mapping

from ..core.phases import PHASES
from ..linux.channel import Sender
from .reload_output import ReloadOutput, success
from .terminal import Screen, cut, duration

_TICK_SECONDS = 0.1
_BAR_CELLS = 20

_WAITING = "an earlier generation leaves"


def reporter(*, as_json: bool) -> ReloadOutput:
    """The output for JSON, or for standard output: a line that is redrawn if the terminal can do that."""
    if as_json:
        return _Json()
    screen = Screen()
    return _Live(screen) if screen.can_redraw else ReloadOutput()


class _Live(ReloadOutput):
    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        fancy = (screen.stream.encoding or "").lower().replace("-", "") == "utf8"
        self._spinner, self._full, self._empty = ("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "█", "░") if fancy else ("|/-\\", "#", ".")
        self._began = self._phase_ends = 0.0
        self._phase = ""
        self._ready = self._workers = self._drawn = 0

    def begin(self, name: str) -> None:
        self._began, self._phase, self._workers = time.monotonic(), "asked", 0

    def progress(self, facts: Mapping[str, object]) -> None:
        self._phase = str(facts.get("phase", self._phase))
        at_most, ready, workers = facts.get("at_most"), facts.get("ready"), facts.get("workers")
        if isinstance(at_most, int | float):
            self._phase_ends = time.monotonic() + at_most
        if isinstance(ready, int) and isinstance(workers, int):
            self._ready, self._workers = ready, workers
        if facts.get("message"):
            self._stay(str(facts["message"]))
        self.tick()

    def tick(self) -> float:
        now, width = time.monotonic(), self._screen.columns or 80
        self._drawn += 1
        parts = [f"{self._spinner[self._drawn % len(self._spinner)]} {_doing(self._phase)}"]
        if self._workers:
            filled = _BAR_CELLS * self._ready // self._workers if width >= 100 else 0
            bar = f"{self._full * filled}{self._empty * (_BAR_CELLS - filled)} " if width >= 100 else ""
            parts.append(f"{bar}workers ready {self._ready}/{self._workers}")
        parts.append(duration(now - self._began))
        if self._phase_ends > now:
            parts.append(f"at most {duration(self._phase_ends - now)} more")
        self._write(f"\r\x1b[K{cut('   '.join(parts), width - 1)}")
        return _TICK_SECONDS

    def end(self) -> None:
        self._write("\r\x1b[K")

    def done(self, facts: Mapping[str, object]) -> None:
        print(self._screen.paint(self._screen.wrap(success(facts)), "good"), flush=True)

    def _stay(self, text: str) -> None:
        self._write(f"\r\x1b[K{self._screen.wrap(text)}\n")

    def _write(self, text: str) -> None:
        self._screen.stream.write(text)
        self._screen.stream.flush()


def _doing(phase: str) -> str:
    """What happens in a phase, for the user; the phase's name if it is unknown."""
    if phase == "waiting":
        return _WAITING
    return next((row.doing for state, row in PHASES.items() if state.name.lower() == phase and row.doing), phase)


class _Json(ReloadOutput):
    def __init__(self) -> None:
        self._name: Mapping[str, str] = {}

    def begin(self, name: str) -> None:
        self._name = {"instance": name} if name else {}

    def progress(self, facts: Mapping[str, object]) -> None:
        self._print(facts)

    def done(self, facts: Mapping[str, object]) -> None:
        self._print(facts)

    def failed(self, error: str, facts: Mapping[str, object], sender: Sender | None) -> None:
        self._print({"verdict": "failed" if error == "ReloadFailed" else "refused", **facts})

    def lost(self, sentence: str) -> None:
        self._print({"verdict": "unknown", "reason": sentence})

    def _print(self, facts: Mapping[str, object]) -> None:
        print(json.dumps({**self._name, **facts}), file=sys.stdout, flush=True)
