"""What follows from a supervisor's state alone: its deadline, whether it wants workers, what status shows.

Code outside `core/` asks a column of this table. No other module has a set of states of its own.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from .states import State


class Clients(Enum):
    """Which generation gets new clients at an address where each generation has a socket of its own."""

    OURS = auto()
    OURS_BUT_THE_CHECK = auto()  # the connections of before_commit go to the successor
    THEIRS = auto()  # all connections go to the successor


class Phase(NamedTuple):
    """One row of the table: what follows from one state."""

    deadline: tuple[str, ...]  # the settings whose sum is its deadline, in seconds; (): it has no deadline
    wants_workers: bool  # a dead worker is started again
    main_state: str  # what the main pid reports to systemd: starting, ready, reloading or stopping
    status: str  # the sentence for STATUS=; {own} and {peer} become the numbers of the generations
    serves: str = ""  # whose workers serve, according to that sentence: "own", "peer", or "" for neither
    clients: Clients | None = None  # which generation gets new clients from here on; None: no change
    is_main: bool = False  # a successor in this state is the main supervisor
    awaits_lock: bool = False  # it tries to get the lock
    releases: bool = False  # it has the lock, and releases each worker that is ready
    for_workers: bool = False  # its deadline bounds the start or the stop of its own workers
    awaited: str = ""  # what the predecessor waits for the successor to become: "ready", "serving", …
    looks_first: bool = False  # before a deadline counts, it checks that the peer lives and that no signal is pending
    gives_up_lock: bool = False  # it stops if its deadline passes while an unrelated process holds the lock
    # too many crashes end the service; in a reload they do not, since the new code may mend them
    gives_up: bool = False
    waits_for_all: bool = False  # its workers count as ready when all of them are
    is_unproven: bool = False  # a successor that has had no client yet: any end of a worker is a failure
    is_succeeded: bool = False  # the next generation is the main one
    waits_for_hooks: bool = False  # it waits for notify_command before it exits
    waits_for_draining: bool = False  # it waits for the draining generations before it exits
    leaves_refused: bool = False  # it does not wait for a worker that it may not signal
    lasts: str = ""  # the state ends at once if this setting is 0 seconds
    # How the predecessor shows a reload:
    step: str = ""  # what `status` calls the time spent in this state
    doing: str = ""  # what the terminal of the reload's caller shows during this state

    @property
    def is_stopping(self) -> bool:
        """Whether the service stops."""
        return self.main_state == "stopping"


_LOCK_WAIT = ("takeover_timeout", "peer_stop_timeout")  # the peer gets 5 s more than it may take to stop
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
        *(("takeover_timeout",), True, "starting", "Generation {own} takes over, generation {peer} is dead"),
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
    State.FAILED: Phase(
        *(("stop_timeout",), False, "starting", "Generation {own} failed"),
        for_workers=True,
        leaves_refused=True,
    ),
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
    # start_allowance is more than 0 only for an exclusive command, which can start only after its release.
    State.YIELDED: Phase(
        ("takeover_timeout", "peer_start_allowance"),
        False,
        "reloading",
        "Generation {peer} takes over",
        clients=Clients.OURS_BUT_THE_CHECK,  # this begins before the successor serves
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
        doing="before_commit checks the new code",
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
        doing="systemd gets the new main pid",
    ),
    State.KILLING_SUCCESSOR: Phase(
        *((), False, "reloading", "Generation {peer} failed and is being killed"),
        clients=Clients.OURS_BUT_THE_CHECK,  # before_commit may still connect, and our workers must not answer it
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
    # The verdict waits until two facts are known: whether the old code serves, and why the new code failed.
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
        leaves_refused=True,
        waits_for_hooks=True,
    ),
    State.STOPPING: Phase(
        *(("stop_timeout",), False, "stopping", "Stopping"),
        for_workers=True,
        leaves_refused=True,
        waits_for_hooks=True,
        waits_for_draining=True,
    ),
    State.EMPTY: Phase(_LOCK_WAIT, False, "stopping", "Stopping: waiting for generation {peer}"),
    State.LEAVING: Phase(
        *(("stop_timeout",), False, "stopping", "Stopping"),
        for_workers=True,
        leaves_refused=True,
        waits_for_hooks=True,
        waits_for_draining=True,
    ),
    State.GONE: Phase((), False, "stopping", "Stopped", is_succeeded=True),
}
