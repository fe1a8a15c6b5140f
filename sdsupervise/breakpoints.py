"""Test only: hold a supervisor at one transition of the takeover table, without sleeping.

SDSUPERVISE_BREAKPOINT=STATE+EVENT[/N]:DIRECTORY makes a supervisor that is about to perform effect N (default 0, the
first; one past the last: after all) of that rule write its pid to the FIFO DIRECTORY/reached and then read the FIFO
DIRECTORY/go to its end, blocked as if it hung. A successor inherits the variable, and each side passes other
transitions, so the name tells which side is meant. Each transition is held once. Nobody sets this in production.
"""

import os
from typing import NamedTuple, Self

VARIABLE = "SDSUPERVISE_BREAKPOINT"


class Breakpoint(NamedTuple):
    """Where to hold, and the directory of the two FIFOs."""

    transition: str
    effect: int
    directory: str

    @classmethod
    def from_environment(cls) -> Self | None:
        """The breakpoint asked for, if any."""
        value = os.environ.get(VARIABLE, "")
        place, _, directory = value.partition(":")
        transition, _, effect = place.partition("/")
        return cls(transition, int(effect or 0), directory) if directory else None

    def hold_at(self, transition: str, effect: int) -> bool:
        """Block if this is the place; True once it was."""
        if (transition, effect) != (self.transition, self.effect):
            return False
        with open(os.path.join(self.directory, "reached"), "w") as reached:
            reached.write(str(os.getpid()))
        with open(os.path.join(self.directory, "go")) as go:
            go.read()
        return True
