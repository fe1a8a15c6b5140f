"""The cases of the matrix: a place of the table, somebody to harm there, and how."""

from __future__ import annotations

import random
import signal
import traceback
import zlib
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from sdsupervise.core.takeover import RULES, Effect, Event, State
from tests.chaos.kill import oracle
from tests.chaos.kill.hub import Broken, Process
from tests.chaos.kill.instance import Plain, Unit
from tests.chaos.kill.leads import GOOD, reload
from tests.chaos.kill.stage import Focus, Side, Stage, Target
from tests.chaos.kill.ways import NEVER_IN_OVERLAP, OVERLAP_WAYS, UNREACHABLE, WAYS, Way
from tests.support.places import WITHOUT_LOCK

ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
ANYBODY = "anybody"
PARTIES = (Target.OLD_SUPERVISOR, Target.NEW_SUPERVISOR, Target.OLD_WORKER, Target.NEW_WORKER)
NOT_BESIDE_DRAINING = {State.OPENING, State.EMPTY}  # nobody is older, and whoever is older has left
# Where in an overlap the old workers serve beside the new ones, or still have to end.
BESIDE = {*WITHOUT_LOCK, State.RESTORING, State.ON_TRIAL}


EXCLUSIVE, OVERLAP, DRAINING = "exclusive", "overlap", "draining"  # the last: overlap, and an older generation drains
KINDS = (EXCLUSIVE, OVERLAP, DRAINING)


class Case(NamedTuple):
    """No target: only to see that the place is reached, and that the way to it alone breaks nothing. "anybody": the
    first who is there, beginning with another one in each case."""

    systemd: bool
    kind: str
    state: str
    event: str
    effect: int
    target: str = ""
    action: str = ""

    def __str__(self) -> str:
        harm = f": {self.action} the {self.target}" if self.target else ""
        where = "systemd" if self.systemd else "plain"
        return f"{where} {self.kind} {self.state}+{self.event}/{self.effect}{harm}"


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


def ways_of(systemd: bool, kind: str) -> dict[tuple[State, Event], Way]:
    """How every transition is reached that can be reached here, in the order of the table."""
    ways = WAYS if kind == EXCLUSIVE else OVERLAP_WAYS
    return {
        rule: ways[rule]
        for rule in rules()
        if rule in ways
        and not (systemd and ways[rule].only_plain)
        and not (kind == DRAINING and (rule[0] in NOT_BESIDE_DRAINING or ways[rule].mute_pid1))
    }


def places_of(systemd: bool, kind: str) -> Iterator[tuple[State, Event, int]]:
    """Every place the table has that can be reached here."""
    for (state, event), way in ways_of(systemd, kind).items():
        for effect in range(_last_place(systemd, way, RULES[state][event].effects) + 1):
            yield state, event, effect


def _last_place(systemd: bool, way: Way, effects: Sequence[Effect]) -> int:
    """The death of systemd's main pid ends all others: a successor that kills it comes no further for sure."""
    if systemd and way.side is Side.NEW and Effect.KILL_PEER in effects:
        return effects.index(Effect.KILL_PEER)
    return len(effects)


def survey(systemd: bool, kind: str) -> list[Case]:
    """Every place, reached and left in peace. The outcomes name all the cases there are, by who is there to harm."""
    return [Case(systemd, kind, state.name, event.name, effect) for state, event, effect in places_of(systemd, kind)]


def possible(place: Case) -> list[Case]:
    """The case of a place where nobody is harmed, and all the others it might have."""
    return [place, *(place._replace(target=target.value, action=action) for target in Target for action in ACTIONS)]


