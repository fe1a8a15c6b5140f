"""The words of the takeover table: where a supervisor stands, what can happen to it, what it can do."""

from enum import Enum, auto


class State(Enum):
    """Where a supervisor stands. A state says everything the table needs to know."""

    # The first generation, before its first worker is ready; it holds the lock already.
    OPENING = auto()
    # A successor, up to the commit.
    WARMING = auto()  # its workers initialise
    CLAIMING = auto()  # has asked the predecessor to yield, waits for the lock
    KILLING_PREDECESSOR = auto()  # the predecessor did not yield in time and is being killed
    TAKING_LOCK = auto()  # the predecessor is gone; nothing but the lock is missing
    ON_TRIAL = auto()  # holds the lock and serves; the predecessor can still call it back
    FAILED = auto()  # gives up; the predecessor serves on
    # The one that serves and has nobody above it.
    SERVING = auto()
    # A predecessor, from the reload's start.
    STARTING_SUCCESSOR = auto()  # a successor warms up; we serve as ever
    CANCELLING = auto()  # the successor was too slow and is being killed
    YIELDING = auto()  # our workers stop, so that the successor's may serve
    REVIVING = auto()  # the successor died meanwhile; as soon as our old workers are gone we start new ones
    YIELDED = auto()  # the lock is given up; waiting to hear that the successor serves
    CHECKING = auto()  # the successor serves and runs the service's before_commit command
    WATCHING = auto()  # the successor serves on probation
    COMMITTING = auto()  # systemd has been told the new main pid; waiting until it has heard
    KILLING_SUCCESSOR = auto()  # the successor failed us and is being killed
    TAKING_LOCK_BACK = auto()  # the successor is dead; waiting to get the lock back
    RESTORING = auto()  # the reload has failed; waiting until our workers serve again, or are known not to
    DRAINING = auto()  # the successor is the main one; we leave when our workers have
    # Leaving for good.
    STOPPING = auto()  # a stop: our workers stop, the peer has been told
    EMPTY = auto()  # our workers are gone, the peer's not yet
    LEAVING = auto()  # nobody waits for us any more: leave with the last worker
    GONE = auto()


class Event(Enum):
    """A fact that reached a supervisor, by where it comes from."""

    # from our own workers
    WORKER_READY = auto()
    WORKER_GONE = auto()
    NO_WORKER = auto()  # none of ours is left (given again to each state that has a rule for it)
    WORKERS_SETTLED = auto()  # each of ours serves, or has died without having served (given again, as NO_WORKER)
    GAVE_UP = auto()  # the crash-loop verdict of core/respawn.py
    # from the kernel
    LOCK_GAINED = auto()
    PEER_GONE = auto()  # the other supervisor is dead, and all it ever said has been heard
    NO_PEER = auto()  # there is none (given again to each state that has a rule for it)
    # from the peer, over the channel
    PEER_ASKS_YIELD = auto()  # it is ready, and may serve when our workers are gone
    PEER_ASKS_LOCK = auto()  # it is ready, and may serve beside our workers: both services are for overlap
    PEER_SERVES = auto()
    PEER_CHECKED = auto()
    PEER_FAILED = auto()
    PEER_COMMITTED = auto()
    PEER_STOPS = auto()
    PEER_EMPTY = auto()
    # from the before_commit command; CHECK_PASSED at once where there is none
    CHECK_PASSED = auto()
    CHECK_FAILED = auto()
    # from systemd
    BARRIER_RETURNED = auto()
    # from the clock
    DEADLINE = auto()
    # from people
    RELOAD_ASKED = auto()
    STOP_ASKED = auto()


class Effect(Enum):
    """An order to the shell."""

    # to our workers
    RELEASE_WORKERS = auto()  # answer "ok" to each that is ready
    STOP_WORKERS = auto()  # SIGTERM
    KILL_WORKERS = auto()  # SIGKILL
    # to the lock
    OPEN_LOCK = auto()  # a fresh open file description; the lock itself comes as LOCK_GAINED
    CLOSE_LOCK = auto()
    WRITE_PID = auto()
    # to the peer
    START_SUCCESSOR = auto()
    ASK_YIELD = auto()
    TELL_SERVING = auto()  # held back while a worker that could only be started now is not up
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
    # to whoever asked for the reload
    ANSWER_DONE = auto()
    ANSWER_FAILED = auto()
    # to ourselves
    EXIT = auto()
