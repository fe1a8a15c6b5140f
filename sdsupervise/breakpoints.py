"""Test only: hold a supervisor at a transition of the takeover table, without sleeping. Nobody sets this in production.

SDSUPERVISE_BREAKPOINT has one of two forms. A place in them is an effect of a rule: STATE+EVENT/N is where a supervisor
is about to perform effect N of that rule (0: the first; one past the last: all are done). A successor inherits the
variable, and a supervisor that is held is blocked as if it hung.

STATE+EVENT[/N]:DIRECTORY
    holds at this one place, once: writes our pid to the FIFO DIRECTORY/reached, then reads the FIFO DIRECTORY/go to its
    end. Each side of a reload passes other transitions, so the place tells which side is meant.
/PATH
    tells of every place: connects to the SOCK_SEQPACKET socket PATH, sends the place, and goes on when the other end
    hangs up. Whoever listens sees all that a supervisor decides, knows which one it is (SO_PEERCRED), and holds it by
    not hanging up. Where nobody listens we just go on.
"""

import os
from typing import NamedTuple, Self

from .unpatched import socket

VARIABLE = "SDSUPERVISE_BREAKPOINT"


class Breakpoint(NamedTuple):
    """Where to hold ("" = ask at every place), and the FIFOs' directory or the socket."""

    transition: str
    effect: int
    path: str

    @classmethod
    def from_environment(cls) -> Self | None:
        """The breakpoint asked for, if any."""
        value = os.environ.get(VARIABLE, "")
        if value.startswith("/"):
            return cls("", 0, value)
        place, _, directory = value.partition(":")
        transition, _, effect = place.partition("/")
        return cls(transition, int(effect or 0), directory) if directory else None

    def hold_at(self, transition: str, effect: int) -> bool:
        """Block if this is a place to hold at; True once there is no other."""
        if not self.transition:
            self._ask(f"{transition}/{effect}")
            return False
        if (transition, effect) != (self.transition, self.effect):
            return False
        with open(os.path.join(self.path, "reached"), "w") as reached:
            reached.write(str(os.getpid()))
        with open(os.path.join(self.path, "go")) as go:
            go.read()
        return True

    def _ask(self, place: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            try:
                listener.connect(self.path)
                listener.send(place.encode())
                listener.recv(1)
            except OSError:
                pass  # nobody listens, or not any more
