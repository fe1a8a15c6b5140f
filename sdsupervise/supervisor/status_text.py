"""How a supervisor stands, in words: one true sentence for STATUS= and people, from plain facts."""

from typing import NamedTuple

from ..core.phases import PHASES
from ..core.takeover import State

DOWN = "down"  # what a supervisor's state is called that would be "serving", and no worker of it is


def state_name(state: State, serving: int) -> str:
    """As everybody is told it: what is called serving serves."""
    return state.name.lower() if state is not State.SERVING or serving else DOWN


class StatusText(NamedTuple):
    """What the sentence is made of."""

    state: State
    generation: int
    peer_generation: int
    code: str
    peer_code: str
    serving: int  # so many workers of ours serve
    workers: int  # and there should be so many
    trouble: str  # why one is missing, "" if nothing is known
    last_reload: str  # what is to be remembered of it, "" if it went well
    gave_up_because: str  # "" if it did not

    def sentence(self) -> str:
        """As STATUS= shows it."""
        if self.gave_up_because:
            return self.gave_up_because  # up to the end: the last STATUS outlives us
        phase = PHASES[self.state]
        text = self.sentence_of_phase()
        if self.state is State.OPENING and self.trouble:
            return f"{text}: {self.trouble}"
        if phase.serves == "peer" and phase.main_state == "ready":
            return f"{text} {self.peer_code}"
        return f"{text}. {self.last_reload}" if self.state is State.SERVING and self.last_reload else text

    def sentence_of_phase(self) -> str:
        """The same without what goes beyond this moment, or is known to those who follow a reload."""
        phase = PHASES[self.state]
        text = phase.status.format(own=self.generation, peer=self.peer_generation)
        if phase.serves != "own":
            return text
        # Only what stands before it is about us: "Generation 1 serves, generation 2 is starting".
        own, *others = text.split(", ")
        told = self._how_own_workers_serve(own)
        return ("; " if ":" in told else ", ").join([told, *others])

    def _how_own_workers_serve(self, text: str) -> str:
        if not self.serving:
            return f"Nobody serves (generation {self.generation}): {self.trouble or 'a worker is starting'}"
        text = f"{text} {self.code}" if self.state is State.SERVING else text
        if self.serving < self.workers:
            text += f" with {self.serving} of {self.workers} workers: {self.trouble or 'others are starting'}"
        return text
