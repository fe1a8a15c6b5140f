"""The cases of the matrix: a place of the table, somebody to harm there, and how."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from typing import NamedTuple

from sdsupervise.core.takeover import RULES, Effect, Event, State
from tests.kill import oracle
from tests.kill.hub import Broken
from tests.kill.instance import Plain, Unit
from tests.kill.stage import Focus, Side, Stage, Target
from tests.kill.ways import UNREACHABLE, WAYS, Way

ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Case(NamedTuple):
    """No target: only to see that the place is reached, and that the way to it alone breaks nothing."""

    systemd: bool
    state: str
    event: str
    effect: int
    target: str = ""
    action: str = ""

    def __str__(self) -> str:
        harm = f": {self.action} the {self.target}" if self.target else ""
        return f"{'systemd' if self.systemd else 'plain'} {self.state}+{self.event}/{self.effect}{harm}"


class Outcome(NamedTuple):
    """How a case ended: "held" all promises, "absent" (nobody there to harm), or "broken", with the story."""

    case: str
    result: str
    reason: str
    story: list[str]
    transitions: list[str]  # that were passed, by anybody


def rules() -> Iterator[tuple[State, Event]]:
    for state, events in RULES.items():
        for event in events:
            yield state, event


def places_of(systemd: bool) -> Iterator[tuple[State, Event, int]]:
    """Every place the table has that can be reached here."""
    for state, event in rules():
        way = WAYS.get((state, event))
        if way is not None and not (systemd and way.only_plain):
            for effect in range(len(RULES[state][event].effects) + 1):
                yield state, event, effect


def all_cases(systemd: bool) -> list[Case]:
    """The whole matrix; for each place first the way alone."""
    cases = []
    for state, event, effect in places_of(systemd):
        cases.append(Case(systemd, state.name, event.name, effect))
        for target in Target:
            for action in ACTIONS:
                cases.append(Case(systemd, state.name, event.name, effect, target.value, action))
    return cases


def run(case: Case) -> Outcome:
    """One case, from an empty directory to an empty directory."""
    way = WAYS[State[case.state], Event[case.event]]
    instance = Unit() if case.systemd else Plain(notify=way.mute_pid1)
    focus = Focus(way.side, State[case.state], Event[case.event], case.effect)
    stage = Stage(instance, way.old, way.new, focus)
    result, reason = "held", ""
    try:
        if not play(stage, way, case):
            result = "absent"
    except Broken as broken:
        result, reason = "broken", str(broken)
    except Exception:
        result, reason = "broken", traceback.format_exc()
    story = [*stage.hub.story, *instance.log(), instance.last_words()] if result == "broken" else []
    instance.close()
    return Outcome(str(case), result, reason, story, sorted(stage.hub.transitions))


def play(stage: Stage, way: Way, case: Case) -> bool:
    """Lead the service to the place, do the harm, judge; False if there is nobody to harm."""
    way.lead(stage)
    stage.wait(lambda: stage.reached is not None, f"anybody at {stage.focus.place}" if stage.focus else "")
    if case.target:
        target = Target(case.target)
        if is_being_born(stage, target):
            stage.need(target)
        victim = stage.find(target)
        if victim is None:
            return False
        stage.harm(victim, ACTIONS[case.action])
        if case.action == "kill":
            stage.wait(lambda: not victim.alive, f"the end of {victim}")
    stage.open()
    oracle.judge(stage)
    return True


def is_being_born(stage: Stage, target: Target) -> bool:
    """The effect before this place starts the successor, which has not said anything yet."""
    focus = stage.focus
    assert focus is not None
    done = RULES[focus.state][focus.event].effects[: focus.effect]
    return target is Target.NEW_SUPERVISOR and focus.side is Side.OLD and Effect.START_SUCCESSOR in done


def missing_ways() -> list[str]:
    """Rules of the table of which nobody has said how they are reached, or that they cannot be."""
    return [
        f"{state.name}+{event.name}"
        for state, event in rules()
        if (state, event) not in WAYS and (state, event) not in UNREACHABLE
    ]


def stale_ways() -> list[str]:
    """Entries of our tables that the takeover table has no rule for, or that are in both."""
    known = set(rules())
    both = set(WAYS) & set(UNREACHABLE)
    return [f"{state.name}+{event.name}" for state, event in {*WAYS, *UNREACHABLE} - known | both]
