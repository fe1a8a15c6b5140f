"""Two supervisors that follow the real table, and the world around them.

The world is the kernel (flock, channel, pidfds, signals that take their time), systemd (or none), crashes and hangs at
any moment, workers that die or never get ready, and people who reload and stop. Deadlines pass at any moment. What the
shell owes the table (the module docstring of `core/takeover.py`) is built in, and each such rule can be broken, a
`Lapse`, to see that it matters.

Not modelled: three generations at once (whom a reload finds draining takes no part in it), more than one worker, a
second start that takes the lock in the gap, a supervisor stopped for good between taking the token and killing,
durations.
"""

from collections.abc import Iterator

from sdsupervise.core.takeover import State

from . import kernel, promises
from .joint import (
    ABSENT,
    BY_SIGNAL,
    BY_SYSTEMCTL,
    CALLED_OFF,
    CALLED_OFF_READY,
    CHECKED,
    CRASHES,
    DEAD,
    DOOMED,
    HANGING,
    HANGS,
    HUNG,
    LEAVING,
    LOCK,
    MAIN,
    MODE,
    NEW,
    NO_WORKER,
    NOTIFY,
    OLD,
    PASSED,
    READY,
    REFUTED,
    RELEASED,
    RESTARTED,
    RETURNED,
    RUNS,
    SIDES,
    STARTING,
    STATE_INDEX,
    STOP,
    STOPS,
    SWEPT,
    TERM,
    TOLD,
    TRIAL,
    UNREAD,
    UNREAPED,
    WIDTH,
    WORKER,
    Joint,
    in_words,
    worker_in_words,
)
from .shell import Shell
from .table import Compiled, compiled
from .walk import Kind, Move
from .world import Lapse, World

# Where a worker goes by itself. (One whose supervisor is dead knows at once, and leaves.)
_WORKERS_WAY = {STARTING: READY, TOLD: LEAVING, LEAVING: UNREAPED, CALLED_OFF: UNREAPED, CALLED_OFF_READY: UNREAPED}


