"""The states of a supervisor in a reload, drawn from the table in core/takeover.py.

The places are chosen by hand, in state_places.py. What stands in the boxes, which lines there are and what stands
beside them comes from the table. A state without a place, or a way without a line, is `Missing`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import states
from state_places import (
    ARRIVED,
    BACK,
    BOX,
    BOXES,
    HEIGHT,
    LEAVING,
    LEAVING_TOP,
    LEFT,
    MESSAGES,
    NEW,
    OLD,
    RESTORED,
    TOP,
    WAYS,
    WIDTH,
)
from svg import Box, Picture

from sdsupervise.core.phases import PHASES
from sdsupervise.core.takeover import RULES, Event, Rule, State

S, E = State, Event

# {peer} is predecessor or successor, whichever the state's supervisor talks to.
WORDS: Mapping[Event, str] = {
    E.WORKER_READY: "workers are ready",
    E.WORKER_GONE: "a worker dies",
    E.NO_WORKER: "workers are gone",
    E.WORKERS_SETTLED: "it serves",
    E.LOCK_GAINED: "it has the lock",
    E.PEER_GONE: "{peer} dies",
    E.NO_PEER: "there is no {peer}",
    E.PEER_ASKS_YIELD: "exclusive: successor is ready",
    E.PEER_ASKS_LOCK: "overlap: successor is ready",
    E.PEER_SERVES: "successor serves",
    E.PEER_CHECKED: "check has passed",
    E.PEER_FAILED: "{peer} fails",
    E.PEER_COMMITTED: "predecessor commits",
    E.PEER_STOPS: "{peer} stops",
    E.PEER_EMPTY: "{peer} has no worker",
    E.BARRIER_RETURNED: "systemd has the new main pid",
    E.DEADLINE: "time is up",
    E.RELOAD_ASKED: "a reload",
}
_STOPS = frozenset({E.STOP_ASKED, E.PEER_STOPS, E.GAVE_UP})


class Missing(LookupError):
    """The table has something for which this picture has no place."""


def edges() -> Mapping[tuple[State, State], list[Event]]:
    """Every way from a state to another one, with what leads along it; without stops, which lead from everywhere."""
    found: dict[tuple[State, State], list[Event]] = {}
    for state, rules in RULES.items():
        for event, rule in rules.items():
            if rule.next is not state and event not in _STOPS:
                found.setdefault((state, rule.next), []).append(event)
    return found


def check() -> None:
    """Every state has a place, and every way its line, and no other has one.

    Raises Missing, which names what is wrong.
    """
    for state in State:
        if state not in BOXES:
            raise Missing(f"state_places.py has no place for {state.name}: give it one in BOXES.")
    for source, target in edges().keys() - WAYS.keys():
        raise Missing(f"state_places.py has no line from {source.name} to {target.name}: give it one in WAYS.")
    for event in {event for events in edges().values() for event in events} - WORDS.keys():
        raise Missing(f"statechart.py has no words for {event.name}: give it some in WORDS.")
    for source, target in WAYS.keys() - edges().keys():
        raise Missing(f"state_places.py has a line from {source.name} to {target.name}, the table has none.")
    for effect, event, source, target, words, _ in MESSAGES:
        if not any(effect in rule.effects and source in (state, rule.next) for state, rule in _rules()):
            raise Missing(f"state_places.py: no rule from or to {source.name} does {effect.name}: mend {words}.")
        if not any(event in RULES[state] and target in (state, RULES[state][event].next) for state in State):
            raise Missing(f"state_places.py: {event.name} leads nowhere from or to {target.name}: mend {words}.")


def _rules() -> Iterator[tuple[State, Rule]]:
    return ((state, rule) for state, rules in RULES.items() for rule in rules.values())


def draw(theme: str) -> str:
    """The picture, as SVG."""
    check()
    picture = Picture(WIDTH, HEIGHT, "The states of a supervisor in a reload", theme)
    _draw_ground(picture)
    for source, target in edges():
        picture.line(*WAYS[source, target].points, colour=_colour_of_way(source, target), arrow=True)
    for _, _, source, target, words, y in MESSAGES:
        _draw_message(picture, source, target, words, y)
    for state in State:
        _draw_state(picture, state, BOXES[state])
    _draw_state(picture, S.SERVING, ARRIVED)
    for (source, target), events in edges().items():
        _draw_words(picture, source, target, events)
    return str(picture)


def _draw_ground(picture: Picture) -> None:
    picture.text((LEFT, 38), "The states of a supervisor", size=18, bold=True)
    picture.text((LEFT, 58), "Each of the two supervisors of a reload follows the same table.", colour="faint")
    picture.text((LEFT, 74), "Time runs down. Dashed: what one", colour="faint")
    picture.text((LEFT, 90), "supervisor says to the other.", colour="faint")
    picture.text((LEFT, 106), "Orange: something goes wrong.", colour="back")
    y, height = TOP - 44, LEAVING_TOP - TOP + 24
    picture.box(Box(8, y, NEW + BOX + 20 - 8, height), fill="band", radius=10)
    picture.box(Box(OLD - 24, y, WIDTH - 8 - OLD + 24, height), fill="band", radius=10)
    picture.text((LEFT, y + 22), "successor: the new generation", colour="new", size=13, bold=True)
    picture.text((BACK, y + 22), "predecessor: the old generation", colour="old", size=13, bold=True)
    picture.box(Box(8, LEAVING_TOP - 12, WIDTH - 16, HEIGHT - LEAVING_TOP + 4), fill="band", radius=10)
    picture.text((LEFT, LEAVING_TOP + 8), "leaving", size=13, bold=True)
    last = ", ".join(states.name(state) for state in State if _stopped(state) is S.LEAVING)
    words = (
        f"A stop leads from every state above to {states.name(S.STOPPING)}; from {last} to {states.name(S.LEAVING)}."
    )
    picture.text((LEFT + 64, LEAVING_TOP + 8), words, colour="faint")


def _stopped(state: State) -> State | None:
    """Where a stop leads."""
    rule = RULES[state].get(E.STOP_ASKED)
    return rule.next if rule is not None else None


def _draw_words(picture: Picture, source: State, target: State, events: Sequence[Event]) -> None:
    way = WAYS[source, target]
    if way.words_at is None:
        return
    peer = "peer" if source in LEAVING else "predecessor" if BOXES[source].x < OLD else "successor"
    words = " or ".join(dict.fromkeys(WORDS[event] for event in events)).format(peer=peer)
    if target is S.GONE and source is S.FAILED:
        words = f"{words}: {states.name(target)}"
    lines = textwrap.wrap(words, way.columns)
    x, y = way.words_at
    up = 11 if way.anchor == "middle" else 5.5
    for number, line in enumerate(lines):
        at = (x, y - up * (len(lines) - 1) + 11 * number)
        halo = "page" if NEW + BOX + 30 < x < OLD and way.anchor == "end" else "band"
        picture.text(at, line, size=10, anchor=way.anchor, colour="faint", halo=halo)


def _colour_of_way(source: State, target: State) -> str:
    in_trouble = {LEFT, BACK, RESTORED}
    if target in LEAVING:
        return "line"
    if BOXES[target].x in in_trouble or BOXES[source].x in in_trouble:
        return "back"
    return "new" if BOXES[source].x == NEW and source is not S.OPENING else "old"


def _draw_message(picture: Picture, source: State, target: State, words: str, y: float) -> None:
    left, right = NEW + BOX, OLD
    start, end = (left, right) if BOXES[source].x == NEW else (right, left)
    picture.line((start, y), (end, y), colour="faint", arrow=True, dashed=True, width=1.1)
    picture.text(((left + right) / 2, y - 5), words, size=10, anchor="middle", halo="page")


def _draw_state(picture: Picture, state: State, box: Box) -> None:
    name = "old" if state is S.OPENING else {NEW: "new", OLD: "old"}.get(int(box.x), "back")
    if state in LEAVING:
        name, fill = "line", "line-soft"
    else:
        fill = f"{name}-soft"
    picture.box(box, fill=fill, stroke=name, width=2 if state is S.SERVING else 1.2)
    sentence = PHASES[state].status.format(own=1, peer=2) if name == "old" or box.x >= OLD else states.sentence(state)
    if state is S.SERVING:
        sentence = PHASES[state].status.format(own=2 if box is ARRIVED else 1, peer=0)
    lines = textwrap.wrap(sentence, int(box.width / 5.6))
    x, middle = box.middle
    top = middle - 12 * len(lines) / 2 + 1
    picture.text((x, top), states.name(state), size=12.5, anchor="middle", bold=True, code=True)
    for number, line in enumerate(lines):
        picture.text((x, top + 14 + 12 * number), line, size=10, anchor="middle", colour="faint")
