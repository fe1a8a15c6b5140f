"""The words of the takeover table: the states of a supervisor, its events, and the effects it has."""

from enum import Enum, auto


class State(Enum):
    """The state of a supervisor. It is everything that the table needs to know."""

    # The first generation, before its first worker is ready. It holds the lock already.
    OPENING = auto()
    # A successor, until the commit.
    WARMING = auto()  # its workers initialise
    CLAIMING = auto()  # it has asked the predecessor to yield, and waits for the lock
    KILLING_PREDECESSOR = auto()  # the predecessor did not yield in time, and this supervisor kills it
    TAKING_LOCK = auto()  # the predecessor is gone; only the lock is missing
    ON_TRIAL = auto()  # it holds the lock and serves; the predecessor can still call it back
    FAILED = auto()  # it gives up; the predecessor keeps serving
    # The main supervisor, when no reload runs.
    SERVING = auto()
    # A predecessor, from the start of a reload.
    STARTING_SUCCESSOR = auto()  # a successor warms up; our workers serve
    CANCELLING = auto()  # the successor was too slow, and this supervisor kills it
    YIELDING = auto()  # our workers stop, so that the successor's may serve
    REVIVING = auto()  # the successor died while we yielded; new workers start when our old workers are gone
    YIELDED = auto()  # it has released the lock, and waits until the successor serves
    CHECKING = auto()  # the successor serves and runs before_commit
    WATCHING = auto()  # the successor serves, and is on probation
    COMMITTING = auto()  # it has sent systemd the new main pid, and waits until systemd has processed it
    KILLING_SUCCESSOR = auto()  # the successor failed, and this supervisor kills it
    TAKING_LOCK_BACK = auto()  # the successor is dead, and this supervisor waits for the lock
    RESTORING = auto()  # the reload has failed; it waits until our workers serve again, or have died
    DRAINING = auto()  # the successor is the main supervisor; this one exits when its workers have exited
    # The end of a supervisor.
    STOPPING = auto()  # the service stops: our workers stop, and the peer knows of the stop
    EMPTY = auto()  # our workers are gone, but the peer's workers are not
    LEAVING = auto()  # this supervisor alone stops: it exits with its last worker
    GONE = auto()


class Event(Enum):
    """A fact that reaches a supervisor, grouped by its source."""

    # from our workers
    WORKER_READY = auto()
    WORKER_GONE = auto()
    NO_WORKER = auto()  # none of our workers is left; repeated in each state that has a rule for it
    WORKERS_SETTLED = auto()  # each of our workers serves, or has died before it served; repeated like NO_WORKER
    GAVE_UP = auto()  # core/respawn.py says that the crashes are too many
    # from the kernel
    LOCK_GAINED = auto()
    PEER_GONE = auto()  # the peer is dead, and all its messages have been read
    NO_PEER = auto()  # there is no peer; repeated in each state that has a rule for it
    # from the peer, over the channel
    PEER_ASKS_YIELD = auto()  # it is ready, and may serve when our workers are gone
    PEER_ASKS_LOCK = auto()  # it is ready, and may serve beside our workers: both generations have handover overlap
    PEER_SERVES = auto()
    PEER_CHECKED = auto()
    PEER_FAILED = auto()
    PEER_COMMITTED = auto()
    PEER_STOPS = auto()
    PEER_EMPTY = auto()
    # from before_commit; CHECK_PASSED comes at once if there is no such command
    CHECK_PASSED = auto()
    CHECK_FAILED = auto()
    # from systemd
    BARRIER_RETURNED = auto()
    # from the clock
    DEADLINE = auto()
    # from operators: a command or a signal
    RELOAD_ASKED = auto()
    STOP_ASKED = auto()


class Effect(Enum):
    """An order to the shell, which performs it."""

    # to our workers
    RELEASE_WORKERS = auto()  # answer "ok" to each worker that is ready
    STOP_WORKERS = auto()  # send SIGTERM, or the setting stop_signal
    KILL_WORKERS = auto()  # send SIGKILL
    # to the lock
    OPEN_LOCK = auto()  # open the pid file anew; the lock itself arrives as LOCK_GAINED
    CLOSE_LOCK = auto()
    WRITE_PID = auto()
    # to the peer
    START_SUCCESSOR = auto()
    ASK_YIELD = auto()
    TELL_SERVING = auto()  # held back until a worker that can start only after its release has started
    TELL_CHECKED = auto()
    TELL_FAILED = auto()
    TELL_COMMITTED = auto()
    TELL_STOP = auto()
    TELL_EMPTY = auto()
    KILL_PEER = auto()
    KILL_PEER_WORKERS = auto()
    # to systemd
    TELL_READY = auto()  # READY=1
    NAME_MAIN_PID = auto()  # MAINPID= of the successor with READY=1, then a barrier
    # to the caller of the reload
    ANSWER_DONE = auto()
    ANSWER_FAILED = auto()
    # to this supervisor
    EXIT = auto()