class TwoSupervisors:
    """The model. `met` holds the pairs of state and event that occurred, as indexes."""

    def __init__(self, world: World, table: Compiled | None = None, lapses: frozenset[Lapse] = frozenset()) -> None:
        self._world = world
        self._shell = Shell(table if table is not None else compiled(), world, lapses)
        self.met = self._shell.met
        self.promises = promises.promises(world)
        self.initial: Joint = (
            *(STATE_INDEX[State.OPENING], RUNS, STARTING, 0, 0, 1),
            *(ABSENT, RUNS, NO_WORKER, 0, 0, 0),
            *(OLD + 1, 0, 0, OLD + 1 if world.systemd else 0),
            *(0, 0, 0, world.crashes, world.hangs, world.stops, 0, 0, 0, 0),
        )
        assert len(self.initial) == WIDTH

    def check(self, joint: Joint) -> None:
        """Raises Broken."""
        promises.check(joint, self._world)

    def in_words(self, joint: Joint) -> str:
        """One line for a person."""
        return in_words(joint)

    def moves(self, joint: Joint) -> Iterator[Move]:
        """Everything that can happen next."""
        if joint[OLD] >= RESTARTED:
            return
        for side in (OLD, NEW):
            yield from self._shell.moves(joint, side)
            yield from self._fate_of_supervisor(joint, side)
            yield from self._fate_of_worker(joint, side)
        yield from self._shell.reload(joint)
        if joint[TRIAL] == CHECKED:
            yield from self._fate_of_command(joint)
        if joint[STOPS]:
            yield from self._stops(joint)
        if self._world.systemd:
            yield from self._systemd(joint)

    def _fate_of_supervisor(self, joint: Joint, side: int) -> Iterator[Move]:
        state, mode, name = joint[side], joint[side + MODE], SIDES[side]
        if state >= DEAD:
            return
        after = list(joint)
        if mode & DOOMED:
            kernel.die(after, side)
            yield f"{name}: dies of SIGKILL", self._shell.settled(after), Kind.ITSELF
        elif joint[CRASHES]:
            kernel.crash(after, side)
            yield f"{name}: crashes", self._shell.settled(after), Kind.OUTSIDE
        after = list(joint)
        if mode == RUNS and joint[HANGS]:
            after[HANGS] -= 1
            kernel.hang(after, side)
            yield f"{name}: hangs", self._shell.settled(after), Kind.OUTSIDE
        elif mode == HUNG:
            kernel.resume(after, side)
            yield f"{name}: runs again", self._shell.settled(after), Kind.OUTSIDE
        if self._shell.may_take_lock(joint, side):
            after = list(joint)
            after[LOCK] = side + 1
            yield f"{name}: the kernel grants it the lock", self._shell.settled(after), Kind.ITSELF

    def _fate_of_worker(self, joint: Joint, side: int) -> Iterator[Move]:
        worker = joint[side + WORKER]
        if worker in (NO_WORKER, UNREAPED):
            return

        def becomes(condition: int, kind: Kind, *, spending: int | None = None) -> Move:
            after = list(joint)
            after[side + WORKER] = condition
            if spending is not None:
                after[spending] -= 1
            what = f"{SIDES[side]} worker: {worker_in_words(worker)}, now {worker_in_words(condition)}"
            return what, self._shell.settled(after), kind

        if worker > HANGING:
            yield becomes(worker - HANGING, Kind.OUTSIDE)
        else:
            if joint[side] >= DEAD:
                yield becomes(LEAVING if worker in (RELEASED, TOLD) else UNREAPED, Kind.ITSELF)
            elif worker in _WORKERS_WAY:
                yield becomes(_WORKERS_WAY[worker], Kind.ITSELF)
            if joint[HANGS]:
                yield becomes(worker + HANGING, Kind.OUTSIDE, spending=HANGS)
        if joint[CRASHES]:
            yield becomes(UNREAPED, Kind.OUTSIDE, spending=CRASHES)

    def _fate_of_command(self, joint: Joint) -> Iterator[Move]:
        """How it ends is not ours to say; one that hangs is ended, and has failed."""
        for end, words in ((PASSED, "passes"), (REFUTED, "fails")):
            if end == PASSED or not self._world.patient:
                after = list(joint)
                after[TRIAL] = end
                yield f"before_commit {words}", self._shell.settled(after), Kind.ITSELF

    def _stops(self, joint: Joint) -> Iterator[Move]:
        for side in (OLD, NEW):
            if joint[side] < DEAD:
                after = list(joint)
                after[side + TERM], after[STOP] = 1, max(joint[STOP], BY_SIGNAL)
                after[STOPS] -= 1
                yield f"somebody sends SIGTERM to the {SIDES[side]} one", self._shell.settled(after), Kind.OUTSIDE
        if joint[MAIN]:
            after = list(joint)
            after[joint[MAIN] - 1 + TERM], after[STOP] = 1, BY_SYSTEMCTL
            after[STOPS] -= 1
            yield "systemctl stop", self._shell.settled(after), Kind.OUTSIDE

    def _systemd(self, joint: Joint) -> Iterator[Move]:
        after = list(joint)
        main = joint[MAIN]
        if joint[NOTIFY] == UNREAD:  # read before the sender's death is
            after[NOTIFY] = RETURNED
            if joint[STOP] == BY_SYSTEMCTL:  # systemd < 256 accepts none during a stop
                yield "systemd: refuses the new main pid", self._shell.settled(list(after)), Kind.ITSELF
            if joint[NEW] < DEAD:
                after[MAIN] = NEW + 1
            yield "systemd: reads the new main pid", self._shell.settled(after), Kind.ITSELF
        elif not main:
            yield "systemd: the main process is dead", self._end(joint), Kind.ITSELF
        elif joint[main - 1 + MODE] & HUNG:
            yield "systemd: the watchdog barks", self._end(joint), Kind.DEADLINE

    def _end(self, joint: Joint) -> Joint:
        return (SWEPT if joint[STOP] == BY_SYSTEMCTL else RESTARTED, *[0] * (NEW - 1), ABSENT, *[0] * (WIDTH - NEW - 1))
