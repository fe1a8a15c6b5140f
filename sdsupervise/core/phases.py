"""What follows from a supervisor's state alone: its deadline, whether workers are wanted, what is said of it.

Whoever needs to know something of a state asks a column here; no other module has a set of states of its own.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from .states import State


class Clients(Enum):
    """Who gets new clients where both generations have a socket of their own on an address."""

    OURS = auto()
    OURS_BUT_THE_CHECK = auto()  # the connections of before_commit are the successor's
    THEIRS = auto()  # the successor's


class Phase(NamedTuple):
    """What follows from a state alone."""

    deadline: tuple[str, ...]  # the settings whose sum bounds it, in seconds; () = no deadline
    wants_workers: bool  # a dead worker is started again
    main_state: str  # what systemd hears from a main pid in it: starting, ready, reloading or stopping
    status: str  # the sentence for STATUS=, of a supervisor of generation {own} whose peer's is {peer}
    serves: str = ""  # whose workers serve, as the sentence says: "own" or "peer"
    clients: Clients | None = None  # who gets new ones from here on; None: whoever got them before
    is_main: bool = False  # a successor that gets here is the main supervisor from then on
    awaits_lock: bool = False  # it tries to get the lock
    releases: bool = False  # it has the lock, and releases a worker as soon as that is ready
    for_workers: bool = False  # its deadline is for its own workers' start, or stop
    awaited: str = ""  # what the successor has not become where the deadline passes: "ready"
    looks_first: bool = False  # before its deadline counts: is the peer alive, and does a signal wait?
    gives_up_lock: bool = False  # it stops, if its deadline passes and the lock is a stranger's
    gives_up: bool = False  # too many crashes end the service; in a reload the other code may be the cure
    waits_for_all: bool = False  # its workers are ready when all of them are
    is_unproven: bool = False  # a successor that has served nobody: any end of a worker is a failure
    is_succeeded: bool = False  # the next generation is the main one
    waits_for_hooks: bool = False  # it ends only when notify_command has
    waits_for_draining: bool = False  # it ends only when the generations before it have
    lasts: str = ""  # it is over at once if this setting is 0 seconds
    # How its predecessor shows a reload:
    step: str = ""  # what `status` calls the time that it took
    doing: str = ""  # what its caller's terminal shows while it lasts


_LOCK_WAIT = ("takeover_timeout", "peer_stop_timeout")  # 5 s beyond what the other side may take to stop
_BACK = "went back"

PHASES: Mapping[State, Phase] = {
    State.OPENING: Phase(
        (), True, "starting", "Generation {own} is starting", releases=True, gives_up=True, waits_for_all=True
    ),
    State.WARMING: Phase(
        *(("reload_timeout",), False, "starting", "Generation {own} is starting"),
        for_workers=True,
        waits_for_all=True,
        is_unproven=True,
    ),
    State.CLAIMING: Phase(
        *(_LOCK_WAIT, False, "starting", "Generation {own} is ready, generation {peer} stops"),
        awaits_lock=True,
        is_unproven=True,
    ),
    State.KILLING_PREDECESSOR: Phase(
        *((), True, "starting", "Generation {own} is ready, generation {peer} is being killed"),
        is_main=True,
        awaits_lock=True,
    ),
    State.TAKING_LOCK: Phase(
        *(("takeover_timeout",), True, "starting", "Generation {own} takes over from a dead one"),
        is_main=True,
        awaits_lock=True,
        gives_up_lock=True,
    ),
    State.ON_TRIAL: Phase(
        ("start_allowance", "check_timeout", "probation", "peer_barrier_timeout", "takeover_timeout"),
        True,
        "starting",
        "Generation {own} is on probation",
        releases=True,
        for_workers=True,
    ),
    State.FAILED: Phase(("stop_timeout",), False, "starting", "Generation {own} failed", for_workers=True),
    State.SERVING: Phase(
        *(_LOCK_WAIT, True, "ready", "Generation {own} serves"),
        serves="own",
        is_main=True,
        releases=True,
        gives_up=True,
    ),
    State.STARTING_SUCCESSOR: Phase(
        ("peer_reload_timeout",),
        True,
        "reloading",
        "Generation {own} serves, generation {peer} is starting",
        serves="own",
        releases=True,
        awaited="ready",
        step="started",
        doing="the new code warms up",
    ),
    State.CANCELLING: Phase(
        (),
        True,
        "reloading",
        "Generation {own} serves, generation {peer} was too slow",
        serves="own",
        releases=True,
        step=_BACK,
        doing="the new code was too slow",
    ),
    State.YIELDING: Phase(
        ("stop_timeout",),
        False,
        "reloading",
        "Generation {peer} is ready, generation {own} stops",
        for_workers=True,
        step="old stopped",
        doing="the old workers stop",
    ),
    State.REVIVING: Phase(
        ("stop_timeout",),
        False,
        "reloading",
        "Generation {peer} died, generation {own} comes back",
        for_workers=True,
        step=_BACK,
        doing="the old code comes back",
    ),
    # The allowance is for a worker that can only be started when it is released, as an exclusive command; else 0.
    State.YIELDED: Phase(
        ("takeover_timeout", "peer_start_allowance"),
        False,
        "reloading",
        "Generation {peer} takes over",
        clients=Clients.OURS_BUT_THE_CHECK,  # from before the successor serves
        awaited="serving",
        step="took over",
        doing="the new code takes over",
    ),
    State.CHECKING: Phase(
        ("peer_check_timeout", "takeover_timeout"),
        False,
        "reloading",
        "Generation {peer} serves and is being checked",
        serves="peer",
        awaited="found good",
        lasts="peer_check_timeout",
        step="checked",
        doing="before_commit looks at it",
    ),
    State.WATCHING: Phase(
        ("peer_probation",),
        False,
        "reloading",
        "Generation {peer} serves, on probation",
        serves="peer",
        clients=Clients.THEIRS,
        looks_first=True,
        lasts="peer_probation",
        step="on probation",
        doing="on probation",
    ),
    State.COMMITTING: Phase(
        ("barrier_timeout",),
        False,
        "ready",
        "Generation {peer} serves",
        serves="peer",
        looks_first=True,
        step="committed",
        doing="systemd is told",
    ),
    State.KILLING_SUCCESSOR: Phase(
        *((), False, "reloading", "Generation {peer} failed and is being killed"),
        clients=Clients.OURS_BUT_THE_CHECK,  # whatever its before_commit still asks is not ours to answer
        step=_BACK,
        doing="the old code comes back",
    ),
    State.TAKING_LOCK_BACK: Phase(
        ("takeover_timeout",),
        True,
        "reloading",
        "Generation {peer} failed, generation {own} comes back",
        clients=Clients.OURS,
        awaits_lock=True,
        gives_up_lock=True,
        step=_BACK,
        doing="the old code comes back",
    ),
    # The verdict waits for the truth: whether the old code serves, and why the new one failed.
    State.RESTORING: Phase(
        ("worker_start_allowance", "takeover_timeout"),
        True,
        "reloading",
        "Generation {own} serves, generation {peer} failed",
        serves="own",
        releases=True,
        for_workers=True,
        step=_BACK,
        doing="the old code comes back",
    ),
    State.DRAINING: Phase(
        *(("stop_timeout",), False, "ready", "Generation {peer} serves"),
        serves="peer",
        for_workers=True,
        is_succeeded=True,
        waits_for_hooks=True,
    ),
    State.STOPPING: Phase(
        *(("stop_timeout",), False, "stopping", "Stopping"),
        for_workers=True,
        waits_for_hooks=True,
        waits_for_draining=True,
    ),
    State.EMPTY: Phase(_LOCK_WAIT, False, "stopping", "Stopping: waiting for generation {peer}"),
    State.LEAVING: Phase(
        *(("stop_timeout",), False, "stopping", "Stopping"),
        for_workers=True,
        waits_for_hooks=True,
        waits_for_draining=True,
    ),
    State.GONE: Phase((), False, "stopping", "Stopped", is_succeeded=True),
}
