"""The takeover table as data: complete, connected, and never waiting for ever."""

import pytest

from sdsupervise.core.phases import PHASES
from sdsupervise.core.takeover import IGNORED, RULES, Effect, Event, Rule, State, step
from sdsupervise.errors import ImpossibleEvent
from sdsupervise.settings.settings import Settings
from tests.support.places import WITHOUT_LOCK

# States without a deadline, and what ends each of them.
ENDLESS = {
    State.OPENING: "a worker has a deadline of its own to get ready, and so has systemd's start",
    State.KILLING_PREDECESSOR: "the peer was sent SIGKILL, by us or (the token being gone) we by it",
    State.CANCELLING: "the peer was sent SIGKILL, by us or (the token being gone) we by it",
    State.KILLING_SUCCESSOR: "the peer was sent SIGKILL, by us or (the token being gone) we by it",
    State.GONE: "the process has left",
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_pair_is_ruled_ignored_or_impossible(state: State, event: Event) -> None:
    """A pair of state and event has exactly one answer."""
    ruled, ignored = event in RULES[state], event in IGNORED.get(state, frozenset())
    assert not (ruled and ignored)
    if ruled:
        assert step(state, event) == RULES[state][event]
    elif ignored:
        assert step(state, event) is None
    else:
        with pytest.raises(ImpossibleEvent, match=f"{event.name} cannot happen to a supervisor that is {state.name}"):
            step(state, event)


def test_every_state_has_rules_and_a_phase() -> None:
    """No state is forgotten in either table."""
    assert set(RULES) == set(PHASES) == set(State)


def test_every_state_can_be_reached() -> None:
    """From a first generation or a successor, rules lead everywhere."""
    reached, todo = set[State](), [State.OPENING, State.WARMING]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo += [rule.next for rule in RULES[state].values()]
    assert reached == set(State)


@pytest.mark.parametrize("state", State)
def test_deadline_and_its_rule_come_together(state: State) -> None:
    """A deadline that is set has a rule, and a rule for one is not waiting in vain."""
    assert bool(PHASES[state].deadline) == (Event.DEADLINE in RULES[state])


@pytest.mark.parametrize("state", State)
def test_a_deadline_is_made_of_settings(state: State) -> None:
    """Each part of it is a setting, ours or what the peer has told of its own."""
    for part in PHASES[state].deadline:
        assert isinstance(getattr(Settings(), part.removeprefix("peer_")), float)


# Where the predecessor of a reload may be while it goes on.
IN_A_RELOAD = [state for state, phase in PHASES.items() if phase.main_state == "reloading" or state is State.COMMITTING]


@pytest.mark.parametrize("state", State)
def test_what_a_reload_does_has_words(state: State) -> None:
    """Whoever follows a reload, or looks at where its time went, is told of every state it passes, and of no other."""
    phase = PHASES[state]
    assert bool(phase.step) == bool(phase.doing) == (state in IN_A_RELOAD)
    if phase.awaited:
        assert phase.deadline and phase.step


@pytest.mark.parametrize("state", State)
def test_the_lock_and_the_release_go_together(state: State) -> None:
    """Who has a rule for the lock's coming tries to get it; who releases a worker that gets ready has it."""
    phase = PHASES[state]
    assert phase.awaits_lock == (Event.LOCK_GAINED in RULES[state])
    ready = RULES[state].get(Event.WORKER_READY)
    assert phase.releases == (ready is not None and Effect.RELEASE_WORKERS in ready.effects)
    assert not (phase.awaits_lock and phase.releases)


@pytest.mark.parametrize("state", State)
def test_no_state_waits_for_ever(state: State) -> None:
    """What is not at rest has a deadline, or waits for something that is bound to come."""
    if state is not State.SERVING:
        assert bool(PHASES[state].deadline) == (state not in ENDLESS)
    if "SIGKILL" in ENDLESS.get(state, ""):
        assert Event.PEER_GONE in RULES[state]
        assert all(
            Effect.KILL_PEER in rule.effects
            for before in State
            for rule in RULES[before].values()
            if rule.next is state is not before
        )


@pytest.mark.parametrize("state", State)
def test_a_stop_ends_in_leaving_wherever_it_comes(state: State) -> None:
    """Whoever is not leaving yet leaves when asked to stop."""
    leaving = {State.STOPPING, State.EMPTY, State.LEAVING, State.GONE}
    if state not in leaving:
        assert RULES[state][Event.STOP_ASKED].next in leaving


@pytest.mark.parametrize("state", State)
def test_workers_that_get_ready_are_released_or_wait_for_the_lock(state: State) -> None:
    """Where workers are started, one that is ready is not forgotten: it serves at once, or when the lock comes."""
    if PHASES[state].wants_workers:
        answer = RULES[state].get(Event.WORKER_READY) or RULES[state].get(Event.LOCK_GAINED)
        assert answer is not None
        assert Effect.RELEASE_WORKERS in answer.effects


def test_only_the_locks_holder_writes_the_pid_file() -> None:
    """The pid is written when the lock is gained, and by the first generation, which had it from the start."""
    writing = {
        (state, event) for state in State for event, rule in RULES[state].items() if Effect.WRITE_PID in rule.effects
    }
    gaining = {(state, Event.LOCK_GAINED) for state in State if Event.LOCK_GAINED in RULES[state]}
    assert writing == gaining | {(State.OPENING, Event.WORKER_READY)}


@pytest.mark.parametrize("state", State)
def test_ready_is_told_where_the_unit_becomes_so(state: State) -> None:
    """A main supervisor tells systemd READY=1 on each way into a state in which the unit is ready, and nowhere else."""
    is_main = PHASES[state].is_main or state in (State.OPENING, State.RESTORING)
    for event, rule in RULES[state].items():
        becomes_ready = PHASES[state].main_state != "ready" == PHASES[rule.next].main_state
        tells = Effect.TELL_READY in rule.effects
        if Effect.NAME_MAIN_PID in rule.effects:  # one datagram says both
            assert becomes_ready and not tells
        else:
            assert tells == (becomes_ready and is_main), event


def test_late_successor_is_cancelled() -> None:
    """A successor that is not ready in time is killed, and we go on serving."""
    assert step(State.STARTING_SUCCESSOR, Event.DEADLINE) == Rule(State.CANCELLING, (Effect.KILL_PEER,))
    assert PHASES[State.CANCELLING].wants_workers


def test_ready_successor_asks_before_anything_stops() -> None:
    """The predecessor's workers are not stopped before the successor's are ready."""
    assert step(State.WARMING, Event.WORKER_READY) == Rule(State.CLAIMING, (Effect.ASK_YIELD,))
    assert step(State.STARTING_SUCCESSOR, Event.PEER_ASKS_YIELD) == Rule(State.YIELDING, (Effect.STOP_WORKERS,))


def test_lock_is_given_up_without_workers_or_for_an_overlap() -> None:
    """The lock is closed when the last worker is gone, or when the successor may serve beside ours; else never."""
    closing = [
        (state, event) for state in State for event, rule in RULES[state].items() if Effect.CLOSE_LOCK in rule.effects
    ]
    assert closing == [(State.STARTING_SUCCESSOR, Event.PEER_ASKS_LOCK), (State.YIELDING, Event.NO_WORKER)]


def test_overlap_stops_workers_at_the_commit_alone() -> None:
    """From the yield on, only the commit and a stop of the service stop the workers that serve beside the new ones."""
    assert step(State.STARTING_SUCCESSOR, Event.PEER_ASKS_LOCK) == Rule(State.YIELDED, (Effect.CLOSE_LOCK,))
    for state in WITHOUT_LOCK:
        for rule in RULES[state].values():
            leaves = rule.next in (State.DRAINING, State.STOPPING)
            assert (Effect.STOP_WORKERS in rule.effects) == leaves
            assert (
                not {Effect.KILL_WORKERS, Effect.RELEASE_WORKERS} & set(rule.effects) or state is State.TAKING_LOCK_BACK
            )


def test_new_code_is_watched_only_when_its_check_has_passed() -> None:
    """The probation, and the commit after it, begin with the word of the before_commit command; its failure, its
    silence and the successor's death end in the old code."""
    ways_in = {(state, event) for state in State for event, rule in RULES[state].items() if rule.next is State.WATCHING}
    assert ways_in == {(State.CHECKING, Event.PEER_CHECKED)}
    assert step(State.ON_TRIAL, Event.CHECK_FAILED) == Rule(State.ON_TRIAL, (Effect.TELL_FAILED,))
    for event in (Event.PEER_FAILED, Event.DEADLINE):
        assert step(State.CHECKING, event) == Rule(State.KILLING_SUCCESSOR, (Effect.KILL_PEER,))


def test_reload_is_done_only_at_the_commit() -> None:
    """Its caller hears "done" when systemd has heard of the new main pid, and nowhere else."""
    done = {state for state in State for rule in RULES[state].values() if Effect.ANSWER_DONE in rule.effects}
    assert done == {State.COMMITTING}


def test_successor_that_dies_before_the_commit_is_rolled_back() -> None:
    """The predecessor takes the lock back, serves, and tells the caller that the reload failed."""
    for state in set(WITHOUT_LOCK) - {State.TAKING_LOCK_BACK}:
        assert step(state, Event.PEER_GONE) == Rule(State.TAKING_LOCK_BACK, (Effect.OPEN_LOCK,))
    back = step(State.TAKING_LOCK_BACK, Event.LOCK_GAINED)
    assert back == Rule(State.RESTORING, (Effect.WRITE_PID, Effect.RELEASE_WORKERS))
    assert step(State.RESTORING, Event.WORKERS_SETTLED) == Rule(
        State.SERVING, (Effect.ANSWER_FAILED, Effect.TELL_READY)
    )


def test_a_failed_reload_is_answered_when_it_is_known_who_serves() -> None:
    """But for a stop, every verdict "failed" comes from the one state that waits for the old workers."""
    failing = {
        (state, rule.next)
        for state in State
        for event, rule in RULES[state].items()
        if Effect.ANSWER_FAILED in rule.effects and event not in (Event.STOP_ASKED, Event.PEER_STOPS)
    }
    assert failing == {(State.RESTORING, State.SERVING)}
    assert PHASES[State.RESTORING].wants_workers and PHASES[State.RESTORING].main_state == "reloading"


def test_signal_to_a_successor_that_does_not_serve_cancels_the_reload_alone() -> None:
    """It leaves without a word to the predecessor, which serves on."""
    for state in (State.WARMING, State.CLAIMING, State.FAILED):
        rule = step(state, Event.STOP_ASKED)
        assert rule is not None
        assert rule.next is State.LEAVING
        assert Effect.TELL_STOP not in rule.effects


def test_orphaned_successor_serves() -> None:
    """A successor whose predecessor dies needs nothing but the lock, even if it had failed."""
    for state in (State.WARMING, State.CLAIMING, State.KILLING_PREDECESSOR, State.FAILED):
        rule = step(state, Event.PEER_GONE)
        assert rule is not None
        assert rule.next is State.TAKING_LOCK
