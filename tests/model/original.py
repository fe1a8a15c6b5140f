"""The rules of the original, Perl's App::Base::Daemon::Supervisor, as a table that can be walked like ours.

Nothing fails in its world: no crash, no hang, no stop; somebody asks for reloads, and time passes. The new side asks by
SIGQUIT, which its receiver cannot tell from a stop; the old side kills a new one that took longer than 60 s; the new
side kills an old one that keeps the lock for 5 s, and gives up after 5 s more. Workers share the lock by fork.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from .joint import Joint
from .walk import Kind, Move, Promise


class State(IntEnum):
    """Where one of its supervisors stands."""

    GONE = 0
    SERVING = 1
    RAISING = 2  # has started a new one, counts to 60
    QUITTING = 3  # waits for its worker without limit
    WARMING = 4
    LOCKING = 5  # blocks on flock, counts to 5
    FORCING = 6  # has killed the old one, counts to 5 again


class Event(IntEnum):
    """What it can meet."""

    USR2 = 0
    QUIT = 1
    TAKEOVER = 2  # the worker's line
    LOCKED = 3
    WORKER_GONE = 4
    TIME_IS_UP = 5


class Effect(IntEnum):
    """What it does."""

    EXEC_NEW = 0
    QUIT_OLD = 1
    KILL_OLD = 2
    KILL_NEW = 3
    TERM_WORKER = 4
    ANSWER_OK = 5


S, E, X = State, Event, Effect
RULES: dict[tuple[State, Event], tuple[State, Sequence[Effect]]] = {
    (S.SERVING, E.USR2): (S.RAISING, [X.EXEC_NEW]),
    (S.SERVING, E.QUIT): (S.QUITTING, [X.TERM_WORKER]),
    (S.RAISING, E.QUIT): (S.QUITTING, [X.TERM_WORKER]),
    (S.RAISING, E.TIME_IS_UP): (S.SERVING, [X.KILL_NEW]),
    (S.QUITTING, E.WORKER_GONE): (S.GONE, []),
    (S.WARMING, E.TAKEOVER): (S.LOCKING, [X.QUIT_OLD]),
    (S.LOCKING, E.LOCKED): (S.SERVING, [X.ANSWER_OK]),
    (S.LOCKING, E.TIME_IS_UP): (S.FORCING, [X.KILL_OLD]),
    (S.FORCING, E.LOCKED): (S.SERVING, [X.ANSWER_OK]),
    (S.FORCING, E.TIME_IS_UP): (S.GONE, []),  # "Still couldn't lock pid file, aborting"
}
_IN_WORDS = {
    X.EXEC_NEW: "starts a new one",
    X.QUIT_OLD: "SIGQUIT to the old one",
    X.KILL_OLD: "SIGKILL to the old one",
    X.KILL_NEW: "SIGKILL to the new one",
    X.TERM_WORKER: "SIGTERM to the worker",
    X.ANSWER_OK: "ok to the worker",
}


class Worker(IntEnum):
    """A worker's condition."""

    NONE = 0
    STARTING = 1
    WAITING = 2  # has said "takeover"
    SERVING = 3
    LEAVING = 4


class Side(NamedTuple):
    """One supervisor and its worker."""

    state: State = S.GONE
    killed: bool = False  # SIGKILL is on its way
    quit: bool = False  # SIGQUIT is
    worker: Worker = Worker.NONE
    locked: bool = False


