"""What follows from a supervisor's state alone: its deadline, whether workers are wanted, what is said of it."""

from collections.abc import Mapping
from typing import NamedTuple

from .words import State


class Phase(NamedTuple):
    """What follows from a state alone."""

    deadline: tuple[str, ...]  # the settings whose sum bounds it, in seconds; () = no deadline
    wants_workers: bool  # a dead worker is started again
    main_state: str  # what systemd hears from a main pid in it: starting, ready, reloading or stopping
    status: str  # the sentence for STATUS=, of a supervisor of generation {own} whose peer's is {peer}


_LOCK_WAIT = ("takeover_timeout", "peer_stop_timeout")  # 5 s beyond what the other side may take to stop

PHASES: Mapping[State, Phase] = {
    State.OPENING: Phase((), True, "starting", "Generation {own} is starting"),
    State.WARMING: Phase(("reload_timeout",), False, "starting", "Generation {own} is starting"),
    State.CLAIMING: Phase(_LOCK_WAIT, False, "starting", "Generation {own} is ready, generation {peer} stops"),
    State.FORCING: Phase((), True, "starting", "Generation {own} is ready, generation {peer} is being killed"),
    State.STARTING: Phase(("takeover_timeout",), True, "starting", "Generation {own} takes over from a dead one"),
    State.ACTING: Phase(
        ("start_allowance", "check_timeout", "probation", "peer_barrier_timeout", "takeover_timeout"),
        True,
        "starting",
        "Generation {own} is on probation",
    ),
    State.FAILED: Phase(("stop_timeout",), False, "starting", "Generation {own} failed"),
    State.SERVING: Phase(_LOCK_WAIT, True, "ready", "Generation {own} serves"),
    State.RAISING: Phase(
        ("reload_timeout",), True, "reloading", "Generation {own} serves, generation {peer} is starting"
    ),
    State.CANCELLING: Phase((), True, "reloading", "Generation {own} serves, generation {peer} was too slow"),
    State.YIELDING: Phase(("stop_timeout",), False, "reloading", "Generation {peer} is ready, generation {own} stops"),
    State.REVIVING: Phase(("stop_timeout",), False, "reloading", "Generation {peer} died, generation {own} comes back"),
    # The allowance is for a worker that can only be started when it is released, as an exclusive command; else 0.
    State.YIELDED: Phase(
        ("takeover_timeout", "peer_start_allowance"), False, "reloading", "Generation {peer} takes over"
    ),
    State.CHECKING: Phase(
        ("peer_check_timeout", "takeover_timeout"), False, "reloading", "Generation {peer} serves and is being checked"
    ),
    State.WATCHING: Phase(("peer_probation",), False, "reloading", "Generation {peer} serves, on probation"),
    State.COMMITTING: Phase(("barrier_timeout",), False, "ready", "Generation {peer} serves"),
    State.RECALLING: Phase((), False, "reloading", "Generation {peer} failed and is being killed"),
    State.RETAKING: Phase(
        ("takeover_timeout",), True, "reloading", "Generation {peer} failed, generation {own} comes back"
    ),
    State.DRAINING: Phase(("stop_timeout",), False, "ready", "Generation {peer} serves"),
    State.STOPPING: Phase(("stop_timeout",), False, "stopping", "Stopping"),
    State.EMPTY: Phase(_LOCK_WAIT, False, "stopping", "Stopping: waiting for generation {peer}"),
    State.LAST: Phase(("stop_timeout",), False, "stopping", "Stopping"),
    State.GONE: Phase((), False, "stopping", "Stopped"),
}
