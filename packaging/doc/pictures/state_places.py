"""Where the states stand in their picture, and how the lines between them run: chosen by hand, in units of SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from svg import Box, Point

from sdsupervise.core.takeover import Effect, Event, State

S, E, X = State, Event, Effect

WIDTH = 1180
BOX, TALL, _PITCH, TOP = 160, 52, 88, 204
LEFT, NEW, OLD, BACK, RESTORED, _NARROW = 32, 272, 566, 806, 1046, 110


def _row(number: float, rows: float = 1) -> tuple[float, float]:
    """Where a box begins, and how tall it is."""
    return TOP + number * _PITCH, TALL + (rows - 1) * _PITCH


def _at(x: float, number: float, rows: float = 1, width: float = BOX) -> Box:
    y, height = _row(number, rows)
    return Box(x, y, width, height)


LEAVING_TOP = TOP + 6 * _PITCH + TALL + 40
HEIGHT = LEAVING_TOP + 142

BOXES: Mapping[State, Box] = {
    S.OPENING: Box(NEW, 84, BOX, TALL),
    S.SERVING: Box(OLD, 84, RESTORED + _NARROW - OLD, TALL),
    # the successor
    S.WARMING: _at(NEW, 0),
    S.CLAIMING: _at(NEW, 1),
    S.ON_TRIAL: _at(NEW, 2, 4),
    S.FAILED: _at(LEFT, 0.5),
    S.KILLING_PREDECESSOR: _at(LEFT, 2),
    S.TAKING_LOCK: _at(LEFT, 4.3),
    # the predecessor
    S.STARTING_SUCCESSOR: _at(OLD, 0),
    S.YIELDING: _at(OLD, 1),
    S.YIELDED: _at(OLD, 2),
    S.CHECKING: _at(OLD, 3),
    S.WATCHING: _at(OLD, 4),
    S.COMMITTING: _at(OLD, 5),
    S.DRAINING: _at(OLD, 6),
    S.CANCELLING: _at(BACK, 0.2),
    S.REVIVING: _at(BACK, 1.1),
    S.KILLING_SUCCESSOR: _at(BACK, 2, 3),
    S.TAKING_LOCK_BACK: _at(BACK, 5),
    S.RESTORING: _at(RESTORED, 0, 6, _NARROW),
    # leaving
    S.STOPPING: Box(LEFT, LEAVING_TOP + 54, BOX, TALL),
    S.EMPTY: Box(NEW, LEAVING_TOP + 54, BOX, TALL),
    S.LEAVING: Box(OLD, LEAVING_TOP + 54, BOX, TALL),
    S.GONE: Box(BACK, LEAVING_TOP + 54, BOX, TALL),
}
# Where a successor arrives; SERVING has its place above, where the next reload begins.
ARRIVED = _at(NEW, 6)
LEAVING = (S.STOPPING, S.EMPTY, S.LEAVING, S.GONE)


class Way(NamedTuple):
    """How a line runs, and where its words stand; None where the line beside it has the same."""

    points: tuple[Point, ...]
    words_at: Point | None = None
    anchor: str = "start"
    columns: int = 60  # of the words


def _down(state: State, target: State, share: float = 0.5, *, words: bool = True) -> Way:
    """Straight down, from the lower side to the upper one."""
    box, below = BOXES[state], BOXES[target]
    x = box.x + BOX * share
    return Way(((x, box.bottom), (x, below.y)), (x + 8, (box.bottom + below.y) / 2 + 3) if words else None, "start", 30)


def _right(state: State, target: State, y: float, *, words: bool = True) -> Way:
    """Straight to the right, at this height."""
    start, end = BOXES[state].right, BOXES[target].x
    return Way(((start, y), (end, y)), ((start + end) / 2, y - 5) if words else None, "middle", 15)


def _left(state: State, target: State, y: float, *, words: bool = True) -> Way:
    """Straight to the left."""
    start, end = BOXES[state].x, BOXES[target].right
    return Way(((start, y), (end, y)), ((start + end) / 2, y - 5) if words else None, "middle", 15)


def _y(state: State, share: float) -> float:
    return BOXES[state].y + BOXES[state].height * share


_BUS_C = OLD + BOX + 14  # beside the predecessor: to TAKING_LOCK_BACK
_BUS_B = NEW - 14  # beside the successor: to TAKING_LOCK
_TO_TAKING_LOCK = (
    *((_BUS_B, _y(S.CLAIMING, 0.85)), (_BUS_B, BOXES[S.TAKING_LOCK].y - 16)),
    *((LEFT + BOX * 0.8, BOXES[S.TAKING_LOCK].y - 16), (LEFT + BOX * 0.8, BOXES[S.TAKING_LOCK].y)),
)

WAYS: Mapping[tuple[State, State], Way] = {
    (S.OPENING, S.SERVING): _right(S.OPENING, S.SERVING, _y(S.OPENING, 0.5)),
    # the successor, as it should go
    (S.WARMING, S.CLAIMING): _down(S.WARMING, S.CLAIMING),
    (S.CLAIMING, S.ON_TRIAL): _down(S.CLAIMING, S.ON_TRIAL),
    (S.ON_TRIAL, S.SERVING): Way(
        ((NEW + BOX / 2, BOXES[S.ON_TRIAL].bottom), (NEW + BOX / 2, ARRIVED.y)),
        (NEW + BOX / 2 + 8, ARRIVED.y - 14),
        "start",
        25,
    ),
    # and otherwise
    (S.WARMING, S.FAILED): _left(S.WARMING, S.FAILED, _y(S.WARMING, 0.95)),
    (S.CLAIMING, S.FAILED): _left(S.CLAIMING, S.FAILED, _y(S.CLAIMING, 0.05), words=False),
    (S.CLAIMING, S.KILLING_PREDECESSOR): Way(
        (
            (NEW, _y(S.CLAIMING, 0.6)),
            (LEFT + BOX * 0.75, _y(S.CLAIMING, 0.6)),
            (LEFT + BOX * 0.75, BOXES[S.KILLING_PREDECESSOR].y),
        ),
        (LEFT + BOX * 0.75 - 8, _y(S.CLAIMING, 0.6) + 26),
        "end",
    ),
    (S.WARMING, S.TAKING_LOCK): Way(((NEW, _y(S.WARMING, 0.3)), (_BUS_B, _y(S.WARMING, 0.3)), *_TO_TAKING_LOCK)),
    (S.CLAIMING, S.TAKING_LOCK): Way(
        ((NEW, _y(S.CLAIMING, 0.85)), *_TO_TAKING_LOCK), (_BUS_B - 6, BOXES[S.TAKING_LOCK].y - 21), "end"
    ),
    (S.KILLING_PREDECESSOR, S.TAKING_LOCK): _down(S.KILLING_PREDECESSOR, S.TAKING_LOCK, 0.4),
    (S.FAILED, S.TAKING_LOCK): Way(
        (
            (LEFT, _y(S.FAILED, 0.5)),
            (LEFT - 12, _y(S.FAILED, 0.5)),
            (LEFT - 12, _y(S.TAKING_LOCK, 0.5)),
            (LEFT, _y(S.TAKING_LOCK, 0.5)),
        )
    ),
    (S.KILLING_PREDECESSOR, S.SERVING): Way(
        (
            (LEFT + BOX, _y(S.KILLING_PREDECESSOR, 0.5)),
            (_BUS_B - 16, _y(S.KILLING_PREDECESSOR, 0.5)),
            (_BUS_B - 16, ARRIVED.y + 16),
            (NEW, ARRIVED.y + 16),
        ),
        (LEFT + BOX + 6, _y(S.KILLING_PREDECESSOR, 0.5) - 5),
        "start",
        12,
    ),
    (S.TAKING_LOCK, S.SERVING): Way(
        ((LEFT + BOX / 2, BOXES[S.TAKING_LOCK].bottom), (LEFT + BOX / 2, ARRIVED.y + 34), (NEW, ARRIVED.y + 34)),
        (LEFT + BOX / 2 + 8, ARRIVED.y - 8),
    ),
    (S.FAILED, S.GONE): Way(
        ((LEFT + 30, BOXES[S.FAILED].bottom), (LEFT + 30, BOXES[S.FAILED].bottom + 18)),
        (LEFT + 36, BOXES[S.FAILED].bottom + 20),
    ),
    # the predecessor, as it should go
    (S.SERVING, S.STARTING_SUCCESSOR): _down(S.SERVING, S.STARTING_SUCCESSOR),
    (S.STARTING_SUCCESSOR, S.YIELDING): _down(S.STARTING_SUCCESSOR, S.YIELDING, 0.4),
    (S.STARTING_SUCCESSOR, S.YIELDED): Way(
        (
            (OLD, _y(S.STARTING_SUCCESSOR, 0.8)),
            (OLD - 14, _y(S.STARTING_SUCCESSOR, 0.8)),
            (OLD - 14, _y(S.YIELDED, 0.25)),
            (OLD, _y(S.YIELDED, 0.25)),
        ),
        (OLD - 20, _y(S.YIELDING, 0.6)),
        "end",
        14,
    ),
    (S.YIELDING, S.YIELDED): _down(S.YIELDING, S.YIELDED, 0.4),
    (S.YIELDED, S.CHECKING): _down(S.YIELDED, S.CHECKING, 0.4),
    (S.CHECKING, S.WATCHING): _down(S.CHECKING, S.WATCHING, 0.4),
    (S.WATCHING, S.COMMITTING): _down(S.WATCHING, S.COMMITTING, 0.4),
    (S.COMMITTING, S.DRAINING): _down(S.COMMITTING, S.DRAINING, 0.4),
    (S.DRAINING, S.GONE): Way(
        ((OLD + BOX, _y(S.DRAINING, 0.5)), (BACK + BOX / 2, _y(S.DRAINING, 0.5)), (BACK + BOX / 2, BOXES[S.GONE].y)),
        (OLD + BOX + 8, _y(S.DRAINING, 0.5) - 5),
    ),
    # and back
    (S.STARTING_SUCCESSOR, S.RESTORING): _right(S.STARTING_SUCCESSOR, S.RESTORING, _y(S.STARTING_SUCCESSOR, 0.12)),
    (S.STARTING_SUCCESSOR, S.CANCELLING): _right(S.STARTING_SUCCESSOR, S.CANCELLING, _y(S.STARTING_SUCCESSOR, 0.7)),
    (S.CANCELLING, S.RESTORING): _right(S.CANCELLING, S.RESTORING, _y(S.CANCELLING, 0.6)),
    (S.YIELDING, S.REVIVING): _right(S.YIELDING, S.REVIVING, _y(S.YIELDING, 0.6)),
    (S.REVIVING, S.RESTORING): _right(S.REVIVING, S.RESTORING, _y(S.REVIVING, 0.5)),
    **{
        (state, S.KILLING_SUCCESSOR): _right(state, S.KILLING_SUCCESSOR, _y(state, 0.35))
        for state in (S.YIELDED, S.CHECKING, S.WATCHING)
    },
    **{
        (state, S.TAKING_LOCK_BACK): Way(
            (
                (OLD + BOX, _y(state, 0.75)),
                (_BUS_C, _y(state, 0.75)),
                (_BUS_C, _y(S.TAKING_LOCK_BACK, 0.5)),
                (BACK, _y(S.TAKING_LOCK_BACK, 0.5)),
            )
        )
        for state in (S.YIELDED, S.CHECKING, S.WATCHING)
    },
    (S.COMMITTING, S.TAKING_LOCK_BACK): _right(S.COMMITTING, S.TAKING_LOCK_BACK, _y(S.TAKING_LOCK_BACK, 0.5)),
    (S.KILLING_SUCCESSOR, S.TAKING_LOCK_BACK): _down(S.KILLING_SUCCESSOR, S.TAKING_LOCK_BACK),
    (S.TAKING_LOCK_BACK, S.RESTORING): _right(S.TAKING_LOCK_BACK, S.RESTORING, _y(S.TAKING_LOCK_BACK, 0.5)),
    (S.RESTORING, S.SERVING): Way(
        ((RESTORED + 34, BOXES[S.RESTORING].y), (RESTORED + 34, BOXES[S.SERVING].bottom)),
        (RESTORED + 42, BOXES[S.RESTORING].y - 26),
        "start",
        13,
    ),
    # leaving
    (S.STOPPING, S.EMPTY): _right(S.STOPPING, S.EMPTY, _y(S.STOPPING, 0.5)),
    (S.EMPTY, S.GONE): Way(
        (
            (NEW + BOX * 0.6, BOXES[S.EMPTY].bottom),
            (NEW + BOX * 0.6, BOXES[S.EMPTY].bottom + 18),
            (BACK + BOX / 2, BOXES[S.EMPTY].bottom + 18),
            (BACK + BOX / 2, BOXES[S.GONE].bottom),
        ),
        (NEW + BOX * 0.6 + 10, BOXES[S.EMPTY].bottom + 13),
    ),
    (S.STOPPING, S.LEAVING): Way(
        (
            (LEFT + BOX * 0.6, BOXES[S.STOPPING].y),
            (LEFT + BOX * 0.6, BOXES[S.STOPPING].y - 14),
            (OLD + BOX * 0.3, BOXES[S.STOPPING].y - 14),
            (OLD + BOX * 0.3, BOXES[S.LEAVING].y),
        ),
        (LEFT + BOX * 0.6 + 12, BOXES[S.STOPPING].y - 18),
    ),
    (S.LEAVING, S.GONE): _right(S.LEAVING, S.GONE, _y(S.LEAVING, 0.5)),
}
# What one says to the other, and what follows there: effect, event, height.
MESSAGES: Sequence[tuple[Effect, Event, State, State, str, float]] = (
    (X.ASK_YIELD, E.PEER_ASKS_YIELD, S.CLAIMING, S.STARTING_SUCCESSOR, "“I am ready”", _y(S.STARTING_SUCCESSOR, 0.3)),
    (X.CLOSE_LOCK, E.LOCK_GAINED, S.YIELDED, S.ON_TRIAL, "lock", _y(S.YIELDED, 0.6)),
    (X.TELL_SERVING, E.PEER_SERVES, S.ON_TRIAL, S.CHECKING, "“I serve”", _y(S.CHECKING, 0.1)),
    (X.TELL_CHECKED, E.PEER_CHECKED, S.ON_TRIAL, S.WATCHING, "“I am checked”", _y(S.WATCHING, 0.1)),
    (X.TELL_COMMITTED, E.PEER_COMMITTED, S.DRAINING, S.SERVING, "“committed”", _y(S.DRAINING, 0.4)),
)
