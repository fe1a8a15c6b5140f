"""One reload in the predecessor, from the request to the verdict."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from ..control.server import Call
from ..linux.event_loop import EventLoop
from ..linux.output_tail import OutputTail
from ..systemd import logs
from ..workers.pool import Pool
from .started import Started


class OldCode(NamedTuple):
    """The state of the old generation when its reload has failed."""

    generation: int
    code: str
    workers: int  # how many there should be
    serving: int
    trouble: str  # why a worker is missing; "" if unknown
    was_stopped: bool  # the old workers were stopped, and then started again
    from_disk: bool  # they are executed from disk, as a command is
    is_new: bool  # what is on disk has changed, so that they are not the old code any more
    stops: bool  # an operator has asked the service to stop
    how: str = ""  # what became of them, as a verb, if they ended by themselves

    @classmethod
    def now(
        cls, started: Started, pool: Pool, *, was_stopped: bool, from_disk: bool, stops: bool, how: str = ""
    ) -> Self:
        """The present state."""
        version = started.code_version
        state = (started.generation, str(version), pool.size, pool.serving, pool.trouble)
        return cls(*state, was_stopped, from_disk, version.replaced, stops, how)

    @property
    def serves(self) -> bool:
        """Whether a worker serves and continues to do so."""
        return self.serving > 0 and not self.stops

    def facts(self) -> dict[str, object]:
        """The state as fields of the reply."""
        return {
            "generation": self.generation,
            "code": self.code,
            "worker_was_stopped": self.was_stopped,
            "workers": self.workers,
            "serving": self.serving,
            "serves": self.serves,
            "stops": self.stops,
            "from_disk": self.from_disk,
            "outcome": self.sentence(),
        }

    def sentence(self) -> str:
        """The state as a sentence for the operator."""
        if self.stops:
            return "The service is stopping."
        who, disk = f"eneration {self.generation}, {self.code},", " from what is on disk" * self.from_disk
        its, were = ("its worker", "was") if self.workers == 1 else ("its workers", "were")
        if not self.serving:
            what = f"was started again{disk} and does not become ready" if self.was_stopped else "is down"
            return f"NOBODY SERVES: g{who} {what}: {self.trouble or f'{its} {were} not ready in time'}."
        missing = ""
        if self.serving < self.workers:
            why = f": {self.trouble}" if self.trouble else ""
            missing = f" with {self.serving} of {self.workers} workers{why}"
        again = (self.how or f"{were} stopped and started again") + disk
        if self.was_stopped and self.is_new:
            return f"G{who} serves{missing}, but with changed code: {its} {again}."
        fate = again if self.was_stopped else f"{were} never stopped"
        return f"G{who} still serves{missing}; {its} {fate}."


class Reload:
    """Who asked for the reload, its phases, and its verdict."""

    def __init__(
        self, asked_by: str, call: Call | None, *, by_systemd: bool, spawn_there: bool, not_applied: str = ""
    ) -> None:
        self.asked_by = asked_by
        self.by_systemd = by_systemd  # the caller is an ExecReload= process of our unit
        self.spawn_there = spawn_there  # the caller starts the successor
        # Why the reload does not apply changes of the unit; "" if it does, or if systemd was not asked to.
        self.not_applied = not_applied
        self.call = call
        self.followers: Sequence[Call] = ()  # get all replies that the caller gets
        self.stopped_workers = False  # if True, a rollback starts the old workers again
        self.asked_at = time.time()
        self._began = self._phase_began = time.monotonic()
        self._phases: dict[str, float] = {}
        self._phase = ""
        self._verdict = ""
        self._reason = ""
        self._seconds = 0.0
        self._stderr: OutputTail | None = None

    def enter(self, phase: str, sentence: str, *, at_most: float) -> None:
        """Enter a phase that takes `at_most` so many seconds, and send the sentence to the caller.

        A phase without a sentence is over at once, and counts as a part of the phase before.
        """
        if not sentence:
            return
        self._end_phase()
        self._phase = phase
        self._tell({"message": sentence, "at_most": at_most})

    def note(self, sentence: str) -> None:
        """Send the caller a sentence within a phase."""
        self._tell({"message": sentence})

    def count(self, ready: int, workers: int) -> None:
        """Send the caller how many of the new workers are ready."""
        self._tell({"ready": ready, "workers": workers})

    def bound(self, sentence: str, *, at_most: float) -> None:
        """The phase may take `at_most` so many seconds from now. The caller waits so long, and gets the sentence."""
        self._tell({"at_most": at_most, **({"message": sentence} if sentence else {})})

    def succeed(self, facts: Mapping[str, object]) -> None:
        """Set the verdict "done", and reply to the callers."""
        self._end("done", "")
        for call in self._callers():
            call.reply({**self._common(), "verdict": "done", "phases": self._phases, **facts})

    def fail(self, reason: str, traceback: str, facts: Mapping[str, object]) -> None:
        """Set the verdict "failed", and reply to the callers."""
        traceback = _without_reason(traceback, reason)
        self._end("failed", reason)
        for call in self._callers():
            call.fail("ReloadFailed", {**self._common(), "reason": reason, "traceback": traceback, **facts})

    def _tell(self, facts: Mapping[str, object]) -> None:
        for call in self._callers():
            call.progress({"phase": self._phase, **facts})

    def _callers(self) -> list[Call]:
        """All callers. The first one comes last: all have their reply when it ends, which may be ExecReload=."""
        return [*self.followers, *([self.call] if self.call is not None else [])]

    def _common(self) -> dict[str, object]:
        return {"seconds": self._seconds, "not_applied": self.not_applied}

    def refuse(self, reason: str, *, stops: bool) -> None:
        """Refuse a reload that has not begun; `stops` says that the service stops."""
        self._end("refused", reason)
        for call in self._callers():
            call.fail("ReloadRefused", {"reason": reason, "stops": stops})

    @property
    def seconds(self) -> float:
        """Seconds from the request to the verdict."""
        return self._seconds

    def facts(self) -> dict[str, object]:
        """What status shows of the reload; times in seconds."""
        return {
            "asked_at": self.asked_at,
            "asked_by": self.asked_by,
            "verdict": self._verdict,
            "reason": self._reason,
            "not_applied": self.not_applied,
            "seconds": round(self._seconds, 3),
            "phases": {name: round(seconds, 3) for name, seconds in self._phases.items()},
        }

    # ------------------------------------------------------------------ output of the successor's interpreter

    def watch_stderr(self, loop: EventLoop, reader: int) -> None:
        """Pass on what the successor writes to standard error before it opens its own, and keep the last part."""
        self._stderr = OutputTail(loop, reader, pass_on=logs.pass_on)

    def last_words(self) -> str:
        """The last part of that output."""
        return self._stderr.text() if self._stderr is not None else ""

    def close_in_child(self) -> None:
        """Close a forked worker's copy of the pipe."""
        if self._stderr is not None:
            self._stderr.close_in_child()

    def _end_phase(self) -> None:
        """End the phase. The time before the first phase counts as part of it, so the phases add up to the total."""
        now = time.monotonic()
        if self._phase:
            self._phases[self._phase] = self._phases.get(self._phase, 0.0) + now - self._phase_began
            self._phase_began = now

    def _end(self, verdict: str, reason: str) -> None:
        self._end_phase()
        self._verdict, self._reason = verdict, reason
        self._seconds = (self._phase_began if self._phase else time.monotonic()) - self._began
        if self._stderr is not None:
            self._stderr.close()


def remark(facts: Mapping[str, object] | None) -> str:
    """One sentence about the last reload, from its facts in status; "" if there is nothing to mention."""
    asked_at = facts.get("asked_at") if facts is not None else None
    if facts is None or not isinstance(asked_at, int | float):
        return ""
    when = time.strftime("%H:%M:%S", time.localtime(asked_at))
    if facts.get("verdict") == "failed":
        return f"Reload {when} failed: {facts.get('reason')}"
    return f"Reload {when} applied no change of the unit: {why}" if (why := facts.get("not_applied")) else ""


def _without_reason(traceback: str, reason: str) -> str:
    """The traceback without the reason as its last line, except if Python's own traceback ends in it."""
    *above, last = traceback.strip().splitlines() or [""]
    return "\n".join(above) if last == reason and not (above and above[-1].startswith(" ")) else traceback