class Original:
    """The model. Only with slow workers do the 5 s ever pass."""

    def __init__(self, *, slow_workers: bool) -> None:
        self._slow_workers = slow_workers
        self.initial = _joint(Side(S.SERVING, worker=Worker.SERVING, locked=True), Side())
        self.promises = (Promise("2: somebody serves", _serves, lambda joint: False),)

    def check(self, joint: Joint) -> None:
        """It has no promise that holds in every state."""

    def in_words(self, joint: Joint) -> str:
        """One line for a person."""
        return "   ".join(
            f"{name} {side.state.name}{' killed' * side.killed}{' <SIGQUIT>' * side.quit} [worker {side.worker.name}]"
            for name, side in zip(("old", "new"), _sides(joint), strict=True)
        )

    def moves(self, joint: Joint) -> Iterator[Move]:
        """Everything that can happen next."""
        sides = _sides(joint)
        old, new = sides
        if old.state is S.GONE and old.worker is Worker.NONE and new.state is S.SERVING:
            yield "the new one is the old one for the next reload", _joint(new, Side()), Kind.ITSELF
            return
        for number, name in enumerate(("old", "new")):
            side, other = sides[number], sides[1 - number]

            def put(changed: Side, number: int = number, other: Side = other) -> Joint:
                return _joint(changed, other) if number == 0 else _joint(other, changed)

            if side.killed:
                yield (
                    f"{name}: dies of SIGKILL",
                    put(side._replace(state=S.GONE, killed=False, quit=False)),
                    Kind.ITSELF,
                )
            follows = {Worker.STARTING: Worker.WAITING, Worker.LEAVING: Worker.NONE}
            if side.state is S.GONE and side.worker is not Worker.NONE:  # its next ping is not answered
                yield f"{name} worker: leaves", put(side._replace(worker=Worker.NONE)), Kind.ITSELF
            elif side.worker in follows:
                yield f"{name} worker: goes on", put(side._replace(worker=follows[side.worker])), Kind.ITSELF
            for event, kind in self._events(side, other):
                state, effects = RULES[side.state, event]
                changed = side._replace(state=state, quit=side.quit and event is not E.QUIT)
                if event is E.LOCKED:
                    changed = changed._replace(locked=True)
                after = put(changed)
                for effect in effects:
                    after = _perform(effect, number, after)
                words = "; ".join(_IN_WORDS[effect] for effect in effects) or "exits"
                yield f"{name}: {side.state.name} + {event.name}: {words}", after, kind

    def _events(self, side: Side, other: Side) -> Iterator[tuple[Event, Kind]]:
        free = not (other.locked and (other.state is not S.GONE or other.worker is not Worker.NONE))
        for event, happens in (
            (E.QUIT, side.quit),
            (E.TAKEOVER, side.worker is Worker.WAITING),
            (E.LOCKED, free),
            (E.WORKER_GONE, side.worker is Worker.NONE),
        ):
            if happens and (side.state, event) in RULES:
                yield event, Kind.ITSELF
        if side.state is S.RAISING or (side.state in (S.LOCKING, S.FORCING) and self._slow_workers and not free):
            yield E.TIME_IS_UP, Kind.DEADLINE
        if side.state is S.SERVING and other.state is S.GONE and other.worker is Worker.NONE:
            yield E.USR2, Kind.OUTSIDE


def _perform(effect: Effect, number: int, joint: Joint) -> Joint:
    old, new = _sides(joint)
    match effect:
        case X.EXEC_NEW:
            new = Side(S.WARMING, worker=Worker.STARTING)
        case X.QUIT_OLD:
            old = old._replace(quit=old.state is not S.GONE)
        case X.KILL_OLD:
            old = old._replace(killed=old.state is not S.GONE)
        case X.KILL_NEW:
            new = new._replace(killed=new.state is not S.GONE)
        case X.TERM_WORKER:
            old = old._replace(worker=Worker.LEAVING)
        case X.ANSWER_OK:
            new = new._replace(worker=Worker.SERVING)
    return _joint(old, new)


def _serves(joint: Joint) -> bool:
    return any(side.state is not S.GONE and side.worker is Worker.SERVING and side.locked for side in _sides(joint))


def _joint(old: Side, new: Side) -> Joint:
    return tuple(int(value) for side in (old, new) for value in side)


def _sides(joint: Joint) -> tuple[Side, Side]:
    def side(state: int, killed: int, quit: int, worker: int, locked: int) -> Side:
        return Side(State(state), bool(killed), bool(quit), Worker(worker), bool(locked))

    return side(*joint[:5]), side(*joint[5:])
