"""What a walk has to reckon with, and what it may do without."""

from enum import Enum, auto
from typing import NamedTuple


class World(NamedTuple):
    """What a walk has to reckon with."""

    systemd: bool = False
    trial: bool = False  # there is a before_commit command, and a probation
    crashes: int = 0
    hangs: int = 0
    stops: int = 0
    # No deadline passes but probation's, so that nothing can be left to one; and the command does not fail.
    patient: bool = False
    overlap: bool = False  # the handover
    mixed: bool = False  # exclusive, but of workers that hold no copy of the lock: they were started for overlap
    late: bool = False  # workers can only be started when they are released, as exclusive commands

    def __str__(self) -> str:
        handover = "overlap" if self.overlap else "mixed" if self.mixed else "exclusive"
        words = [handover, "systemd" if self.systemd else "alone"]
        words += ["trial"] * self.trial + ["late"] * self.late + ["patient"] * self.patient
        return f"{', '.join(words)}: crashes {self.crashes}, hangs {self.hangs}, stops {self.stops}"


class Lapse(Enum):
    """A rule of the shell or the kernel's that a walk may do without."""

    KILLS_WITHOUT_TOKEN = auto()
    DEATH_BEFORE_MESSAGES = auto()  # PEER_GONE at once; what it had said is dropped
    COMMITS_BEFORE_DEATH = auto()  # acts on the barrier's return or deadline before a look at the successor's pidfd
    COMMITS_BEFORE_SIGTERM = auto()  # … before a look at the signals
    LEAVES_IN_HASTE = auto()  # NO_WORKER before the news of the peer that wait
    KILLS_BEFORE_TRYING_LOCK = auto()  # a lock deadline is acted on though the lock is free
    WORKERS_UNANNOUNCED = auto()  # the peer's workers cannot be killed
    NO_WORKER_DEADLINE = auto()  # a hung worker is waited for
    UNLOCKS = auto()  # LOCK_UN, which frees the lock for every copy, instead of closing
    WORKERS_WITHOUT_LOCK = auto()  # they hold no copy of the lock, exclusive though they are
    SERVES_BESIDE_PEER = auto()  # a free lock is taken though a worker of the peer's lives, which holds no copy
    WORKERS_KEEP_LOCK = auto()  # they hold one, in an overlap
