"""Runs in each Python whose PYTHONPATH names this directory: if TESTS_BREAKPOINT is set, holds the supervisor in it.

The variable may be in the environment, which successors inherit, or be set by the service's module, for one supervisor
alone. It has one of two forms. A place in them is an effect of a rule: STATE+EVENT/N is where a supervisor is
about to perform effect N of that rule (0: the first; one past the last: all are done). A supervisor that is held is
blocked as if it hung.

STATE+EVENT[/N]:DIRECTORY
    holds at this one place, once: writes our pid to the FIFO DIRECTORY/reached, then reads the FIFO DIRECTORY/go to its
    end. Each side of a reload passes other transitions, so the place tells which side is meant.
/PATH
    tells of every place: connects to the SOCK_SEQPACKET socket PATH, sends the place, and goes on when the other end
    hangs up. Whoever listens sees all that a supervisor decides, knows which one it is (SO_PEERCRED), and holds it by
    not hanging up. Where nobody listens the supervisor goes on.

A supervisor gets its effects from step(), as the tuple of a rule, and performs them in order: here, that tuple blocks
as it is iterated. Standard library only, and none of it imported where it is not needed: a supervisor is measured.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

VARIABLE = "TESTS_BREAKPOINT"
SUPERVISOR = "sdsupervise.supervisor.supervisor"  # the module that performs effects


class Breakpoint:
    """Where to hold ("" = ask at every place), and the FIFOs' directory or the socket."""

    def __init__(self, value: str) -> None:
        place, _, directory = value.partition(":")
        self._path = value if value.startswith("/") else directory
        self._place = "" if value.startswith("/") else place if "/" in place else f"{place}/0"

    def hold_at(self, place: str) -> None:
        """Block if this is a place to hold at."""
        if not self._place:
            self._ask(place)
        elif place == self._place:
            self._place = "none, for it holds once"
            with open(os.path.join(self._path, "reached"), "w") as reached:
                reached.write(str(os.getpid()))
            with open(os.path.join(self._path, "go")) as go:
                go.read()

    def _ask(self, place: str) -> None:
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            try:
                listener.connect(self._path)
                listener.send(place.encode())
                listener.recv(1)
            except OSError:
                pass  # nobody listens, or not any more


class Effects(tuple[object, ...]):
    """The effects of a rule, and where to hold between them."""

    transition: str
    breakpoint: Breakpoint

    def __iter__(self) -> Iterator[object]:
        for number, effect in enumerate(super().__iter__()):
            self.breakpoint.hold_at(f"{self.transition}/{number}")
            yield effect
        self.breakpoint.hold_at(f"{self.transition}/{len(self)}")


def wrap(supervisor: ModuleType, inherited: str) -> None:
    """Have this module hold at this breakpoint, or at the one that the service's own module has set."""
    step = supervisor.step
    breakpoint: Breakpoint | None = None

    def step_and_hold(state, event):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  # as it is wrapped
        nonlocal breakpoint
        rule = step(state, event)
        breakpoint = breakpoint or Breakpoint(os.environ.pop(VARIABLE, inherited or "none:nowhere"))
        if rule is None:
            return None
        effects = Effects(rule.effects)
        effects.transition, effects.breakpoint = f"{state.name}+{event.name}", breakpoint
        return rule._replace(effects=effects)

    supervisor.step = step_and_hold  # type: ignore[attr-defined]


class Finder:
    """Finds the supervisor's module as usual, and has it wrapped as soon as it is loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        if name != SUPERVISOR:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_wrap(module: ModuleType) -> None:
            from sdsupervise.linux.inheritance import this_invocation

            this_invocation()  # what successors inherit; nobody else is to have it
            inherited = os.environ.pop(VARIABLE, "")
            execute(module)
            wrap(module, inherited)

        spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Finder())
