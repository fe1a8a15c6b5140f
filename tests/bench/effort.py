"""How long to measure."""

from typing import NamedTuple


class Effort(NamedTuple):
    """How often each thing is done; a whole run stays below five minutes."""

    respawns: int = 150
    peer_respawns: int = 40
    ping_rounds: int = 300
    pings: int = 100  # in each round: less than the scheduler's slice, or each holds other processes' time too
    memory_starts: int = 5
    idle_seconds: float = 20.0
    reloads: int = 30
    starts: int = 15
    loads: int = 3  # for each way to connect
    reloads_under_load: int = 5  # in each load
    crowds: int = 3
    crowd: int = 500
    crowd_seconds: float = 4.0


QUICK = Effort(
    respawns=10,
    peer_respawns=2,
    ping_rounds=5,
    pings=50,
    memory_starts=1,
    idle_seconds=0.5,
    reloads=3,
    starts=1,
    loads=1,
    reloads_under_load=1,
    crowds=1,
    crowd=5,
    crowd_seconds=1.0,
)
