"""The cases of the matrix: a place of the table, somebody to harm there, and how."""

from __future__ import annotations

import signal
import traceback
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sdsupervise.core.takeover import RULES, Effect, Event, State
from tests.kill import oracle
from tests.kill.hub import Broken, Process
from tests.kill.instance import Plain, Unit
from tests.kill.stage import Focus, Side, Stage, Target
from tests.kill.ways import GOOD, UNREACHABLE, WAYS, Way, reload

ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
ANYBODY = "anybody"


class Case(NamedTuple):
    """No target: only to see that the place is reached, and that the way to it alone breaks nothing. "anybody": the
    first who is there, beginning with another one in each case."""

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
    cases: list[list[object]]  # that it found worth playing, being a place where nobody was harmed


def rules() -> Iterator[tuple[State, Event]]:
    for state, events in RULES.items():
        for event in events:
            yield state, event


def places_of(systemd: bool) -> Iterator[tuple[State, Event, int]]:
    """Every place the table has that can be reached here."""
    for state, event in rules():
        way = WAYS.get((state, event))
        if way is not None and not (systemd and way.only_plain):
            for effect in range(_last_place(systemd, way, RULES[state][event].effects) + 1):
                yield state, event, effect


def _last_place(systemd: bool, way: Way, effects: Sequence[Effect]) -> int:
    """The death of systemd's main pid ends all others: a successor that kills it comes no further for sure."""
    if systemd and way.side is Side.NEW and Effect.KILL_PEER in effects:
        return effects.index(Effect.KILL_PEER)
    return len(effects)


def survey(systemd: bool) -> list[Case]:
    """Every place, reached and left in peace. The outcomes name all the cases there are, by who is there to harm."""
    return [Case(systemd, state.name, event.name, effect) for state, event, effect in places_of(systemd)]


def possible(place: Case) -> list[Case]:
    """The case of a place where nobody is harmed, and all the others it might have."""
    return [place, *(place._replace(target=target.value, action=action) for target in Target for action in ACTIONS)]


def usual_cases(systemd: bool) -> list[Case]:
    """What the ordinary test run plays: each transition a good reload passes, in full; of every other one a single
    place, with a single harm."""
    cases = []
    for number, (state, event) in enumerate(dict.fromkeys((state, event) for state, event, _ in places_of(systemd))):
        way = WAYS[state, event]
        last = _last_place(systemd, way, RULES[state][event].effects)
        rule = (systemd, state.name, event.name)
        if is_plain_reload(way):
            for effect in range(last + 1):
                cases += [Case(*rule, effect, target.value, action) for target in Target for action in ACTIONS]
        else:
            action = list(ACTIONS)[number % len(ACTIONS)]
            cases.append(Case(*rule, (number + systemd) % (last + 1), ANYBODY, action))
    return cases


def run(case: Case) -> Outcome:
    """One case, from an empty directory to an empty directory."""
    way = WAYS[State[case.state], Event[case.event]]
    instance = Unit() if case.systemd else Plain(notify=way.mute_pid1)
    focus = Focus(way.side, State[case.state], Event[case.event], case.effect)
    stage = Stage(instance, way.old, way.new, focus)
    result, reason, found = "held", "", list[Case]()
    try:
        way.lead(stage)
        stage.wait(lambda: stage.reached is not None, f"anybody at {focus.place}")
        found = [] if case.target else worth_playing(stage, case)
        if not play(stage, case):
            result = "absent"
    except Broken as broken:
        result, reason = "broken", str(broken)
    except Exception:
        result, reason = "broken", traceback.format_exc()
    story = [*stage.hub.story, *instance.log(), instance.last_words()] if result == "broken" else []
    instance.close()
    return Outcome(str(case), result, reason, story, sorted(stage.hub.transitions), [list(case) for case in found])


def worth_playing(stage: Stage, case: Case) -> list[Case]:
    """The cases of this place that have a victim."""
    return [harm for harm in possible(case) if harm.target and find_victim(stage, harm) is not None]


def play(stage: Stage, case: Case) -> bool:
    """Do the harm, let all go, judge; False if there is nobody to harm."""
    victim = None
    if case.target:
        victim = find_victim(stage, case)
        if victim is None:
            return False
        if case.action == "kill":
            stage.kill_while_all_stand_still(victim)
        else:
            stage.harm(victim, signal.SIGSTOP)
    stage.open()
    oracle.judge(stage)
    if is_plain_reload(WAYS[State[case.state], Event[case.event]]) and (victim is None or is_old_worker(victim)):
        if stage.calls[0].status != oracle.DONE:
            raise Broken("A reload to good code failed, though nobody it needs was harmed.")
    return True


def is_plain_reload(way: Way) -> bool:
    return (way.lead, way.old, way.new, way.mute_pid1) == (reload, GOOD, GOOD, False)


def is_old_worker(process: Process) -> bool:
    return process.role == "worker" and process.release == 1


def find_victim(stage: Stage, case: Case) -> Process | None:
    """Whom to harm; None if there is nobody of that kind."""
    choice = list(Target)
    if case.target == ANYBODY:
        first = zlib.crc32(str(case).encode()) % len(choice)
        choice = choice[first:] + choice[:first]
    else:
        choice = [Target(case.target)]
    for target in choice:
        if is_being_born(stage, target):
            stage.need(target)
        victim = stage.find(target)
        if victim is not None:
            return victim
    return None


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
