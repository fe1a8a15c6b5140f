"""The deadline of a state. The settings of each deadline are a column of core/phases.py."""

from typing import Protocol

from ..core.phases import PHASES
from ..core.takeover import State
from ..handover.handover import Handover
from ..linux.event_loop import EventLoop, Timer
from ..settings.settings import Settings


class DeadlineOwner(Protocol):
    """What the deadline needs from its owner."""

    state: State

    def deadline_passed(self) -> None:
        """The state has lasted too long."""


class Deadline:
    """The running deadline: at most one, which belongs to the supervisor's state."""

    def __init__(self, loop: EventLoop, settings: Settings, handover: Handover, owner: DeadlineOwner) -> None:
        self._loop, self._settings, self._handover, self._owner = loop, settings, handover, owner
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Start the deadline of the present state now; end the one before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        state = self._owner.state
        if not PHASES[state].deadline or (state is State.SERVING and self._handover.peer is None):
            return
        seconds = self.seconds_of(state)
        if state is State.EMPTY:
            seconds += self._handover.draining.seconds_left()  # the peer leaves after them if it is the main supervisor
        self._timer = self._loop.expect_within(seconds, self._owner.deadline_passed)

    def bind(self, seconds: float) -> None:
        """Let the running deadline end in this many seconds."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.expect_within(seconds, self._owner.deadline_passed)

    def put_off(self, seconds: float) -> None:
        """Let the running deadline end no earlier than in this many seconds."""
        if self._timer is not None and self._timer.seconds_left < seconds:
            self.bind(seconds)

    def longest_wait(self) -> float:
        """Seconds until this state ends at the latest: by its deadline, or by the death of a killed process."""
        parts = PHASES[self._owner.state].deadline or ("takeover_timeout",)
        return sum(map(self.seconds, parts)) + self._settings.takeover_timeout

    def seconds_of(self, state: State) -> float:
        """The whole deadline of a state, in seconds."""
        return sum(map(self.seconds, PHASES[state].deadline))

    def seconds(self, part: str) -> float:
        """The value of one setting, in seconds. "peer_" before its name means the peer's value."""
        if part.startswith("peer_"):
            peer = self._handover.peer
            return float(getattr(peer, part.removeprefix("peer_"))) if peer is not None else 0.0
        return float(getattr(self._settings, part))
