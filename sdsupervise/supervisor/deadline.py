"""The deadline of a state: its settings are a column of core/phases.py."""

from typing import Protocol

from ..core.phases import PHASES
from ..core.takeover import State
from ..handover.handover import Handover
from ..linux.event_loop import EventLoop, Timer
from ..settings.settings import Settings


class DeadlineOwner(Protocol):
    """What is told when it passes."""

    state: State

    def deadline_passed(self) -> None:
        """The state has lasted too long."""


class Deadline:
    """At most one runs, that of the state the supervisor is in."""

    def __init__(self, loop: EventLoop, settings: Settings, handover: Handover, owner: DeadlineOwner) -> None:
        self._loop, self._settings, self._handover, self._owner = loop, settings, handover, owner
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Let that of the state run, from now on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        state = self._owner.state
        if not PHASES[state].deadline or (state is State.SERVING and self._handover.peer is None):
            return
        seconds = self.seconds_of(state)
        if state is State.EMPTY:
            seconds += self._handover.draining.seconds_left()  # the peer, if it is the main one, leaves after them
        self._timer = self._loop.expect_within(seconds, self._owner.deadline_passed)

    def bind(self, seconds: float) -> None:
        """The one that runs ends in so many seconds."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.expect_within(seconds, self._owner.deadline_passed)

    def put_off(self, seconds: float) -> None:
        """The same, if it ends sooner now."""
        if self._timer is not None and self._timer.seconds_left < seconds:
            self.bind(seconds)

    def longest_wait(self) -> float:
        """Seconds until this state ends at the latest, by its deadline or by the death of a process that was killed."""
        parts = PHASES[self._owner.state].deadline or ("takeover_timeout",)
        return sum(map(self.seconds, parts)) + self._settings.takeover_timeout

    def seconds_of(self, state: State) -> float:
        """The whole deadline of a state."""
        return sum(map(self.seconds, PHASES[state].deadline))

    def seconds(self, part: str) -> float:
        """One setting of a deadline; "peer_" before its name means that the peer has said it."""
        if part.startswith("peer_"):
            peer = self._handover.peer
            return float(getattr(peer, part.removeprefix("peer_"))) if peer is not None else 0.0
        return float(getattr(self._settings, part))