def usual_cases(systemd: bool, seed: int) -> list[Case]:
    """What the ordinary test run plays.

    Of the transitions a good reload passes, by chance a half of these: everybody at every place, once with systemd and
    once without, once killed and once stopped, once with each handover; and somebody while an older generation drains.
    Of every other one a single place, with a single harm, by turns with systemd and without; with overlap only where it
    differs from exclusive.
    """
    cases, order, chance = [], list(rules()), random.Random(seed)
    elsewhere = {kind: ways_of(not systemd, kind) for kind in KINDS}
    for kind in KINDS:
        for number, ((state, event), way) in enumerate(ways_of(systemd, kind).items()):
            last = _last_place(systemd, way, RULES[state][event].effects)
            rule = (systemd, kind, state.name, event.name)
            turn, other = number + systemd + KINDS.index(kind), systemd + KINDS.index(kind)
            place = order.index((state, event))
            some = Case(*rule, turn % (last + 1), ANYBODY, _by_turns(turn))
            if is_plain_reload(way) and kind == DRAINING:
                cases.append(some)
            elif is_plain_reload(way):
                for effect, (who, target) in product(range(last + 1), enumerate(PARTIES)):
                    is_played = ((place + effect + who) // 2 + other) % 2 == 0
                    if is_played and not _is_missing(target, kind, state, event, effect) and chance.random() < 0.5:
                        action = _by_turns(place + effect + who + KINDS.index(kind))
                        cases.append(Case(*rule, effect, target.value, action))
            elif (place + other) % 2 == 0 or (state, event) not in elsewhere[kind]:
                differs = state in BESIDE or way is not WAYS.get((state, event))
                if kind == EXCLUSIVE or (kind == OVERLAP and differs):
                    cases.append(some)
    return cases


def _is_missing(target: Target, kind: str, state: State, event: Event, effect: int) -> bool:
    """In a good reload nobody of this kind is there: not yet, or in an exclusive one not any more."""
    if target.side is Side.NEW:
        is_born = event is Event.RELOAD_ASKED and effect > 0 and target.is_supervisor
        return state in (State.OPENING, State.SERVING) and not is_born
    stopped = kind == EXCLUSIVE and (state in BESIDE or event is Event.LOCK_GAINED)
    return target is Target.OLD_WORKER and (stopped or event is Event.NO_WORKER)


def _by_turns(number: int) -> str:
    return list(ACTIONS)[number % len(ACTIONS)]


def run(case: Case) -> Outcome:
    """One case, from an empty directory to an empty directory."""
    way = way_of(case)
    settings = {"handover": "exclusive" if case.kind == EXCLUSIVE else "overlap"}
    instance = Unit(settings) if case.systemd else Plain(settings, notify=way.mute_pid1)
    focus = Focus(way.side, State[case.state], Event[case.event], case.effect)
    stage = Stage(instance, way.old, way.new, focus, beside_draining=case.kind == DRAINING)
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
    if is_plain_reload(way_of(case)) and (victim is None or is_no_more_needed(stage, victim)):
        if stage.calls[0].status != oracle.DONE:
            raise Broken("A reload to good code failed, though nobody it needs was harmed.")
    return True


def is_plain_reload(way: Way) -> bool:
    return (way.lead, way.old, way.new, way.mute_pid1) == (reload, GOOD, GOOD, False)


def way_of(case: Case) -> Way:
    rule = State[case.state], Event[case.event]
    return WAYS[rule] if case.kind == EXCLUSIVE else OVERLAP_WAYS[rule]


def is_no_more_needed(stage: Stage, process: Process) -> bool:
    """A reload can do without it: the worker that is to be replaced, or anybody who drains already."""
    needed = [stage.supervisor(Side.OLD), stage.supervisor(Side.NEW)]
    younger = stage.supervisor(Side.NEW)
    return process not in needed and (younger is None or process.parent != younger.pid)


def find_victim(stage: Stage, case: Case) -> Process | None:
    """Whom to harm; None if there is nobody of that kind."""
    choice = list(Target) if case.kind == DRAINING else list(PARTIES)
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


def impossible(case: str) -> set[str]:
    """The transitions that are not to be seen in this case; in a mixture of handovers those that neither has."""
    kind = case.split()[1]
    never = {*UNREACHABLE} if kind == EXCLUSIVE else {*NEVER_IN_OVERLAP}
    if kind not in KINDS:
        never &= {*UNREACHABLE}
    never -= {(State.YIELDED, Event.PEER_FAILED)}  # by chance: of a worker that was killed before and is found dead now
    return {f"{state.name}+{event.name}" for state, event in never}


def missing_ways() -> list[str]:
    """Rules of the table of which nobody has said how they are reached, or that they cannot be."""
    return [
        f"{state.name}+{event.name} in {kind}"
        for kind, ways, never in ((EXCLUSIVE, WAYS, UNREACHABLE), (OVERLAP, OVERLAP_WAYS, NEVER_IN_OVERLAP))
        for state, event in rules()
        if ((state, event) in ways) is ((state, event) in never)
    ]


def stale_ways() -> list[str]:
    """Entries of our tables that the takeover table has no rule for."""
    entries = {*WAYS, *UNREACHABLE, *OVERLAP_WAYS, *NEVER_IN_OVERLAP}
    return [f"{state.name}+{event.name}" for state, event in entries - set(rules())]
