"""One reload, from being asked for to its one verdict, as the predecessor keeps it."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..control.server import Call
from ..linux.event_loop import EventLoop
from ..linux.output_tail import OutputTail
from ..systemd import logs


class OldCode(NamedTuple):
    """How the old generation stands when its reload has failed."""

    generation: int
    code: str
    workers: int  # how many there are to be
    serving: int
    trouble: str  # why one is missing, "" if nothing is known
    was_stopped: bool  # the workers that serve, or do not, were started anew
    from_disk: bool  # and executed from what is on disk, as a command's are
    stops: bool  # the service stops: somebody asked for that

    @property
    def serves(self) -> bool:
        """Somebody does, and goes on with it."""
        return self.serving > 0 and not self.stops

    def facts(self) -> dict[str, object]:
        """For programs."""
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
        """For people."""
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
        fate = f"{were} stopped and started again{disk}" if self.was_stopped else f"{were} never stopped"
        return f"G{who} still serves{missing}; {its} {fate}."


class Reload:
    """Who asked, how it goes, and how it ended."""

    def __init__(
        self, asked_by: str, call: Call | None, *, by_systemd: bool, spawn_there: bool, not_applied: str = ""
    ) -> None:
        self.asked_by = asked_by
        self.by_systemd = by_systemd  # the caller is an ExecReload= process of our unit's
        self.spawn_there = spawn_there  # and is to fork and exec the successor
        # Why it does not bring what has changed in the unit, "" if it does, or nobody has asked systemd for that.
        self.not_applied = not_applied
        self.call = call
        self.followers: Sequence[Call] = ()  # who hear all that the caller hears
        self.stopped_workers = False  # from then on a rollback means starting them anew
        self.asked_at = time.time()
        self._began = self._phase_began = time.monotonic()
        self._phases: dict[str, float] = {}
        self._phase = ""
        self._verdict = ""
        self._reason = ""
        self._seconds = 0.0
        self._stderr: OutputTail | None = None

    def enter(self, phase: str, sentence: str, *, at_most: float) -> None:
        """It is in this phase now, for so many seconds at most; the caller hears the sentence. A phase without one is
        over at once, and part of the one before."""
        if not sentence:
            return
        self._end_phase()
        self._phase = phase
        self._tell({"message": sentence, "at_most": at_most})

    def note(self, sentence: str) -> None:
        """Tell the caller something within a phase."""
        self._tell({"message": sentence})

    def count(self, ready: int, workers: int) -> None:
        """So many of the new workers are ready."""
        self._tell({"ready": ready, "workers": workers})

    def bound(self, sentence: str, *, at_most: float) -> None:
        """This phase may take so many seconds from now; the caller waits so long, and hears why if there is anything to
        say."""
        self._tell({"at_most": at_most, **({"message": sentence} if sentence else {})})

    def succeed(self, facts: Mapping[str, object]) -> None:
        """The verdict "done"."""
        self._end("done", "")
        for call in self._callers():
            call.reply({**self._common(), "verdict": "done", "phases": self._phases, **facts})

    def fail(self, reason: str, traceback: str, facts: Mapping[str, object]) -> None:
        """The verdict "failed"."""
        traceback = _without_reason(traceback, reason)
        self._end("failed", reason)
        for call in self._callers():
            call.fail("ReloadFailed", {**self._common(), "reason": reason, "traceback": traceback, **facts})

    def _tell(self, facts: Mapping[str, object]) -> None:
        for call in self._callers():
            call.progress({"phase": self._phase, **facts})

    def _callers(self) -> list[Call]:
        """The one who asked comes last: when that is the process of ExecReload=, and it ends, the others have heard."""
        return [*self.followers, *([self.call] if self.call is not None else [])]

    def _common(self) -> dict[str, object]:
        return {"seconds": self._seconds, "not_applied": self.not_applied}

    def refuse(self, reason: str, *, stops: bool) -> None:
        """It never began; `stops` says that the service is to end."""
        self._end("refused", reason)
        for call in self._callers():
            call.fail("ReloadRefused", {"reason": reason, "stops": stops})

    @property
    def seconds(self) -> float:
        """How long it took, from being asked for to its verdict."""
        return self._seconds

    def facts(self) -> dict[str, object]:
        """What status shows of it."""
        return {
            "asked_at": self.asked_at,
            "asked_by": self.asked_by,
            "verdict": self._verdict,
            "reason": self._reason,
            "not_applied": self.not_applied,
            "seconds": round(self._seconds, 3),
            "phases": {name: round(seconds, 3) for name, seconds in self._phases.items()},
        }

    # -------------------------------------------------------------------- what the successor's interpreter says

    def watch_stderr(self, loop: EventLoop, reader: int) -> None:
        """Pass on what the successor writes to standard error before it has its own, and keep the end of it."""
        self._stderr = OutputTail(loop, reader, pass_on=logs.pass_on)

    def last_words(self) -> str:
        """The end of what it wrote, all of it read."""
        return self._stderr.text() if self._stderr is not None else ""

    def close_in_child(self) -> None:
        """In a forked worker, its copy of the pipe."""
        if self._stderr is not None:
            self._stderr.close_in_child()

    def _end_phase(self) -> None:
        """What comes before the first phase, the forks, counts as part of it: so the phases add up to the whole."""
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
    """What is to be remembered of the last reload, by what status shows of it: one sentence; "" if there is nothing."""
    asked_at = facts.get("asked_at") if facts is not None else None
    if facts is None or not isinstance(asked_at, int | float):
        return ""
    when = time.strftime("%H:%M:%S", time.localtime(asked_at))
    if facts.get("verdict") == "failed":
        return f"Reload {when} failed: {facts.get('reason')}"
    return f"Reload {when} applied no change of the unit: {why}" if (why := facts.get("not_applied")) else ""


def _without_reason(traceback: str, reason: str) -> str:
    """What is to be said beside the reason: not the same again, unless Python says it at the end of its traceback."""
    *above, last = traceback.strip().splitlines() or [""]
    return "\n".join(above) if last == reason and not (above and above[-1].startswith(" ")) else traceback
