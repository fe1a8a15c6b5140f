"""The state of a supervisor as one true sentence, for STATUS= and operators."""

from typing import NamedTuple

from ..core.phases import PHASES
from ..core.takeover import State

DOWN = "down"  # the public name of SERVING while no worker serves


def state_name(state: State, serving: int) -> str:
    """The public name of a state. "serving" appears only if a worker serves."""
    return state.name.lower() if state is not State.SERVING or serving else DOWN


class StatusText(NamedTuple):
    """The facts that the sentence is made of."""

    state: State
    generation: int
    peer_generation: int
    code: str
    peer_code: str
    serving: int  # the number of our workers that serve
    workers: int  # the number that there should be
    trouble: str  # why a worker is missing; "" if unknown
    last_reload: str  # a remark about it; "" if it went well
    gave_up_because: str  # "" if it does not end the service

    def sentence(self) -> str:
        """The sentence for STATUS=."""
        if self.gave_up_because:
            return self.gave_up_because  # systemd shows the last STATUS= after the exit, too
        phase = PHASES[self.state]
        text = self.sentence_of_phase()
        if self.state is State.OPENING and self.trouble:
            return f"{text}: {self.trouble}"
        if phase.serves == "peer" and phase.main_state == "ready":
            return f"{text} {self.peer_code}"
        return f"{text}. {self.last_reload}" if self.state is State.SERVING and self.last_reload else text

    def sentence_of_phase(self) -> str:
        """The sentence for callers that follow a reload: the present moment, without what they know."""
        phase = PHASES[self.state]
        text = phase.status.format(own=self.generation, peer=self.peer_generation)
        if phase.serves != "own":
            return text
        # Only the first part is about this generation: "Generation 1 serves, generation 2 is starting".
        own, *others = text.split(", ")
        sentence = self._how_own_workers_serve(own)
        return ("; " if ":" in sentence else ", ").join([sentence, *others])

    def _how_own_workers_serve(self, text: str) -> str:
        if not self.serving:
            return f"Nobody serves (generation {self.generation}): {self.trouble or 'a worker is starting'}"
        text = f"{text} {self.code}" if self.state is State.SERVING else text
        if self.serving < self.workers:
            text += f" with {self.serving} of {self.workers} workers: {self.trouble or 'others are starting'}"
        return text
